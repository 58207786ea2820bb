"""What goes into a URLconf."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar, TypeVar

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse

from .endpoints import Endpoint, Secrets, register
from .events import Event
from .profiles import Profile
from .receiver import receive

__all__ = ["WebhookView", "on", "webhook", "webhook_view"]

H = TypeVar("H", bound=Callable[..., Any])

Handler = Callable[[Event], Any]
View = Callable[..., HttpResponse]


class EveryDatabase:
    """For Django: open no ATOMIC_REQUESTS transaction; the receiver owns its own.

    It commits what failed, too, which a transaction around it would undo.
    """

    def __contains__(self, alias: object) -> bool:
        return True

    def add(self, alias: str) -> None:
        """Called by ``@transaction.non_atomic_requests``: nothing is missing."""


def webhook(
    profile: Profile,
    *,
    secrets: Secrets,
    endpoint: str | None = None,
    inbox: bool = False,
    **options: Any,
) -> Callable[[Handler], View]:
    """Make a view of a handler: each event runs once, and none is lost.

    The handler takes an `Event`; what it writes commits together with the event's row,
    in one transaction. It may raise `NotReady` or `PermanentError`; any other exception
    asks the provider for another delivery.

    `secrets` is one secret, several (the newest first), or a function that returns them
    at each delivery. `endpoint` names the receiver; by default as the profile. With
    ``inbox=True`` deliveries are stored and answered at once, and ``manage.py
    process_events`` runs the handler. Further `options` are `url`, the public address
    where it is signed; `max_attempts`, after which an event is given up; `identity`, a
    function of the event to identify it by; and `ordered`, to keep the inbox's events
    of one object in order.

    Raises:
        ImproperlyConfigured: where it could not keep its promise.
    """

    def decorate(handler: Handler) -> View:
        _refuse_async(handler)
        declared = Endpoint(
            name=endpoint or profile.name,
            profile=profile,
            secrets=secrets,
            handler=handler,
            handles=lambda event: True,
            inbox=inbox,
            **options,
        )
        return wraps(handler)(webhook_view(declared))

    return decorate


def on(*types: str) -> Callable[[H], H]:
    """Mark a method of a `WebhookView` as the handler of these event types.

    Raises:
        ImproperlyConfigured: where it would handle nothing.
    """
    if not types or not all(isinstance(each, str) for each in types):
        raise ImproperlyConfigured(
            'Name the types of events that the method handles: @on("invoice.paid").'
        )

    def decorate(method: H) -> H:
        _refuse_async(method)
        method.webhook_types = types  # type: ignore[attr-defined]
        return method

    return decorate


class WebhookView:
    """A receiver with a method for each type of event.

    ::

        class Payments(WebhookView):
            profile = providers.STRIPE
            secrets = settings.STRIPE_WEBHOOK_SECRET

            @on("payment_intent.succeeded")
            def paid(self, event): ...

    An event of another type is stored as ignored, with its payload, and acknowledged.
    """

    profile: ClassVar[Profile]
    secrets: ClassVar[Any]
    endpoint: ClassVar[str | None] = None
    inbox: ClassVar[bool] = False
    url: ClassVar[str | None] = None
    max_attempts: ClassVar[int | None] = None
    ordered: ClassVar[bool] = False

    def identity(self, event: Event) -> str:
        """Return what the event is identified by; by default the provider's id."""
        return event.id

    @classmethod
    def as_view(cls) -> View:
        return webhook_view(cls.as_endpoint())

    @classmethod
    def as_endpoint(cls) -> Endpoint:
        """Return what the class declares."""
        methods = cls._methods()

        def handler(event: Event) -> Any:
            return getattr(cls(), methods[event.type])(event)

        handler.__module__, handler.__qualname__ = cls.__module__, cls.__qualname__

        def identity(event: Event) -> str:
            return cls().identity(event)

        own_identity = cls.identity is not WebhookView.identity
        return Endpoint(
            name=cls.endpoint or cls.profile.name,
            profile=cls.profile,
            secrets=cls.secrets,
            handler=handler,
            handles=lambda event: event.type in methods,
            inbox=cls.inbox,
            url=cls.url,
            max_attempts=cls.max_attempts,
            identity=identity if own_identity else None,
            ordered=cls.ordered,
        )

    @classmethod
    def _methods(cls) -> dict[str, str]:
        """Return the method's name by event type; a subclass's goes before its base's."""
        methods: dict[str, str] = {}
        for ancestor in reversed(cls.__mro__):
            own: dict[str, str] = {}
            for name, method in vars(ancestor).items():
                for event_type in getattr(method, "webhook_types", ()):
                    if event_type in own:
                        raise ImproperlyConfigured(
                            f"{ancestor.__qualname__} handles {event_type!r} in two "
                            f"methods, {own[event_type]} and {name}: only one would run."
                        )
                    own[event_type] = name
            methods |= own
        return methods


def webhook_view(endpoint: Endpoint) -> View:
    """Return the view of an endpoint, and let the inbox find its handler."""

    def view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return receive(endpoint, request)

    receiver: View = registered(view, endpoint)
    return receiver


def registered(view: Any, endpoint: Endpoint) -> Any:
    """Mark the view as a receiver, and let the inbox find the handler.

    The signature is the access check: no cookie, no login, no transaction around it.
    """
    register(endpoint)
    view.csrf_exempt = True
    view.login_required = False
    view._non_atomic_requests = EveryDatabase()
    view.webhook_endpoint = endpoint
    return view


def _refuse_async(handler: Callable[..., Any]) -> None:
    if iscoroutinefunction(handler):
        raise ImproperlyConfigured(
            f"The webhook handler {handler.__name__} is async: it runs in a transaction,"
            f" and Django has no async ones. Write\n\n    def {handler.__name__}(event):"
        )
