"""Whether a class-based view works in its handlers, or in `dispatch()` itself.

GraphQL and RPC views have no handler of the method's name: their `dispatch()` does the
work, so it is what must run once.
"""

from __future__ import annotations

from functools import cache
from types import CodeType
from typing import Any

from .placements import inwards

# An own dispatch() calls the next one by the name, or finds the handler as Django does.
HANDS_OVER = frozenset({"dispatch", "http_method_names"})


def working_class(view_class: type, dispatch: Any = None) -> type | None:
    """Return the class whose `dispatch()` does the work; ``None``: the handlers do.

    `dispatch` is where to begin, if not with the outermost.
    """
    chain = _chain(view_class, dispatch)
    return chain[-1] if chain else None


def obstacle(view_class: type, dispatch: Any = None) -> type | None:
    """Return the class whose `dispatch()` stands between us and the one that works.

    It may check access, and would be passed over by a replay.
    """
    chain = _chain(view_class, dispatch)
    return chain[0] if len(chain) > 1 else None


def lines_for(view_class: type, works: type) -> str:
    """Return the lines that protect a `dispatch()` inside of what stands before it."""
    once = f"Once{works.__name__}"
    bases = [once if base is works else base.__name__ for base in view_class.__bases__]
    if once not in bases:
        bases.append(once)
    return (
        '    @method_decorator(idempotent, name="dispatch")\n'
        f"    class {once}({works.__name__}): ...\n\n"
        f"    class {view_class.__name__}({', '.join(bases)}): ..."
    )


def uses_name(function: Any, name: str) -> bool:
    """Whether a function, or what it wraps, uses a name, as in ``super().dispatch()``."""
    return bool(_names_in(function) & {name})


@cache
def _chain(view_class: type, dispatch: Any) -> tuple[type, ...]:
    """Return the classes with a `dispatch()`, from the given one to that which works.

    Empty if none does: each hands over to the next, and the last one to the handler.
    """
    owners = [each for each in view_class.__mro__ if "dispatch" in vars(each)]
    exact = [each for each in owners if vars(each)["dispatch"] is dispatch]
    around = [each for each in owners if dispatch in inwards(vars(each)["dispatch"])]
    first = [*exact, *around, *owners][0]
    chain = []
    for each in owners[owners.index(first) :]:
        chain.append(each)
        if not _names_in(vars(each)["dispatch"]) & HANDS_OVER:
            return tuple(chain)
    return ()


def _names_in(function: Any) -> set[str]:
    codes = [
        code
        for each in inwards(function)
        if (code := getattr(each, "__code__", None)) is not None
    ]
    names: set[str] = set()
    while codes:
        code = codes.pop()
        names |= {*code.co_names}
        codes += [const for const in code.co_consts if isinstance(const, CodeType)]
    return names
