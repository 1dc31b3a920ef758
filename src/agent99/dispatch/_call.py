"""One request in the hands of one instance."""

from __future__ import annotations

from asyncio import Task
from collections.abc import Callable

from agent99.clock import DeadlineTicket
from agent99.dispatch._context import Context
from agent99.dispatch._route import Route
from agent99.envelope import Outcome
from agent99.errors import RequestError

Respond = Callable[["Call", Outcome, bytes | RequestError], None]
"""Brings an outcome to whoever asked: a body for `ok` and `value`, an error for `error`."""


class Call:
    """A request from its arrival to its end.

    Invariant: it ends once. `ended` is set by whoever ends it: the handler's result, the deadline,
    the caller who gives up, or the instance that stops.
    """

    __slots__ = ("context", "data", "ended", "reply", "respond", "route", "task", "ticket")

    def __init__(
        self,
        route: Route,
        context: Context,
        data: bytes,
        reply: bytes | None,
        respond: Respond | None,
    ) -> None:
        self.route = route
        self.context = context
        self.data = data
        """The message as it came; the body alone where it never left the process."""
        self.reply = reply
        """Where the answer goes; empty for an event, None where the caller is in this process."""
        self.respond = respond
        """Brings the outcome back; None for an event, which nobody answers."""
        self.task: Task[None] | None = None
        self.ticket: DeadlineTicket | None = None
        self.ended = False

    def __repr__(self) -> str:
        return f"Call({self.context!r}, ended={self.ended})"
