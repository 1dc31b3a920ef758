"""One request in the hands of one instance."""

from __future__ import annotations

from asyncio import Future, Task

from agent99.clock import DeadlineTicket
from agent99.dispatch._context import Context
from agent99.dispatch._route import Route
from agent99.envelope import Outcome


class Call(Context, eq=False):
    """A request from its arrival to its end: what its handler sees of it, and what we do.

    Invariant: it ends once. `ended` is set by whoever ends it: the handler's result, the deadline,
    the caller who gives up, or the instance that stops.
    """

    route: Route
    body: bytes
    """The payload, not yet decoded."""
    reply: bytes | None
    """Where the answer goes; empty for an event, None where the caller is in this process."""
    task: Task[None] | None = None
    """What runs it, if that takes more than one step."""
    ticket: DeadlineTicket | None = None
    began_s: float = 0.0
    """Monotonic time at which its handler was started."""
    has_place: bool = False
    """Whether it holds one of the places of its instance: from its handler's start to its end."""
    ended: bool = False
    outcome: Outcome | None = None
    """For a caller in this process: how it ended; None until then."""
    answer: bytes = b""
    """With it: its body, as it would travel."""
    waiter: Future[None] | None = None
    """Whom to wake then."""
