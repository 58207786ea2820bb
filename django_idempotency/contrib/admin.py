"""Django's admin: a form that is sent twice is saved once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.options import TO_FIELD_VAR, InlineModelAdmin
from django.contrib.admin.utils import unquote
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.utils.html import escape
from django.utils.translation import gettext_lazy as _

from django_idempotency.conf import conf
from django_idempotency.core.operations import StoredAnswer
from django_idempotency.http.answers import replay_of
from django_idempotency.http.boundary import (
    NonAtomicRequests,
    enter,
)
from django_idempotency.http.notes import notes_of
from django_idempotency.http.outcomes import (
    Answer,
)
from django_idempotency.http.problems import KEY_REUSED
from django_idempotency.http.protection import (
    protect,
    rendered,
)
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.store.records import record_alias

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = object

__all__ = ["IdempotentModelAdminMixin"]

TEMPLATE = "django_idempotency/change_form.html"

# Posts of the change form with one of these names save; others run an action.
SAVE_BUTTONS = frozenset({"_save", "_addanother", "_continue", "_saveasnew"})

non_atomic = NonAtomicRequests(())


class IdempotentModelAdminMixin(_ModelAdmin):
    """Saves a form of the admin once, however often it is sent.

    List it before the admin class. The forms to add and to change an object carry a key
    in a hidden field; the second of two equal posts gets the first one's redirect and a
    message that says so. A form that comes back with errors, or was sent before with
    other content, gets a new key. A post without a key, such as from a script, is saved
    as usual.

    Raises:
        ImproperlyConfigured: where the class is defined, if it would do nothing; when
            the form is shown, if its template has no place for the key.
    """

    idempotency_policy = IdempotencyPolicy(required=False)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _refuse_what_would_not_work(cls)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: Any = None
    ) -> Any:
        call = partial(super().add_view, request, form_url, extra_context)
        return self._save_once(request, None, call)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: Any = None,
    ) -> Any:
        call = partial(super().change_view, request, object_id, form_url, extra_context)
        return self._save_once(request, object_id, call)

    # The admin copies the attribute to the function in the URLconf, where Django looks.
    add_view._non_atomic_requests = non_atomic  # type: ignore[attr-defined]
    change_view._non_atomic_requests = non_atomic  # type: ignore[attr-defined]

    def render_change_form(
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> Any:
        response = super().render_change_form(request, *args, **kwargs)
        if isinstance(response, TemplateResponse):
            page = response.resolve_template(response.template_name)
            context = {"request": request, **(response.context_data or {})}
            response.context_data = {**context, "idempotency_page": page}
            response.template_name = TEMPLATE
            response.add_post_render_callback(partial(_require_field, self))
        return response

    def get_form(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        form = super().get_form(request, *args, **kwargs)
        return _refusing(form) if notes_of(request).is_refused else form

    def _save_once(
        self, request: HttpRequest, object_id: str | None, call: Callable[[], Any]
    ) -> Any:
        protected = partial(self._save_protected, request, object_id, call)
        return enter(request, call, protected, non_atomic)

    def _save_protected(
        self, request: HttpRequest, object_id: str | None, call: Callable[[], Any]
    ) -> Any:
        view = _Saving(self, request, object_id, call)
        response = protect(request, self.idempotency_policy, view)
        if view.has_run:
            return response
        if conf.IDEMPOTENCY_REPLAYED_HEADER in response.headers:
            self._tell(request, response)
        elif response.status_code == KEY_REUSED.status:
            return _form_again(request, call) or response
        return response

    def _tell(self, request: HttpRequest, response: HttpResponseBase) -> None:
        """The first answer's message may be lost together with that answer."""
        if 300 <= response.status_code < 400:  # a popup closes without showing messages
            text = _("The form was sent more than once, and saved once.")
            self.message_user(request, text, messages.SUCCESS)


@dataclass(slots=True)
class _Saving:
    """One post of a form, as a `ProtectedView`."""

    admin: IdempotentModelAdminMixin
    request: HttpRequest
    object_id: str | None
    call: Callable[[], Any]
    has_run: bool = field(default=False, init=False)

    def run(self) -> Answer:
        self.has_run = True
        response = rendered(self.call(), self.call)
        # Shown again with errors: nothing to replay, and no failure to note.
        return Answer(response, asks_again=_is_form(response))

    @property
    def has_object(self) -> bool:
        return self.object_id is not None

    @property
    def checks_at_end(self) -> bool:
        return True

    def replay_of(self, answer: StoredAnswer) -> HttpResponse:
        return replay_of(answer, self.request)

    def check_replay(self, has_object: bool) -> None:
        """Check the permission again that the admin checked for the first post."""
        request = self.request
        if self.object_id is None or "_saveasnew" in request.POST:
            allowed = self.admin.has_add_permission(request)
        else:
            name = request.POST.get(TO_FIELD_VAR, request.GET.get(TO_FIELD_VAR))
            changed = self.admin.get_object(request, unquote(self.object_id), name)
            allowed = self.admin.has_change_permission(request, changed)
        if not allowed:
            raise PermissionDenied


def _is_form(response: Any) -> bool:
    return "adminform" in (getattr(response, "context_data", None) or {})


def _form_again(request: HttpRequest, call: Callable[[], Any]) -> Any:
    """Return the form as it was filled in, with a new key, for a person to decide.

    ``None`` if the post was not meant to save, or if the admin doesn't answer it with
    the form.
    """
    if SAVE_BUTTONS.isdisjoint(request.POST):
        return None
    notes_of(request).is_refused = True
    with transaction.atomic(using=record_alias()):
        response = rendered(call(), call)
        if _is_form(response):
            return response
        # A get_form() of the project's, without super(), left our error out.
        transaction.set_rollback(True, using=record_alias())
    return None


def _refusing(form: type[Any]) -> type[Any]:
    """Return the form's class with an error in every one of its forms."""

    def clean(self: Any) -> Any:
        cleaned = form.clean(self)
        self.add_error(
            None,
            _(
                "This page was sent before with other content. Check what became of "
                "that; to save this as well, save again."
            ),
        )
        return cleaned

    refusing: type[Any] = type(form.__name__, (form,), {"clean": clean})
    return refusing


def _require_field(model_admin: Any, response: Any) -> None:
    name = f'name="{escape(conf.IDEMPOTENCY_FIELD)}"'
    if name.encode() not in response.content:
        raise ImproperlyConfigured(
            f"The form of {type(model_admin).__name__} has no key, because its template "
            "has no block for it. Write, inside the form,\n\n"
            "    {% block form_top %}{% endblock %}\n\nor\n\n"
            "    {% load idempotency %}{% idempotency_key %}"
        )


def _refuse_what_would_not_work(cls: type[IdempotentModelAdminMixin]) -> None:
    order: tuple[type, ...] = cls.__mro__
    mixin = IdempotentModelAdminMixin
    if InlineModelAdmin in order:
        raise ImproperlyConfigured(
            f"{cls.__name__} is an inline, and inlines have no form of their own. Write\n\n"
            f"    class …Admin({mixin.__name__}, ModelAdmin):\n"
            f"        inlines = [{cls.__name__}]"
        )
    plain = admin.ModelAdmin
    if plain in order and order.index(plain) < order.index(mixin):
        raise ImproperlyConfigured(
            f"{cls.__name__} would not be protected: the mixin comes after the admin "
            f"class. Write\n\n    class {cls.__name__}({mixin.__name__}, ModelAdmin):"
        )
    policy = cls.idempotency_policy
    if policy.lease is not None or policy.keep_errors:
        raise ImproperlyConfigured(
            f"The idempotency_policy of {cls.__name__} can have neither lease nor "
            "keep_errors: the admin saves in a transaction of its own."
        )
