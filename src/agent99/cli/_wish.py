"""The wish that a long-running command ends: Ctrl-C, SIGTERM, or a supervisor that is gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from agent99.cli._exits import Exit

EXIT_GRACE_S = 3.0
"""Seconds that threads and processes of operations that never end may keep this process."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopWish:
    """The first wish asks for a drain, the second for an end at once. Made on the event loop.

    Invariant: `forced` is set only if `asked` is.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        """Somebody wants an end."""
        self.forced = asyncio.Event()
        """Somebody wants it now."""
        self.give_up: Callable[[], object] | None = None
        """What to do instead of draining, as long as there is nothing to drain."""
        self._loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup
            self._loop.add_signal_handler(number, self.ask)

    def __repr__(self) -> str:
        return f"StopWish(asked={self.asked.is_set()}, forced={self.forced.is_set()})"

    def close(self) -> None:
        """Let signals mean what they meant before."""
        for number in _SIGNALS:
            self._loop.remove_signal_handler(number)

    def ask(self) -> None:
        """Wish for an end; the second time: at once."""
        if not self.asked.is_set():
            self.asked.set()
            if self.give_up is not None:
                self.give_up()
        elif self.give_up is not None:
            end_process(Exit.INTERRUPTED)
        else:
            self.forced.set()


async def wait_or(other: asyncio.Future[Any], event: asyncio.Event) -> bool:
    """Wait for `other` or `event`; returns whether `other` is done."""
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((other, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    return other.done()


def end_process(code: int) -> None:
    """End this process and the processes of its pool now, whatever they are doing."""
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is not None:  # imported only if an operation ran in a process
        for child in multiprocessing.active_children():
            child.kill()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


def end_soon(code: int) -> None:
    """Let the process end by itself, but not wait for threads that never do."""
    guard = threading.Timer(EXIT_GRACE_S, end_process, (code,))
    guard.daemon = True
    guard.start()
