"""A route: an operation's decode, its handler with all middleware folded in, its encode."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from agent99.dispatch._context import Context
from agent99.dispatch._tally import Tally
from agent99.envelope import AnswerCodec, BodyCodec, Name

_NO_ANSWER: AnswerCodec[None] = AnswerCodec(None, of="stored work")
DEFAULT_OPERATION = Name("request")
"""The operation of `process_request`, and of a request that names none."""

Handler = Callable[[Context, Any], Awaitable[Any]]
"""Takes the request and its decoded payload; gives the result, or raises."""

Middleware = Callable[[Context, Any, Handler], Awaitable[Any]]
"""Takes a request, its payload, and what comes next; acts before, after or instead of it."""


class Route:
    """One operation of one instance."""

    __slots__ = (
        "answer",
        "body",
        "handle",
        "is_default",
        "is_job",
        "never_waits",
        "operation",
        "tally",
    )

    def __init__(
        self,
        operation: Name,
        *,
        body: BodyCodec[Any],
        answer: AnswerCodec[Any],
        handle: Handler,
        never_waits: bool = False,
    ) -> None:
        self.operation = operation
        self.is_default = operation == DEFAULT_OPERATION
        """The payload may name another."""
        self.body = body
        self.answer = answer
        self.handle = handle
        self.never_waits = never_waits
        """Its handler's coroutine ends in its first step, always: no task is made for it."""
        self.is_job = False
        """What runs by it was posted: nobody waits for an answer."""
        self.tally = Tally()
        """What became of what was taken on, asked for or stored."""

    def __repr__(self) -> str:
        return f"Route({self.operation!r})"

    def stored(self, handle: Handler, *, is_job: bool) -> Route:
        """Return a route to the same operation for what is stored; the two count together.

        Its handler returns None, whatever the operation gives: nobody waits for an answer.
        """
        route = Route(self.operation, body=self.body, answer=_NO_ANSWER, handle=handle)
        route.is_job = is_job
        route.tally = self.tally
        return route


def fold(middleware: Iterable[Middleware], handle: Handler) -> Handler:
    """Return one handler that goes through the middleware, the first outermost, to `handle`."""
    for layer in reversed(tuple(middleware)):
        handle = _wrap(layer, handle)
    return handle


def _wrap(layer: Middleware, proceed: Handler) -> Handler:
    async def wrapped(context: Context, payload: Any) -> Any:
        return await layer(context, payload, proceed)  # which may be a plain function

    return wrapped
