from django.db import models
from django.db.models.functions import NullIf


class Order(models.Model):
    """What a view in the tests writes; one row is one execution."""

    reference = models.CharField(max_length=200, default="")
    amount = models.IntegerField(default=0)
    # Unless it is empty, a reference is unique. Not by a constraint with a condition,
    # which MariaDB doesn't have.
    unique_reference = models.GeneratedField(
        expression=NullIf("reference", models.Value("")),
        output_field=models.CharField(max_length=200),
        db_persist=True,
        unique=True,
    )

    def __str__(self) -> str:
        return f"order {self.pk}"


class Cart(models.Model):
    """For forms that save rows of two tables."""

    name = models.CharField(max_length=200)

    def __str__(self) -> str:
        return self.name


class CartItem(models.Model):
    cart = models.ForeignKey(Cart, on_delete=models.CASCADE, related_name="items")
    quantity = models.IntegerField(default=1)

    def __str__(self) -> str:
        return f"item {self.pk}"
