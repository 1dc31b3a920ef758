"""The decorators by which a method becomes something that an agent can do."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

import msgspec

from agent99.dispatch import DEFAULT_OPERATION
from agent99.envelope import Name, Pattern, parse_name, parse_pattern
from agent99.errors import UsageError

if TYPE_CHECKING:
    from agent99.agent._binding import Binding
    from agent99.work import Curve

RunsIn = Literal["loop", "thread", "process"]
Role = Literal["operation", "control", "event", "follower"]
M = TypeVar("M", bound=Callable[..., Any])

_MARK = "__agent99_mark__"
DEFAULT_METHOD = "process_request"
"""The method that is the default operation, whether it is marked or not."""


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What a decorator notes on a method."""

    role: Role
    name: Name
    """The operation's or action's token; of an event handler, the method's own name."""
    pattern: Pattern | None = None
    """Of an event handler: the topics that it hears."""
    idempotent: bool = False
    runs_in: RunsIn = "loop"
    curve: Curve | None = None
    """Of what takes stored messages: how often it is tried, when, and for how long."""
    binding: Binding | None = None
    """Of what a room above serves in its own way; None: the method is the handler."""


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


@overload
def job(method: M, /) -> M: ...


@overload
def job(
    *,
    name: str | None = None,
    attempts_max: int = 5,
    delay_s: float = 1.0,
    delay_s_max: float = 300.0,
    timeout_s: float = 300.0,
    runs_in: RunsIn | None = None,
) -> Callable[[M], M]: ...


def job(
    method: M | None = None,
    /,
    *,
    name: str | None = None,
    attempts_max: int = 5,
    delay_s: float = 1.0,
    delay_s_max: float = 300.0,
    timeout_s: float = 300.0,
    runs_in: RunsIn | None = None,
) -> M | Callable[[M], M]:
    """Make a method an operation that takes posted work: what is stored until it has been done.

    It can be asked for by `request` as well. What it raises is tried again on its curve; a
    `Failure` that is not `retryable` goes into quarantine at once, and so does what failed in
    every attempt.

    Args:
        name: The operation's name; the method's by default.
        attempts_max: How often it is tried, 1 to 1,000.
        delay_s: Seconds before the second attempt; the wait doubles with each, ± a tenth.
        delay_s_max: Seconds that no wait exceeds. All waits together say how long what it needs may
            be away: 15 s by default.
        timeout_s: Seconds of one attempt, up to a day; then it has failed.
        runs_in: As of `operation`. One that blocks the event loop for half a minute is taken for
            dead, and its work is begun elsewhere as well: such work is a plain `def`.

    Delivery: at least once. An attempt whose end the server could not be told is repeated: effects
        belong into `store.once` or `transaction.first_time`.

    Raises:
        UsageError: a figure is out of its range, or as `operation`.
    """
    from agent99.work import checked_curve  # noqa: PLC0415 - durable work is loaded when used

    curve = checked_curve(
        attempts_max=attempts_max, delay_s=delay_s, delay_s_max=delay_s_max, timeout_s=timeout_s
    )

    def mark(method: M) -> M:
        return _marked(method, "operation", name, runs_in=runs_in, curve=curve)

    return mark if method is None else mark(method)


def follow(
    pattern: str,
    *,
    attempts_max: int = 5,
    delay_s: float = 1.0,
    delay_s_max: float = 60.0,
    timeout_s: float = 300.0,
) -> Callable[[M], M]:
    """Make a method follow what is appended to the topics that match; `on` hears what is published.

    All instances of the agent share one place in the stream: each event goes to one of them. The
    first start of the agent begins with the oldest event that is kept.

    Args:
        pattern: Names joined by dots; `*` stands for one of them, a final `>` for the rest.
        attempts_max: How often it is tried, 1 to 1,000; then the event goes into quarantine.
        delay_s: Seconds before the second attempt; the wait doubles with each, ± a tenth.
        delay_s_max: Seconds that no wait exceeds.
        timeout_s: Seconds of one attempt, up to a day; then it has failed.

    Delivery: at least once, acknowledged after the method returned. Within an instance events of
        one key come in their order: what is behind one that fails waits for it, at most 100 of all.
        After a process was killed, what it had in hand comes again half a minute later, when newer
        events may have been handled.

    Raises:
        InvalidNameError: the pattern breaks the grammar.
        UsageError: a figure is out of its range.
    """
    from agent99.work import checked_curve  # noqa: PLC0415 - durable work is loaded when used

    parsed = parse_pattern(pattern)
    curve = checked_curve(
        attempts_max=attempts_max, delay_s=delay_s, delay_s_max=delay_s_max, timeout_s=timeout_s
    )

    def mark(method: M) -> M:
        return _marked(method, "follower", None, pattern=parsed, curve=curve)

    return mark


def bound_operation(method: M, name: str | None, binding: Binding) -> M:
    """Make a method an operation whose requests a binding serves: for decorators of other rooms.

    Raises:
        UsageError: the name breaks the grammar, or the method is not async.
    """
    function = getattr(method, "__func__", method)
    if not inspect.iscoroutinefunction(function):
        raise UsageError(f"{getattr(function, '__name__', method)!s} must be an async method")
    return _marked(method, "operation", name, binding=binding)


def _marked(
    method: M,
    role: Role,
    name: str | None,
    *,
    runs_in: RunsIn | None = None,
    **more: Any,
) -> M:
    function = getattr(method, "__func__", method)  # a staticmethod wraps the function
    if not callable(function):
        raise UsageError(f"{method!r} is no method")
    own_name = str(getattr(function, "__name__", ""))
    mark = Mark(
        role=role,
        name=_name(role, name, own_name),
        runs_in=_place(function, own_name, runs_in),
        **more,
    )
    setattr(function, _MARK, mark)
    return method


def _name(role: Role, name: str | None, own_name: str) -> Name:
    if name is None and role == "operation" and own_name == DEFAULT_METHOD:
        return DEFAULT_OPERATION  # a mark adds to what a method is, and does not take it away
    return parse_name("operation", own_name if name is None else name)


def _place(function: Callable[..., Any], own_name: str, runs_in: RunsIn | None) -> RunsIn:
    is_async = inspect.iscoroutinefunction(function)
    place: RunsIn = runs_in or ("loop" if is_async else "thread")
    if place not in ("loop", "thread", "process"):
        raise UsageError(f"{own_name}: runs_in is 'loop', 'thread' or 'process', not {place!r}")
    if is_async and place != "loop":
        raise UsageError(f"{own_name} is async: it runs in the loop, not in a {place}")
    return place


def find_mark(owner: type, attribute: str) -> Mark | None:
    """Return what a decorator noted on a method, or on the one that it overrides.

    Raises:
        UsageError: it overrides one that runs elsewhere, and cannot.
    """
    own: Any = inspect.getattr_static(owner, attribute)
    function = getattr(own, "__func__", own)
    for base in owner.__mro__:
        member = base.__dict__.get(attribute)
        mark = cast("Mark | None", getattr(getattr(member, "__func__", member), _MARK, None))
        if mark is None:
            continue
        if member is own:
            return mark
        if not callable(function):  # `charge = None`: not any more
            return None
        runs_in: RunsIn | None = "process" if mark.runs_in == "process" else None
        return msgspec.structs.replace(mark, runs_in=_place(function, attribute, runs_in))
    return None
