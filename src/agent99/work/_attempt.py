"""One attempt at a stored message: through the dispatcher, and what came of it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import msgspec

from agent99.clock import Clock
from agent99.dispatch import Call, Context, Dispatcher, Route
from agent99.envelope import Header, Kind, decode_error, split_message
from agent99.errors import BadRequestError, HandlerError, RequestError


class Outcome(msgspec.Struct, frozen=True):
    """How an attempt ended."""

    error: RequestError | None
    traceback: str = ""


DIED = Outcome(HandlerError("its process ended in every attempt, before the handler"))
"""Of a message that was delivered too often: nobody lived to say what happened."""


class Message(msgspec.Struct, frozen=True):
    """A stored message that could be read."""

    header: Header
    body: bytes
    data: bytes
    """All of it."""


def read_message(data: bytes, kinds: tuple[Kind, ...]) -> Message:
    """Return the parts of a stored message.

    Raises:
        BadRequestError: it is none of ours, or of another kind.
    """
    header, body = split_message(data)
    if header.type not in kinds:
        path, rule = "$.header.type", f"Expected one of {', '.join(kinds)}, got `{header.type}`"
        raise BadRequestError(f"{path}: {rule}", details={"path": path, "rule": rule})
    return Message(header, body, data)


class Attempts:
    """Runs stored messages by one route of one instance, within the instance's bounds."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        route: Route,
        *,
        clock: Clock,
        timeout_s: float,
    ) -> None:
        self._dispatcher = dispatcher
        self._clock = clock
        self._timeout_s = timeout_s
        self._broken: dict[int, str] = {}
        is_job = dispatcher.kind == "request"
        self._route = route.stored(self._watched(route.handle), is_job=is_job)

    def __repr__(self) -> str:
        return f"Attempts({self._route.operation!r})"

    async def run(self, message: Message, *, attempt: int) -> Outcome:
        """Run the handler once; returns how that ended.

        Args:
            attempt: Its number, for the header; starts at 1.

        Raises:
            OverloadedError, PausedError: it was not run.
        """
        header = msgspec.structs.replace(message.header, attempt=attempt)
        call = self._dispatcher.submit(
            self._route,
            header,
            message.body,
            sender=header.from_uuid,
            deadline_s=self._clock.monotonic_s() + self._timeout_s,
            headers=message.data,
        )
        await self._dispatcher.wait(call)
        error = decode_error(call.answer) if call.outcome == "error" else None
        return Outcome(error, self._broken.pop(id(call), ""))

    def _watched(self, handle: Callable[[Context, Any], Any]) -> Callable[[Context, Any], Any]:
        """Keep the traceback of what a handler raised, and nothing of its result: nobody asks."""

        async def watched(context: Context, payload: Any) -> None:
            try:
                await handle(context, payload)
            except RequestError:
                raise
            except Exception:
                if isinstance(context, Call):
                    self._broken[id(context)] = traceback.format_exc()
                raise

        return watched
