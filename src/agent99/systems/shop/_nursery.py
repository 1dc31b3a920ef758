"""The nursery: a process that imports what the agents need, once, and forks one process for each.

    python -m agent99.systems.shop._nursery < plan

Seven interpreters that import SQLAlchemy each would take longer than the first order may. It has no
thread, no event loop and no connection, so that a fork is as good as a fresh process. One that dies
is started again; when the demo says a last word, or is gone, all end.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
from collections import deque
from types import FrameType
from typing import Final

import msgspec

from agent99.clock import Clock, SystemClock
from agent99.systems.shop import _journey, _opening
from agent99.systems.shop._worker import END_S, Excuse, Place, Plan, leave, run_worker

PLAN_BYTES_MAX: Final = 1_048_576
HANDLES_MAX: Final = 256
RESTARTS_WINDOW_S: Final = 30.0
"""In which a place is started again `Plan.restarts_max` times at most."""
PRELOADED: Final = (_journey, _opening)
"""Here for the agents that are forked: with these comes SQLAlchemy."""


class News(msgspec.Struct, frozen=True):
    """What the nursery tells the demo; a line of JSON each."""

    place: str
    event: str
    """`started`, `ended`, `given_up`."""
    pid: int
    how: str = ""
    """How it ended, in words; empty where all is well."""
    code: str = ""
    """The error that it ended with, where it could say."""


class Nursery:
    """Forks the agents, and forks those again that died.

    Invariant: `_alive` holds exactly the children that were not waited for.
    """

    def __init__(self, plan: Plan, clock: Clock) -> None:
        self._plan = plan
        self._clock = clock
        self._alive: dict[int, Place] = {}
        self._ends: dict[str, deque[float]] = {each.label: deque() for each in plan.places}
        self._wake, self._waker = os.pipe()
        self._heard, self._excuses = os.pipe()
        self._said = b""
        self._told: dict[int, Excuse] = {}
        for handle in (self._wake, self._waker, self._heard, self._excuses):
            os.set_blocking(handle, False)

    def __repr__(self) -> str:
        return f"Nursery(alive={len(self._alive)})"

    def run(self) -> None:
        """Keep the agents running until standard input ends or all have ended by themselves."""
        signal.signal(signal.SIGCHLD, _nothing)  # a handler must be there for the wake-up
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        for place in self._plan.places:
            self._fork(place)
        poll = select.poll()
        poll.register(0, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while self._alive:
            ready = {handle for handle, _ in poll.poll()}
            if 0 in ready:  # first: those that end because of it are not started again
                self._end()
                if not os.read(0, 1):  # without a last word the demo is gone: who else clears up?
                    shutil.rmtree(self._plan.folder, ignore_errors=True)
                return
            os.read(self._wake, 4096)
            self._reap()

    def _fork(self, place: Place) -> None:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            self._become(place)
        self._alive[pid] = place
        tell(News(place.label, "started", pid))

    def _become(self, place: Place) -> None:
        """Be an agent; does not return."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for handle in (self._wake, self._waker, self._heard):
                os.close(handle)
            os.dup2(2, 1)  # the news are the nursery's alone
            code = run_worker(place, self._plan, self._excuses)
        finally:
            leave(code)

    def _reap(self) -> None:
        while self._alive:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            place = self._alive.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            if code == 0:
                tell(News(place.label, "ended", pid))
            else:
                self._start_again(place, pid, _how(code))

    def _start_again(self, place: Place, pid: int, how: str) -> None:
        """Fork it again, unless it would end the same way, or ended too often."""
        ends, now_s = self._ends[place.label], self._clock.monotonic_s()
        ends.append(now_s)
        while ends and ends[0] < now_s - RESTARTS_WINDOW_S:
            ends.popleft()
        excuse, code = self._excuse_of(pid), ""
        if excuse is not None:
            how, code = f"did not run: {excuse.sentence}", excuse.code
        if excuse is not None and excuse.is_final:
            tell(News(place.label, "given_up", pid, how, code))
        elif len(ends) > self._plan.restarts_max:
            tell(News(place.label, "given_up", pid, f"{how}; {len(ends)} times in a row", code))
        else:
            tell(News(place.label, "ended", pid, how, code))
            self._fork(place)

    def _excuse_of(self, pid: int) -> Excuse | None:
        """Return what a process said before it ended."""
        try:
            while said := os.read(self._heard, 65_536):
                self._said += said
        except BlockingIOError:  # that was all
            pass
        *lines, self._said = self._said.split(b"\n")
        for line in lines:
            excuse = msgspec.json.decode(line, type=Excuse)
            self._told[excuse.pid] = excuse
        return self._told.pop(pid, None)

    def _end(self) -> None:
        """The demo broke off: wait for the agents, which have seen it too, but not for long."""
        end_s = self._clock.monotonic_s() + END_S
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        while self._alive:
            left_s = end_s - self._clock.monotonic_s()
            if left_s <= 0:
                break
            poll.poll(left_s * 1000)
            self._wait_all()
        for pid in self._alive:
            os.kill(pid, signal.SIGKILL)
        for pid in self._alive:
            os.waitpid(pid, 0)

    def _wait_all(self) -> None:
        while self._alive:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            del self._alive[pid]


def close_copies(*handles: int) -> None:
    """Close what else means the same as these: an event loop that started us may leave copies.

    An agent that held the pipe of the news would hide from the demo that the nursery is gone.
    """
    same = {_identity(handle) for handle in handles}
    for other in range(3, HANDLES_MAX):
        try:
            if _identity(other) in same:
                os.close(other)
        except OSError:
            continue  # it is not open


def _identity(handle: int) -> tuple[int, int]:
    status = os.fstat(handle)
    return status.st_dev, status.st_ino


def tell(news: News) -> None:
    """Tell the demo; when it is gone, standard input says so."""
    try:
        os.write(1, msgspec.json.encode(news) + b"\n")
    except BrokenPipeError:
        return


def read_plan(handle: int) -> Plan | None:
    """Return the plan: one line. None: there is none, the demo ended before."""
    line = b""
    while not line.endswith(b"\n") and len(line) < PLAN_BYTES_MAX:
        chunk = os.read(handle, 65_536)
        if not chunk:
            return None
        line += chunk
    return msgspec.json.decode(line, type=Plan) if line.strip() else None


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was killed by {signal.Signals(-code).name}"


def _nothing(_number: int, _frame: FrameType | None) -> None:
    return


if __name__ == "__main__":
    close_copies(0, 1)
    if (given := read_plan(0)) is not None:
        Nursery(given, SystemClock()).run()
