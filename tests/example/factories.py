"""What is sold in the shop, and to whom."""

from factory.declarations import RelatedFactory, SubFactory
from factory.django import DjangoModelFactory

from example_project.checkout.models import Cart, CartItem, Order, Product


class ProductFactory(DjangoModelFactory[Product]):
    class Meta:
        model = Product

    name = "Coffee"
    price_minor = 1250


class CartItemFactory(DjangoModelFactory[CartItem]):
    class Meta:
        model = CartItem

    product = SubFactory(ProductFactory)


class CartFactory(DjangoModelFactory[Cart]):
    """Makes a cart with one `item` in it; with ``item=None`` it is empty."""

    class Meta:
        model = Cart
        skip_postgeneration_save = True

    item = RelatedFactory(CartItemFactory, "cart")


class OrderFactory(DjangoModelFactory[Order]):
    class Meta:
        model = Order

    cart = SubFactory(CartFactory)
    amount_minor = 2500
