"""Where rows go besides the pipeline's own database: what a sink is, and one of a user's function.

A sink is what a user writes down: a value, shared by all processors. What it opens is a writer of
one processor, for as long as that runs.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Final, Protocol, runtime_checkable

import msgspec

from agent99.envelope import parse_name
from agent99.errors import UsageError
from agent99.groups import Event
from agent99.systems.analytics._delta import WindowRow
from agent99.work import Curve

SINK_CURVE: Final = Curve(attempts_max=100, delay_s=0.5, delay_s_max=60.0, timeout_s=60.0)
"""Rows that a sink does not take are tried for more than an hour: others do not wait for them."""


class Refused(msgspec.Struct, frozen=True):
    """A row that a sink will never take as it is."""

    row: int
    """Which of those that it was given; starts at 0."""
    reason: str


class Column(msgspec.Struct, frozen=True):
    """A column of a pipeline's rows."""

    name: str
    kind: type | None
    """int, float, str or bool; None: it is not known, or a list or an object."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Whose rows a sink is opened for."""

    mesh: str
    job: str
    version: int
    pipeline: str
    key: tuple[Column, ...]
    values: tuple[Column, ...]


class SinkWriter(Protocol):
    """An open sink."""

    async def write(self, rows: Sequence[WindowRow], event: Event, /) -> Sequence[Refused]:
        """Write rows for good; returned = written, but for those that it refuses.

        It is called for one event after the other, and with the same event again where that failed
        or its outcome is not known. So it compares revisions, or writes under a name that the event
        gives (`event.sequence`). It is cancelled when its time (`Sink.curve`) is over, and must not
        block the event loop: what blocks belongs on a thread.

        Args:
            rows: Of windows that have closed or changed, some perhaps taken back, or without their
                values: `is_cut`.
            event: Of `windows.{job}.{pipeline}`, in which they came.

        Raises:
            Failure: with `retryable=False`, no row of the event can ever be written.
            anything else: it is to be tried again.
        """
        ...


@runtime_checkable
class Sink(Protocol):
    """A place where rows go; a value, that holds nothing open."""

    @property
    def name(self) -> str:
        """Tells it from the pipeline's other sinks; by the grammar of names."""
        ...

    @property
    def curve(self) -> Curve:
        """How often an event is tried, and how long one attempt may take."""
        ...

    def check(self, key: Sequence[Column], values: Sequence[Column], /) -> None:
        """Refuse columns that it cannot take.

        Raises:
            UsageError: says which, and why.
        """
        ...

    def open(self, target: Target, /) -> AbstractAsyncContextManager[SinkWriter]:
        """Return its writer, to be used with `async with`.

        Entering that raises, or takes longer than an attempt may (`curve`), is tried again.
        """
        ...


Written = Sequence[Refused] | None
Write = Callable[[Sequence[WindowRow], Event], Awaitable[Written] | Written]


@dataclass(frozen=True)
class FunctionSink:
    """Hands rows to a function of yours: to an HTTP API, say.

        async def post(rows: Sequence[WindowRow], event: Event) -> None: ...

        Pipeline(..., sinks=(FunctionSink("dashboard", post),))

    Delivery: at least once, in the order in which windows changed; as `SinkWriter.write` says.

    Raises:
        UsageError, InvalidNameError: the name.
    """

    name: str
    """By the grammar of names."""
    function: Write
    """As `SinkWriter.write`; None: it has refused nothing. It may be one without `async`, if it
    returns at once: everything else waits for it."""
    curve: Curve = field(default=SINK_CURVE, kw_only=True)
    """How often an event is tried, and how long one attempt may take."""

    def __post_init__(self) -> None:
        parse_name("sink", self.name)
        if not callable(self.function):
            raise UsageError(f"sink {self.name!r}: {self.function!r} is no function")

    def check(self, _key: Sequence[Column], _values: Sequence[Column], /) -> None:
        """Take all columns."""

    @asynccontextmanager
    async def open(self, _target: Target, /) -> AsyncGenerator[SinkWriter, None]:
        """Give the writer."""
        yield _FunctionWriter(self.function)


class _FunctionWriter:
    def __init__(self, function: Write) -> None:
        self._function: Final = function

    def __repr__(self) -> str:
        return f"_FunctionWriter({self._function!r})"

    async def write(self, rows: Sequence[WindowRow], event: Event, /) -> Sequence[Refused]:
        """Call the function."""
        said = self._function(rows, event)
        return (await said if isawaitable(said) else said) or ()


def check_sinks(sinks: tuple[object, ...], key: Sequence[Column], values: Sequence[Column]) -> None:
    """Refuse what are no sinks, or two of a name, or one that cannot take the columns.

    Raises:
        UsageError, InvalidNameError: says which, and why.
    """
    if not isinstance(sinks, tuple):
        raise UsageError(f"its sinks are a tuple, not {sinks!r}")
    names: set[str] = set()
    for sink in sinks:
        if isinstance(sink, type) or not isinstance(sink, Sink):
            raise UsageError(f"{sink!r} is no sink")
        if parse_name("sink", sink.name) in names:
            raise UsageError(f"two of its sinks are called {sink.name!r}")
        names.add(sink.name)
        try:
            sink.check(key, values)
        except UsageError as error:
            raise UsageError(f"sink {sink.name!r}: {error}") from None
