"""End as with Ctrl-C when somebody asks this process to end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def until_signal(work: Coroutine[Any, Any, T]) -> T:
    """Return what some work comes to, in this task.

    Raises:
        KeyboardInterrupt: a signal came, and the work has ended by it.
    """
    task = asyncio.current_task()
    stop: list[int] = []

    def on_signal(number: int) -> None:
        stop.append(number)
        if task is not None:
            task.cancel()

    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        return await work
    except asyncio.CancelledError:
        if not stop:
            raise
        raise KeyboardInterrupt from None
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
