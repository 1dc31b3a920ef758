"""The processes of the demo, as it sees them: started, watched, ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Final, Self

import msgspec

from agent99.errors import Agent99Error
from agent99.systems.shop._worker import Plan

END_S: Final = 6.0
"""Seconds until the agents have ended; longer than they grant themselves."""
LAST_WORD: Final = b"\n"
"""The agents shall end, and the demo sees to its files itself."""
_MODULE: Final = "agent99.systems.shop._nursery"


class CrewError(Agent99Error):
    """The agents' processes did not start, or kept dying."""

    code = "CREW"

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        """The code of the error that is behind it, or empty."""


class Started(msgspec.Struct, frozen=True):
    """A line of the nursery's news."""

    place: str
    event: str
    pid: int
    how: str = ""
    code: str = ""


class Crew:
    """The agents' processes. Use it with `async with`: at the end all of them are gone.

    Invariant: a process of it lives only while the pipe to the nursery is open, and a few seconds
    more.
    """

    def __init__(self, *, on_news: Callable[[str], None]) -> None:
        self._on_news = on_news
        self._process: Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._is_ending = False
        self.pids: dict[int, str] = {}
        """The place of every process that was started."""
        self._alive: set[int] = set()
        self._changed = asyncio.Event()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails when the demo cannot go on without somebody."""

    def __repr__(self) -> str:
        return f"Crew({self._process!r})"

    async def __aenter__(self) -> Self:
        """Start the nursery, which loads what the agents need."""
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # a queue.py in the current folder is not the one that is meant
            "-m",
            _MODULE,
            stdin=PIPE,
            stdout=PIPE,
            start_new_session=True,  # Ctrl-C in the terminal is for the demo alone
        )
        self._listening = asyncio.ensure_future(self._listen(process))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the agents; see `aclose`."""
        await self.aclose()

    @asynccontextmanager
    async def ending(self) -> AsyncGenerator[None]:
        """Give a context at whose end the agents have ended."""
        try:
            yield
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """End the agents at once; those that do not end are killed. Idempotent."""
        process, listening = self._process, self._listening
        if process is None or listening is None:
            return
        self._process = None
        self._is_ending = True
        if process.stdin is not None:
            with suppress(OSError, RuntimeError):  # it is gone; uvloop raises the latter
                process.stdin.write(LAST_WORD)
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), END_S)
        except TimeoutError:
            _kill(process)
            await process.wait()
        await listening
        if not self.lost.done():
            self.lost.cancel()
        elif not self.lost.cancelled():
            self.lost.exception()  # told already, or not any longer of interest

    async def send(self, plan: Plan) -> None:
        """Send the plan: the agents start.

        Raises:
            CrewError: the nursery is gone.
        """
        stdin = self._process.stdin if self._process is not None else None
        if stdin is None:
            raise CrewError("the agents' processes are not there")
        try:
            stdin.write(msgspec.json.encode(plan) + b"\n")
            await stdin.drain()
        except (OSError, RuntimeError) as error:  # uvloop raises the latter on a closed pipe
            raise CrewError("the process that starts the agents ended at once") from error

    def alive(self) -> dict[int, str]:
        """Return the processes that run now, and what runs in each: `inventory/2`."""
        return {pid: self.pids[pid] for pid in self._alive}

    def expect_end(self) -> None:
        """From now on a process that ends is no news."""
        self._is_ending = True

    async def wait_gone(self, agent: str, timeout_s: float) -> None:
        """Wait until no process of an agent is left; returns when the time is up, too."""
        deadline = asyncio.timeout(timeout_s)
        try:
            async with deadline:
                while any(self.pids[pid].startswith(f"{agent}/") for pid in self._alive):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return

    async def wait_ended(self, timeout_s: float) -> None:
        """Wait until all processes have ended by themselves; returns when the time is up, too."""
        if self._process is not None:
            waiting = asyncio.ensure_future(self._process.wait())
            await asyncio.wait((waiting,), timeout=timeout_s)
            waiting.cancel()

    async def _listen(self, process: Process) -> None:
        stdout = process.stdout
        while stdout is not None and (line := await stdout.readline()):
            self._hear(msgspec.json.decode(line, type=Started))
        if not self._is_ending:
            self._lose("the process that starts the agents ended")

    def _hear(self, news: Started) -> None:
        if news.event == "started":
            self.pids[news.pid] = news.place
            self._alive.add(news.pid)
        elif news.event == "given_up":
            self._lose(f"{news.place} {news.how}", news.code)
        else:
            self._alive.discard(news.pid)
            if news.how and not self.lost.done():
                self._on_news(f"{news.place} (process {news.pid}) {news.how}; it is started again")
        self._changed.set()

    def _lose(self, message: str, reason: str = "") -> None:
        if not self.lost.done():
            self.lost.set_exception(CrewError(message, reason))


def _kill(process: Process) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
