"""Sees that the event loop is blocked, while it is blocked: a thread looks at it from outside.

A handler that computes, or waits without `await`, stops every other handler, the pings and the
leases of its process. Nothing on the loop can say so before it is over.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from types import FrameType
from typing import TYPE_CHECKING

from agent99.observe import LoopBlocked

if TYPE_CHECKING:
    from agent99.clock import Clock, TimerHandle
    from agent99.observe import Hooks

BLOCKED_S = 1.0
"""A loop that is so late is blocked."""
BEAT_S = 0.5
"""Between two signs of life of the loop."""
LOOK_S = 0.25
"""Between two looks at them."""
FRAMES_MAX = 12
"""How much of the loop's stack is logged: the innermost frames."""
_OURS = ("agent99.agent.", "agent99.dispatch.", "asyncio.", "uvloop.")

_log = logging.getLogger("agent99.agent")


class Watchdog:
    """Watches the event loop on which it is started.

    Invariant: a thread runs from `start` to `close`; it changes nothing that the loop reads but
    what was found of the present block.
    """

    def __init__(self, clock: Clock, hooks: Hooks) -> None:
        self._clock = clock
        self._hooks = hooks
        self._thread_id = threading.get_ident()
        self._ended = threading.Event()
        self._due_s = 0.0
        self._timer: TimerHandle | None = None
        # What the thread found, and of which beat: the loop may be back before it has looked.
        self._found: tuple[float, str] = (-1.0, "")

    def __repr__(self) -> str:
        return f"Watchdog({'running' if self._timer is not None else 'idle'})"

    def start(self) -> None:
        """Watch from now on; once."""
        self._set_timer()
        threading.Thread(target=self._watch, name="agent99-watchdog", daemon=True).start()

    def close(self) -> None:
        """Watch no more; the thread ends by itself, within a moment. Idempotent."""
        self._ended.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- on the loop ------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        self._due_s = self._clock.monotonic_s() + BEAT_S
        self._timer = self._clock.call_later(BEAT_S, self._beat)

    def _beat(self) -> None:
        lag_s = self._clock.monotonic_s() - self._due_s
        if lag_s >= BLOCKED_S:
            found_of, where = self._found
            self._tell(lag_s, where if found_of == self._due_s else "")
        self._set_timer()

    def _tell(self, lag_s: float, where: str) -> None:
        _log.warning("the event loop was blocked for %.1f s%s", lag_s, _in(where))
        if (tell := self._hooks.blocked) is not None:
            tell(LoopBlocked(lag_s, where))

    # --- on the thread ----------------------------------------------------------------------------

    def _watch(self) -> None:
        reported_s = -1.0
        while not self._ended.wait(LOOK_S):
            due_s = self._due_s
            lag_s = self._clock.monotonic_s() - due_s
            if lag_s >= BLOCKED_S and due_s != reported_s:
                reported_s = due_s
                self._report(due_s, lag_s)

    def _report(self, due_s: float, lag_s: float) -> None:
        frames = sys._current_frames()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - documented
        frame = frames.get(self._thread_id)
        if frame is None:
            return  # the loop's thread has ended
        where = _culprit(frame)
        self._found = due_s, where
        stack = "".join(traceback.format_stack(frame, FRAMES_MAX)).rstrip()
        text = "the event loop has been blocked for %.1f s%s, and still is:\n%s"
        _log.warning(text, lag_s, _in(where), stack)


def _in(where: str) -> str:
    return f" in {where}" if where else ""


def _culprit(innermost: FrameType) -> str:
    """Return which function of somebody else's blocks; empty where it is none.

    That is the one that we called, or asyncio did: what it calls in turn is in the stack.
    """
    found: FrameType | None = None
    frame: FrameType | None = innermost
    while frame is not None and not f"{frame.f_globals.get('__name__', '')}.".startswith(_OURS):
        found, frame = frame, frame.f_back
    if found is None or frame is None:
        return ""
    code = found.f_code
    return f"{code.co_qualname} ({code.co_filename}:{found.f_lineno})"
