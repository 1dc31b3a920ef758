"""One request of a caller, through all of its attempts."""

from __future__ import annotations

from asyncio import Future
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from agent99.errors import DeadlineExceededError, UsageError

if TYPE_CHECKING:
    from agent99.agent._destination import Destination
    from agent99.agent._targets import Target
    from agent99.dispatch import Context
    from agent99.envelope import AnswerCodec, Header
    from agent99.wire import Message

NESTED_MARGIN_S = 0.005
"""A nested request ends so much before the one that it serves, that its outcome can be told."""
TIMEOUT_S_MAX = 1e9
"""Longer is no time but a mistake: 30 years."""


class Repeats(Protocol):
    """Whoever made a request, and can make it once more meanwhile."""

    def repeat(self, ask: Ask, destination: Destination) -> None:
        """Ask somebody else the same, where that does no harm."""
        ...

    def header(self, ask: Ask, destination: Destination) -> Header:
        """Write the header with which a request travels."""
        ...


class Ask(msgspec.Struct, eq=False):
    """A request that was made, and is not answered yet."""

    caller: Repeats
    target: Target
    meant: Destination
    """What was asked for: any of several, or one."""
    destination: Destination
    """Where the attempt that is under way goes: of any of several perhaps to one that is well."""
    codec: AnswerCodec[Any]
    body: bytes
    headers: bytes
    """The user's, encoded."""
    idempotency_key: str | None
    context: Context | None
    """The request in hand, which this one serves."""
    sent_s: float
    """Monotonic time at which it was made."""
    deadline_s: float
    event_id: str
    """The same in all attempts."""
    attempt: int = 1
    traceparent: str | None = None
    """What it carries; None: it begins a trace."""
    parent_span_id: str = ""
    refused_by: str = ""
    """The instance that answered the last attempt with an error."""
    future: Future[Message] | None = None
    """Of the attempt that is under way."""
    is_repeated: bool = False
    """Whether somebody else was asked meanwhile: once is enough."""
    is_told: bool = False
    """Whether it was told already that this attempt was sent."""

    def __repr__(self) -> str:
        return f"Ask({self.destination.text!r}, {self.event_id!r}, attempt={self.attempt})"

    def header(self) -> Header:
        """Write the header with which it travels, or would."""
        return self.caller.header(self, self.destination)


def deadline_of(
    now_s: float,
    timeout_s: float,
    context: Context | None,
    destination: Destination | None = None,
) -> float:
    """Return the monotonic time by which a request made now must end.

    Args:
        now_s: The monotonic time; the caller counts what is left from the same moment.
        context: The request in hand, which it serves.

    Raises:
        UsageError: `timeout_s` is no number above 0, or one beyond 30 years.
        DeadlineExceededError: the request that this one serves has no time left.
    """
    try:
        is_time = 0 < timeout_s <= TIMEOUT_S_MAX
    except (TypeError, ValueError):
        is_time = False
    if not is_time:
        raise UsageError(
            f"timeout_s is a number of seconds above 0 and up to {TIMEOUT_S_MAX:,.0f},"
            f" not {str(timeout_s)[:80]!r}"
        )
    deadline_s = now_s + timeout_s
    if context is not None and context.deadline_s - NESTED_MARGIN_S < deadline_s:
        deadline_s = context.deadline_s - NESTED_MARGIN_S
        if deadline_s <= now_s:
            what = f"{destination.text!r}" if destination is not None else "it"
            raise DeadlineExceededError(
                f"no time is left to ask for {what}: the request in hand is at its deadline"
            )
    return deadline_s
