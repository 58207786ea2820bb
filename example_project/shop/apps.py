from __future__ import annotations

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in


class ShopConfig(AppConfig):
    name = "example_project.shop"

    def ready(self) -> None:
        from .visits import keep_cart_at_login

        user_logged_in.connect(keep_cart_at_login)
