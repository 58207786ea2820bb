"""The views that go into a URLconf."""

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
    """Tells Django to open no ATOMIC_REQUESTS transaction around a receiver.

    A receiver commits its notes on failures, too, which such a transaction would undo.
    """

    def __contains__(self, alias: object) -> bool:
        return True

    def add(self, alias: str) -> None:
        """Called by ``@transaction.non_atomic_requests``; has nothing to add."""


def webhook(
    profile: Profile,
    *,
    secrets: Secrets,
    endpoint: str | None = None,
    inbox: bool = False,
    url: str | None = None,
    livemode: bool | None = None,
    max_attempts: int | None = None,
    identity: Callable[[Event], str] | None = None,
    ordered: bool = False,
    settles: str | None = None,
    result: Callable[[Event], Any] | None = None,
) -> Callable[[Handler], View]:
    """Turn a handler into a view that runs it once per event and loses none.

    The handler takes an `Event`; what it writes commits together with the event's row,
    in one transaction. It may raise `NotReady` or `PermanentError`; any other exception
    asks the provider for another delivery.

    `secrets` is one secret, several (the newest first), or a function that returns them
    at each delivery. `endpoint` names the receiver, by default like the profile. With
    ``inbox=True`` deliveries are stored and answered at once, and ``manage.py
    process_events`` runs the handler. `url` is the public address, where it is signed;
    with `livemode`, events of the other mode are stored and not handled; after
    `max_attempts` an event is given up; `identity` is a function of the event to identify
    it by; ``ordered=True`` keeps the inbox's events of one object in order; and
    ``settles="charge"`` lets an event settle the call of that name that has caused it,
    with what `result`, a function of the event, says that it has returned.

    Raises:
        ImproperlyConfigured: if it could not keep this promise.
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
            url=url,
            livemode=livemode,
            max_attempts=max_attempts,
            identity=identity,
            ordered=ordered,
            settles=settles,
            result=result,
        )
        return wraps(handler)(webhook_view(declared))

    return decorate


def on(*types: str) -> Callable[[H], H]:
    """Mark a method of a `WebhookView` as the handler of these event types.

    Raises:
        ImproperlyConfigured: if it names no type.
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
    """A receiver with methods for types of events.

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
    livemode: ClassVar[bool | None] = None
    max_attempts: ClassVar[int | None] = None
    ordered: ClassVar[bool] = False
    settles: ClassVar[str | None] = None

    def result(self, event: Event) -> Any:
        """Return what the call that the event settles has returned; ``None``: nothing."""

    def identity(self, event: Event) -> str:
        """Return what the event is identified by; by default the provider's id."""
        return event.id

    @classmethod
    def as_view(cls) -> View:
        return webhook_view(cls.as_endpoint())

    @classmethod
    def as_endpoint(cls) -> Endpoint:
        """Return the endpoint that the class declares."""
        methods = cls._methods()

        def handler(event: Event) -> Any:
            return getattr(cls(), methods[event.type])(event)

        handler.__module__, handler.__qualname__ = cls.__module__, cls.__qualname__
        handler.webhook_class = cls  # type: ignore[attr-defined]

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
            livemode=cls.livemode,
            max_attempts=cls.max_attempts,
            identity=identity if own_identity else None,
            ordered=cls.ordered,
            settles=cls.settles,
            result=None if cls.settles is None else lambda event: cls().result(event),
        )

    @classmethod
    def _methods(cls) -> dict[str, str]:
        """Return the method's name by event type; a subclass overrides its bases."""
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
            f"The webhook handler {handler.__name__} is async, but it runs in a "
            "transaction, and Django has no async transactions. Write\n\n"
            f"    def {handler.__name__}(event):"
        )
