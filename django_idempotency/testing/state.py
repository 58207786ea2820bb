"""What there is in the user's tables and went out, as values that can be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.apps import apps
from django.core import mail
from django.db import connections, router
from django.db.models import AutoField, Model

from .outside import OutsideCall

Row = dict[str, Any]
Table = dict[Any, Row]

NOT_OF_THE_USER = {"contenttypes", "django_idempotency", "sessions"}
MAILS = "mails"
CALLS = "outside calls"


class State(dict[str, Table]):
    """The rows of each table by their key; and what went out, as a table each."""

    def __repr__(self) -> str:
        counts = [f"{len(rows)} {label}" for label, rows in self.items() if rows]
        return f"<{', '.join(counts) or 'nothing'}>"


def state_of(calls: Iterable[OutsideCall] = ()) -> State:
    """Read everything: all tables of the project, the mails, and these calls."""
    state = State()
    for alias in filter(is_allowed, connections):
        models = _models(alias)
        for model, is_filled in zip(models, _filled(alias, models), strict=True):
            state[model._meta.label] = _rows(model) if is_filled else {}
    state[MAILS] = {
        number: {"subject": each.subject, "to": each.to, "body": each.body}
        for number, each in enumerate(getattr(mail, "outbox", ()))
    }
    # The other side recognises a call that comes again under its key.
    state[CALLS] = {
        (each.name, each.key or number): {"to": each.name}
        for number, each in enumerate(calls)
        if each.is_unsafe
    }
    return state


def _models(alias: str) -> list[type[Model]]:
    """Return the project's models in a database, without tables that aren't there."""
    tables = set(connections[alias].introspection.table_names())
    return [
        model
        for model in apps.get_models(include_auto_created=True)
        if model._meta.app_label not in NOT_OF_THE_USER
        and not model._meta.proxy
        and router.db_for_read(model) == alias
        and model._meta.db_table in tables
    ]


def _filled(alias: str, models: list[type[Model]]) -> list[bool]:
    """Ask once which tables have rows: most have none in a test, and a tool reads often."""
    quoted = connections[alias].ops.quote_name
    asked = [
        f"EXISTS (SELECT 1 FROM {quoted(model._meta.db_table)})"  # noqa: S608
        for model in models
    ]
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(['1', *asked])}")
        return list(cursor.fetchone()[1:])


def is_allowed(alias: str) -> bool:
    """Whether the test may use the database: Django replaces the methods of others."""
    return not hasattr(connections[alias].cursor, "wrapped")


def _rows(model: type[Model]) -> Table:
    names = [each.attname for each in model._meta.concrete_fields]
    keys = [each.attname for each in model._meta.pk_fields]
    rows = model._base_manager.values(*names)
    if len(keys) > 1:
        return {tuple(row[each] for each in keys): row for row in rows}
    return {row[keys[0]]: row for row in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One difference between two states."""

    table: str
    kind: str
    """``added``, ``removed`` or ``changed``."""
    values: tuple[tuple[str, str], ...]
    """By column; of a changed row, what has changed, and numbers by how much."""


@dataclass(frozen=True, slots=True)
class Change:
    """What has happened between two states."""

    entries: tuple[Entry, ...]

    @classmethod
    def between(cls, before: State, after: State) -> Change:
        return cls(tuple(_entries(before, after)))

    def without(self, columns: set[tuple[str, str]]) -> Counter[Entry]:
        """Count the entries, without what differs from one time to the next anyway."""
        return Counter(
            Entry(
                table=each.table,
                kind=each.kind,
                values=tuple(
                    (name, value)
                    for name, value in each.values
                    if (each.table, name) not in columns
                ),
            )
            for each in self.entries
        )

    def told(self) -> list[str]:
        """Say what each entry is."""
        return [
            f"{each.table} {each.kind}: "
            + ", ".join(f"{name} {value}" for name, value in each.values)
            for each in self.entries
        ]

    def columns(self) -> dict[tuple[str, str], list[str]]:
        found: dict[tuple[str, str], list[str]] = {}
        for each in self.entries:
            for name, value in each.values:
                found.setdefault((each.table, name), []).append(value)
        return {column: sorted(values) for column, values in found.items()}


def volatile(one: Change, other: Change) -> set[tuple[str, str]]:
    """Return the columns in which two good runs differ: times, random codes, numbers."""
    columns, others = one.columns(), other.columns()
    return {
        column
        for column in columns.keys() | others.keys()
        if columns.get(column) != others.get(column)
    }


def differences(
    expected: Change, got: Change, ignored: set[tuple[str, str]]
) -> list[str]:
    """Say in what one change differs from the other, table by table."""
    wanted, found = expected.without(ignored), got.without(ignored)
    if wanted == found:
        return []
    said = []
    for table, kind in sorted({(each.table, each.kind) for each in (wanted | found)}):
        many = _number(found, table, kind), _number(wanted, table, kind)
        if many[0] != many[1]:
            # Rows that are changed are those of before, so more of them is no doubling.
            how = (
                "" if kind == "changed" else ("twice" if many[0] > many[1] else "lost")
            )
            said.append(
                f"{how + ': ' if how else ''}{table}: {many[0]} {kind} instead of "
                f"{many[1]}"
            )
        else:
            said += _other_values(wanted, found, table, kind)
    return said


def _number(counted: Counter[Entry], table: str, kind: str) -> int:
    return sum(
        number
        for each, number in counted.items()
        if (each.table, each.kind) == (table, kind)
    )


def _other_values(
    wanted: Counter[Entry], found: Counter[Entry], table: str, kind: str
) -> Iterator[str]:
    def told(entries: Counter[Entry], others: Counter[Entry]) -> str:
        rest = [
            {**dict(each.values)}
            for each in (entries - others)
            if (each.table, each.kind) == (table, kind)
        ]
        return "; ".join(
            ", ".join(f"{name} {value}" for name, value in each.items())
            for each in rest
        )

    if got := told(found, wanted):
        yield f"{table} {kind}: {got} instead of {told(wanted, found)}"


def _entries(before: State, after: State) -> Iterator[Entry]:
    new_keys = {
        label: rows.keys() - before.get(label, {}).keys()
        for label, rows in after.items()
    }
    for label, rows in after.items():
        old = before.get(label, {})
        shown = _Shown(label, new_keys)
        for key in rows.keys() - old.keys():
            yield Entry(table=label, kind="added", values=shown.row(rows[key]))
        for key in old.keys() - rows.keys():
            yield Entry(table=label, kind="removed", values=shown.row(old[key]))
        for key in rows.keys() & old.keys():
            if changed := _changed(old[key], rows[key]):
                yield Entry(table=label, kind="changed", values=shown.row(changed))


class _Shown:
    """Rows of one table as texts, without the numbers that new rows happen to get."""

    def __init__(self, label: str, new_keys: Mapping[str, Collection[Any]]) -> None:
        self.own: set[str] = set()
        self.new: dict[str, Collection[Any]] = {}
        if label in (MAILS, CALLS):
            return
        for each in apps.get_model(label)._meta.concrete_fields:
            if isinstance(each, AutoField):
                self.own.add(each.attname)
            elif each.related_model is not None:
                target: Any = each.related_model
                self.new[each.attname] = new_keys.get(target._meta.label, ())

    def row(self, row: Row) -> tuple[tuple[str, str], ...]:
        return tuple(
            (name, "(new)" if value in self.new.get(name, ()) else _text(value))
            for name, value in sorted(row.items())
            if name not in self.own
        )


@dataclass(frozen=True, slots=True)
class _Moved:
    """By how much a number has changed: what it was before is no matter of a call."""

    by: Any


def _changed(old: Row, new: Row) -> Row:
    return {
        name: _moved(old[name], value)
        for name, value in new.items()
        if value != old[name]
    }


def _moved(old: Any, new: Any) -> Any:
    return _Moved(new - old) if _is_number(old) and _is_number(new) else new


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return f"{value.by:+}" if isinstance(value, _Moved) else repr(value)
