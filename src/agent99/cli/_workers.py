"""The process supervisor: workers that are started, watched, started again, and drained."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from typing import Any, BinaryIO

import msgspec

from agent99.cli._budget import RestartBudget
from agent99.cli._exits import Exit
from agent99.cli._lifeline import VARIABLE
from agent99.cli._show import count, say
from agent99.cli._wish import StopWish, wait_or
from agent99.clock import Clock

DRAIN_S = 30.0
"""Seconds from the wish for an end to SIGKILL; a worker itself drains for 25 s at most."""
END_S = 3.0
"""The same after the wish for an end at once."""
LINE_BYTES_MAX = 65_536
"""A longer line of a worker's output is cut into several."""
READY_BYTES_MAX = 1_048_576
"""A worker's announcement; longer ones are ignored."""
_HOPELESS = frozenset({Exit.USAGE, Exit.MESH})


class Plan(msgspec.Struct, frozen=True):
    """What a crew is to run."""

    commands: tuple[tuple[str, ...], ...]
    """What runs each of the workers."""
    environ: dict[str, str]
    """The workers' whole environment; it may hold a credential, so it is never shown."""
    name: str
    """What the workers are called."""
    bare: bytes = b""
    """How a line of their log begins that is passed on as it is; empty: none is."""

    def __repr__(self) -> str:
        return f"Plan({self.name!r}, workers={len(self.commands)})"


class Worker:
    """One place in the crew: the process that has it now, and its budget of restarts."""

    def __init__(self, index: int, name: str, command: Sequence[str]) -> None:
        self.index = index
        self.label = f"{name}/{index}"
        self.command = command
        self.budget = RestartBudget()
        self.process: Process | None = None
        self.ready = asyncio.Event()
        """Was ready at least once."""
        self.document: dict[str, Any] = {}
        """What it runs."""

    def __repr__(self) -> str:
        return f"Worker({self.label!r}, pid={self.process.pid if self.process else 0})"


class Crew:
    """The workers of one command. Made on the event loop.

    The second worker starts when the first is ready: what is wrong with the code is said once.

    Invariant: a process lives only while its worker's `_live` runs.
    """

    def __init__(self, plan: Plan, *, wish: StopWish, clock: Clock, stdout: BinaryIO) -> None:
        self.workers = [
            Worker(index, plan.name, command) for index, command in enumerate(plan.commands, 1)
        ]
        self._plan = plan
        self._wish = wish
        self._clock = clock
        self._stdout = stdout

    def __repr__(self) -> str:
        return f"Crew({self.workers!r})"

    async def run(self) -> int:
        """Run until a wish, until all workers ended by themselves, or until one is hopeless."""
        keeping = [asyncio.ensure_future(self._keep(worker)) for worker in self.workers]
        stopping = asyncio.ensure_future(self._stop_on_wish())
        waiting = set(keeping)
        code = 0
        try:
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                code = code or max(task.result() for task in done)
                if code and not self._wish.asked.is_set():
                    self._wish.ask()
        finally:
            stopping.cancel()
            self._kill()
            await asyncio.gather(*keeping, return_exceptions=True)
        return Exit.INTERRUPTED if self._wish.forced.is_set() else code

    async def wait_ready(self) -> list[dict[str, Any]]:
        """Wait until every worker was ready; returns what each of them runs."""
        for worker in self.workers:
            await worker.ready.wait()
        return [worker.document for worker in self.workers]

    # --- one worker -------------------------------------------------------------------------------

    async def _keep(self, worker: Worker) -> int:
        """Keep a process in a worker's place; returns the exit code that ends this."""
        if worker.index > 1 and not await self._unless_asked(self.workers[0].ready):
            return Exit.OK
        while True:
            code = await self._live(worker)
            if self._wish.asked.is_set():
                return Exit.OK
            if code == 0:
                say(f"worker {worker.label} ended: its agents were shut down")
                return Exit.OK
            if not worker.ready.is_set() and (code in _HOPELESS or self._never_ran(code)):
                return code
            delay_s = worker.budget.next_delay_s(self._clock.monotonic_s())
            if delay_s is None:
                budget = worker.budget
                say(
                    f"worker {worker.label} {_how(code)}, and was started again"
                    f" {budget.restarts_max} times within {budget.window_s:g} s: giving up"
                )
                return Exit.FAILED
            say(f"worker {worker.label} {_how(code)}; starting it again in {delay_s:g} s")
            if not await self._unless_asked(None, delay_s):
                return Exit.OK

    def _never_ran(self, code: int) -> bool:
        """Whether it refused to start before any worker ever ran: it told why, and would again."""
        return code == Exit.FAILED and not any(worker.ready.is_set() for worker in self.workers)

    async def _live(self, worker: Worker) -> int:
        """Start a process, pass its output on, and return its exit code."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours:
            with theirs:
                handle = theirs.fileno()
                worker.process = process = await asyncio.create_subprocess_exec(
                    *worker.command,
                    stdin=DEVNULL,
                    stdout=PIPE,
                    stderr=PIPE,
                    pass_fds=(handle,),
                    env={**self._plan.environ, VARIABLE: str(handle)},
                    process_group=0,  # Ctrl-C in the terminal is for the supervisor alone
                )
            if self._wish.asked.is_set():
                _signal(process, signal.SIGTERM)
            prefix = f"[{worker.label}] ".encode()
            ready = asyncio.ensure_future(self._read_ready(worker, ours))
            assert process.stdout is not None
            assert process.stderr is not None
            relays = [
                asyncio.ensure_future(relay(process.stdout, self._stdout, prefix)),
                asyncio.ensure_future(
                    relay(process.stderr, sys.stderr.buffer, prefix, bare=self._plan.bare)
                ),
            ]
            try:
                code = await process.wait()
            finally:
                _signal_group(process, signal.SIGKILL)  # the processes of its pool, if any are left
                ready.cancel()
                await asyncio.gather(ready, *relays, return_exceptions=True)
                worker.process = None
        return code

    async def _read_ready(self, worker: Worker, ours: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        said = b""
        while b"\n" not in said and len(said) < READY_BYTES_MAX:
            chunk = await loop.sock_recv(ours, LINE_BYTES_MAX)
            if not chunk:
                return
            said += chunk
        worker.document = msgspec.json.decode(said)
        worker.ready.set()

    async def _unless_asked(self, event: asyncio.Event | None, delay_s: float = 0.0) -> bool:
        """Wait for the event, or so long; returns False at once when an end is wished for."""
        work = event.wait() if event is not None else self._clock.sleep(delay_s)
        waiting = asyncio.ensure_future(work)
        await wait_or(waiting, self._wish.asked)
        waiting.cancel()
        return not self._wish.asked.is_set()

    # --- the end ----------------------------------------------------------------------------------

    async def _stop_on_wish(self) -> None:
        await self._wish.asked.wait()
        alive = self._alive()
        if alive:
            say(f"draining {count(len(alive), 'worker')}; Ctrl-C again ends at once")
        for process in alive:
            _signal(process, signal.SIGTERM)
        forced = asyncio.ensure_future(self._wish.forced.wait())
        await asyncio.wait((forced,), timeout=DRAIN_S)
        forced.cancel()
        for process in self._alive():
            _signal(process, signal.SIGTERM)
        await self._clock.sleep(END_S)
        self._kill()

    def _alive(self) -> list[Process]:
        return [w.process for w in self.workers if w.process and w.process.returncode is None]

    def _kill(self) -> None:
        for process in self._alive():
            _signal_group(process, signal.SIGKILL)


async def relay(
    stream: asyncio.StreamReader, sink: BinaryIO, prefix: bytes, *, bare: bytes = b""
) -> None:
    """Pass a worker's output on, each line with its prefix, unless it begins with `bare`."""
    rest = b""
    while chunk := await stream.read(LINE_BYTES_MAX):
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) >= LINE_BYTES_MAX:
            lines.append(rest)
            rest = b""
        _write_lines(sink, prefix, lines, bare)
    _write_lines(sink, prefix, [rest] if rest else [], bare)


def _write_lines(sink: BinaryIO, prefix: bytes, lines: Sequence[bytes], bare: bytes) -> None:
    if lines:
        whole = (line if bare and line.startswith(bare) else prefix + line for line in lines)
        sink.write(b"".join(b"%b\n" % line for line in whole))
        sink.flush()


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _signal(process: Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except ProcessLookupError:
        return


def _signal_group(process: Process, number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return
