"""The addresses of the pages, apart from those of the checkout's views.

Each that takes a form can be visited too, and then leads to the page with the form: a
customer who has to sign in first comes back by a GET.
"""

from __future__ import annotations

from django.urls import path

from . import buying, views

app_name = "shop"

urlpatterns = [
    path("", views.products, name="products"),
    path("products/<int:product_id>/add/", buying.add, name="add"),
    path("cart/", views.own_cart, name="own-cart"),
    path("carts/<uuid:token>/", views.cart, name="cart"),
    path(
        "carts/<uuid:token>/items/<int:product_id>/",
        views.change_quantity,
        name="quantity",
    ),
    path("carts/<uuid:token>/checkout/", buying.checkout, name="checkout"),
    path("orders/<uuid:token>/", views.order, name="order"),
    path("orders/<uuid:token>/refund/", buying.refund, name="refund"),
    path("account/email/", buying.change_email, name="email"),
    path("outbox/", views.outbox, name="outbox"),
]
