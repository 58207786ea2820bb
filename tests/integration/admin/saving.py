"""An admin whose forms are saved once; also a URLconf."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.apps import apps
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.urls import path

from django_idempotency.contrib.admin import IdempotentModelAdminMixin
from django_idempotency.decorators import idempotent
from tests.testapp.models import Cart, CartItem, Order

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
    _ModelForm = forms.ModelForm[Order]
    _TabularInline = admin.TabularInline[Any, Any]
    _UserAdmin = UserAdmin[User]
elif apps.is_installed("unfold"):
    from unfold.admin import ModelAdmin as _ModelAdmin
    from unfold.admin import TabularInline as _TabularInline
else:
    _ModelAdmin, _TabularInline = admin.ModelAdmin, admin.TabularInline

if not TYPE_CHECKING:
    _ModelForm, _UserAdmin = forms.ModelForm, UserAdmin

__all__ = ["OrderAdmin", "site", "urlpatterns"]

site = type(admin.site._wrapped if hasattr(admin.site, "_wrapped") else admin.site)()


class OrderForm(_ModelForm):
    reference = forms.CharField(required=False)
    receipt = forms.FileField(required=False)

    class Meta:
        model = Order
        fields = ("reference", "amount")


@admin.register(Order, site=site)
class OrderAdmin(IdempotentModelAdminMixin, _ModelAdmin):
    form = OrderForm
    save_as = True
    actions = ("double",)

    def save_model(
        self, request: HttpRequest, obj: Order, form: Any, change: bool
    ) -> None:
        if receipt := form.cleaned_data["receipt"]:
            obj.reference = receipt.read().decode()
        super().save_model(request, obj, form, change)

    @admin.action(description="Double")
    def double(self, request: HttpRequest, orders: Any) -> None:
        for order in orders:
            Order.objects.create(amount=2 * order.amount)
        self.message_user(request, "Doubled.", messages.SUCCESS)


class ItemInline(_TabularInline):
    model = CartItem
    extra = 1


@admin.register(Cart, site=site)
class CartAdmin(IdempotentModelAdminMixin, _ModelAdmin):
    inlines = (ItemInline,)


@admin.register(User, site=site)
class StaffAdmin(IdempotentModelAdminMixin, _UserAdmin):
    """Django's own, which opens a transaction around its form."""


urlpatterns = [
    path("admin/", site.urls),
    path("inside/", idempotent(site._registry[Order].add_view)),
]
