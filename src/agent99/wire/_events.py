"""What a wire tells its owner: state, errors out of turn, counts of what was dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent99.wire._port import ConnectionState


class Events:
    """Listeners and drop counts of one wire.

    Invariant: after `CLOSED` the state never changes again.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, state: ConnectionState) -> None:
        self.state = state
        self.dropped = {"expired": 0, "late_answer": 0, "receiver_error": 0, "unsubscribed": 0}
        self._loop = loop
        self._state_listeners: list[Callable[[ConnectionState], None]] = []
        self._error_listeners: list[Callable[[Exception], None]] = []
        self._drop_listeners: list[Callable[[str, int], None]] = []

    def __repr__(self) -> str:
        return f"Events({self.state.value}, dropped={self.dropped})"

    def on_state(self, listen: Callable[[ConnectionState], None]) -> None:
        """Call `listen` at each change of state."""
        self._state_listeners.append(listen)

    def on_error(self, listen: Callable[[Exception], None]) -> None:
        """Call `listen` with each error reported out of turn."""
        self._error_listeners.append(listen)

    def on_drop(self, listen: Callable[[str, int], None]) -> None:
        """Call `listen` with the reason and the number of messages that were dropped."""
        self._drop_listeners.append(listen)

    def drop(self, reason: str, count: int = 1) -> None:
        """Count messages that went nowhere, and tell."""
        self.dropped[reason] += count
        for listen in tuple(self._drop_listeners):
            try:
                listen(reason, count)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - user code
                self.report(_as_exception(error))

    def set_state(self, state: ConnectionState) -> None:
        """Change the state and tell; does nothing when it is the same, or closed already."""
        if self.state in (state, ConnectionState.CLOSED):
            return
        self.state = state
        for listen in tuple(self._state_listeners):
            try:
                listen(state)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - user code
                self.report(_as_exception(error))

    def report(self, error: Exception) -> None:
        """Tell the error to every listener; one that raises harms nobody but itself.

        Where nobody listens, the event loop's exception handler is told: nothing is lost silently.
        """
        if not self._error_listeners:
            self._loop.call_exception_handler(
                {"message": "a wire reports, and nobody listens to on_error", "exception": error}
            )
        for listen in tuple(self._error_listeners):
            try:
                listen(error)
            except (Exception, asyncio.CancelledError) as second:  # noqa: BLE001 - user code
                self._loop.call_exception_handler(
                    {"message": "a listener of Wire.on_error raised", "exception": second}
                )

    def report_receiver(self, error: BaseException) -> None:
        """Count and report what a receiver raised."""
        self.drop("receiver_error")
        self.report(_as_exception(error))


def _as_exception(error: BaseException) -> Exception:
    """Return the error itself, or for a CancelledError one that is an Exception and names it."""
    if isinstance(error, Exception):
        return error
    wrapped = RuntimeError(f"user code raised {type(error).__name__}")
    wrapped.__cause__ = error
    return wrapped
