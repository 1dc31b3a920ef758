"""The decorators by which a method becomes something that an agent can do."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast, overload

import msgspec

from agent99.envelope import Name, Pattern, parse_name, parse_pattern
from agent99.errors import UsageError

RunsIn = Literal["loop", "thread", "process"]
Role = Literal["operation", "control", "event"]
M = TypeVar("M", bound=Callable[..., Any])

_MARK = "__agent99_mark__"


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What a decorator notes on a method."""

    role: Role
    name: Name
    """The operation's or action's token; of an event handler, the method's own name."""
    pattern: Pattern | None = None
    """Of an event handler: the topics that it hears."""
    idempotent: bool = False
    runs_in: RunsIn = "loop"


@overload
def operation(method: M, /) -> M: ...


@overload
def operation(
    *, name: str | None = None, idempotent: bool = False, runs_in: RunsIn | None = None
) -> Callable[[M], M]: ...


def operation(
    method: M | None = None,
    /,
    *,
    name: str | None = None,
    idempotent: bool = False,
    runs_in: RunsIn | None = None,
) -> M | Callable[[M], M]:
    """Make a method an operation: something that other agents can ask for.

    Its parameters are the payload's fields (or the payload itself, where there is one parameter and
    its type is an object), its annotations the schema, its return type the answer's.

    Args:
        name: The operation's name; the method's by default.
        idempotent: Running it twice with the same payload does no harm, so that it may be retried.
        runs_in: `loop` for `async def` (the default there), `thread` for `def` (the default there),
            or `process` for CPU-bound work: a static `def` that takes no `self`.

    Raises:
        UsageError: the name breaks the grammar, or `runs_in` does not fit the method.
    """

    def mark(method: M) -> M:
        return _marked(method, "operation", name, idempotent=idempotent, runs_in=runs_in)

    return mark if method is None else mark(method)


@overload
def control(method: M, /) -> M: ...


@overload
def control(*, name: str | None = None) -> Callable[[M], M]: ...


def control(method: M | None = None, /, *, name: str | None = None) -> M | Callable[[M], M]:
    """Make a method a control action: for operators, heard by one instance, a name, or all.

    It works while the agent is paused or at its bounds, and answers per instance.

    Args:
        name: The action's name; the method's by default.

    Raises:
        UsageError: the name breaks the grammar.
    """

    def mark(method: M) -> M:
        return _marked(method, "control", name)

    return mark if method is None else mark(method)


def on(pattern: str) -> Callable[[M], M]:
    """Make a method hear what is published to the topics that match.

    Args:
        pattern: Names joined by dots; `*` stands for one of them, a final `>` for the rest.

    Delivery: at most once, to every instance that is there; see `Mesh.publish`.

    Raises:
        InvalidNameError: the pattern breaks the grammar.
    """
    parsed = parse_pattern(pattern)

    def mark(method: M) -> M:
        return _marked(method, "event", None, pattern=parsed)

    return mark


def _marked(
    method: M,
    role: Role,
    name: str | None,
    *,
    pattern: Pattern | None = None,
    idempotent: bool = False,
    runs_in: RunsIn | None = None,
) -> M:
    function = getattr(method, "__func__", method)  # a staticmethod wraps the function
    if not callable(function):
        raise UsageError(f"{method!r} is no method")
    own_name = str(getattr(function, "__name__", ""))
    mark = Mark(
        role=role,
        name=parse_name("operation", name if name is not None else own_name),
        pattern=pattern,
        idempotent=idempotent,
        runs_in=_place(function, own_name, runs_in),
    )
    setattr(function, _MARK, mark)
    return method


def _place(function: Callable[..., Any], own_name: str, runs_in: RunsIn | None) -> RunsIn:
    is_async = inspect.iscoroutinefunction(function)
    place: RunsIn = runs_in or ("loop" if is_async else "thread")
    if place not in ("loop", "thread", "process"):
        raise UsageError(f"{own_name}: runs_in is 'loop', 'thread' or 'process', not {place!r}")
    if is_async and place != "loop":
        raise UsageError(f"{own_name} is async: it runs in the loop, not in a {place}")
    return place


def find_mark(member: Any) -> Mark | None:
    """Return what a decorator noted on a class member, or None."""
    function = getattr(member, "__func__", member)
    return cast("Mark | None", getattr(function, _MARK, None))


DEFAULT_METHOD = "process_request"
