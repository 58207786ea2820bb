"""What a step or a task may return, for type checkers.

Only what comes back from JSON unchanged: no `Decimal`, date or UUID, which come back as
strings, no tuple, which comes back as a list, and nothing else, such as a model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Protocol, SupportsIndex, TypeAlias, TypeVar

T = TypeVar("T", covariant=True)


class List(Protocol[T]):
    """A list that is covariant. `Sequence` would allow tuples and bytes as well."""

    def pop(self, index: SupportsIndex = ..., /) -> T: ...
    def __iter__(self) -> Iterator[T]: ...


class TypedDictionary(Protocol):
    """A `TypedDict`; its values can't be checked."""

    __required_keys__: ClassVar[frozenset[str]]


# Each is written out: defined by the other one, mypy would accept None as not null.
JSON: TypeAlias = (
    "bool | int | float | str"
    " | List[JSON] | Mapping[str, JSON] | TypedDictionary | None"
)
NotNull: TypeAlias = (
    "bool | int | float | str | List[JSON] | Mapping[str, JSON] | TypedDictionary"
)

J = TypeVar("J", bound="JSON")
N = TypeVar("N", bound="NotNull")
"""For results that can't be null, because null means that there is no result."""
