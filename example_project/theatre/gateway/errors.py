"""Errors as Stripe's clients understand them."""

from __future__ import annotations

from django.http import HttpResponse, JsonResponse

__all__ = ["stripe_error"]


def stripe_error(status: int, kind: str, message: str) -> HttpResponse:
    return JsonResponse({"error": {"type": kind, "message": message}}, status=status)
