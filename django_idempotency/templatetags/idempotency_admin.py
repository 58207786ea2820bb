"""``{% idempotency_front %}``: what the app's own page in the admin begins with.

The page is one of `AdminSite`, which asks no admin of an app for its content, but looks
for a template of the app.
"""

from __future__ import annotations

from typing import Any

from django import template
from django.template.context import RequestContext

register = template.Library()


@register.inclusion_tag("django_idempotency/front.html", takes_context=True)
def idempotency_front(context: RequestContext) -> dict[str, Any]:
    # Django imports each module of tags, also in a project without the admin.
    from django_idempotency.admin.front import front_of

    return {"front": front_of(context.request, context["app_list"])}
