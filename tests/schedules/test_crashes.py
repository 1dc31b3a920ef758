"""The server and the processes that fire are killed and stand still: each moment is stored once."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agent99 import Mesh
from agent99.clock import SystemClock
from agent99.ids import SystemIds
from agent99.schedules import At, Schedule, Schedules
from agent99.schedules._book import Book
from agent99.schedules._cron import micros_of
from agent99.schedules._firing import Firing
from agent99.schedules._parts import parts_of
from tests._nats_server import NatsServer
from tests._wait import PATIENCE_S, eventually
from tests.schedules._fired import Fired, fired, moment, wait_fired

S = 1_000_000
CHILD = Path(__file__).with_name("_firer.py")
ROUNDS = [
    pytest.param(12, id="short", marks=pytest.mark.slow),
    pytest.param(120, id="full", marks=pytest.mark.chaos),
]
StartServer = Callable[..., NatsServer]


class Firers:
    """Processes that fire."""

    def __init__(self, url: str, mesh: str) -> None:
        self.alive: list[Process] = []
        self.frozen: list[Process] = []
        self._every: list[Process] = []
        self._command = (sys.executable, "-W", "error", str(CHILD), url, mesh)

    async def start(self, count: int = 1) -> None:
        """Start some, and wait until they fire."""
        pipe = asyncio.subprocess.PIPE
        for _ in range(count):
            one = await asyncio.create_subprocess_exec(*self._command, stdin=pipe, stdout=pipe)
            self._every.append(one)
            assert one.stdout is not None
            assert b"firing\n" == await one.stdout.readline()
            self.alive.append(one)

    def kill(self, one: Process) -> None:
        """End one as a crash would."""
        one.kill()
        self.alive.remove(one)

    def freeze(self, one: Process) -> None:
        """Have one stand still."""
        one.send_signal(signal.SIGSTOP)
        self.alive.remove(one)
        self.frozen.append(one)

    def thaw(self) -> None:
        """Have all that stand still go on."""
        for one in self.frozen:
            one.send_signal(signal.SIGCONT)
        self.alive += self.frozen
        self.frozen.clear()

    async def end(self) -> None:
        """Leave no process behind."""
        for one in self._every:
            if one.returncode is None:
                one.kill()
            await one.communicate()


@pytest.fixture
def name() -> str:
    """Give a mesh's name of the test's own."""
    return f"t{SystemIds().token().decode()[:12]}"


@pytest.fixture
async def firers(nats_server: NatsServer, name: str) -> AsyncIterator[Firers]:
    """Give processes that fire, none yet."""
    made = Firers(nats_server.url, name)
    yield made
    await made.end()


def late_s(event: Fired) -> float:
    """Return how long after its moment an event was stored, in seconds."""
    return (event.stored_us - event.due_us) / S


async def until(clock: SystemClock, moment_us: int) -> None:
    """Wait for a moment of the wall clock."""
    await clock.sleep(max(0, moment_us - clock.wall_us()) / S)


# --- the server -----------------------------------------------------------------------------------


@pytest.mark.may_block("the server is killed and started here")
@pytest.mark.parametrize("fires", [True, False])
async def test_a_server_that_is_killed_in_between(
    start_nats_server: StartServer, name: str, fires: bool
) -> None:
    """After a kill -9 and a restart of the server, an event comes at its time, once."""
    server = start_nats_server()
    async with Mesh(server.url, mesh=name) as mesh:
        schedules = Schedules(mesh)
        firing = schedules if fires else Schedules(mesh)
        if fires:
            await firing.__aenter__()
        await schedules.at(moment(4), "tea.ready", id="tea")
        server.restart()
        if not fires:
            await firing.__aenter__()
        (event,) = await wait_fired(mesh, 1)
        await firing.__aexit__(None, None, None)
        assert 0 <= late_s(event) < 1
        assert 1 == len(await fired(mesh))


@pytest.mark.may_block("the server is killed and started here")
async def test_a_server_that_is_down_at_the_moment(
    start_nats_server: StartServer, name: str
) -> None:
    """What was due while the server was down comes within seconds of its return, once."""
    server, clock = start_nats_server(), SystemClock()
    async with Mesh(server.url, mesh=name) as mesh, Schedules(mesh) as schedules:
        when = moment(0.5)
        await schedules.at(when, "tea.ready")
        await schedules.every(1, "clock.tick", start=when)
        await schedules.every(1, "clock.tock", start=when, missed="skip")
        server.kill()
        await until(clock, micros_of(when) + 4 * S)
        server.start()
        up_us = clock.wall_us()
        events = await wait_fired(mesh, 7)
    first = {topic: next(e for e in events if e.topic == topic) for topic in TOPICS}
    back_s = max(one.stored_us - up_us for one in first.values()) / S
    print(f"fired {back_s:.2f} s after the server was back")  # noqa: T201 - a figure, with -s
    assert back_s < 4
    assert micros_of(when) == first["tea.ready"].due_us
    assert 1 == sum(event.topic == "tea.ready" for event in events)
    ticks = [event for event in events if event.topic == "clock.tick"]
    assert micros_of(when) == ticks[0].due_us
    assert ticks[1].due_us > ticks[0].stored_us, "once for all that was missed"
    assert len(events) == len({event.event_id for event in events})


TOPICS = ("tea.ready", "clock.tick", "clock.tock")


class CutBook(Book):
    """Has the server hang, the first time that a schedule is to be moved on."""

    server: NatsServer
    is_cut = False

    async def update(self, schedule: Schedule, *, revision: int) -> int:
        """Move a schedule on."""
        if not self.is_cut:
            self.is_cut = True
            self.server.stop()
        return await super().update(schedule, revision=revision)


@pytest.mark.may_block("the server is killed and started here")
async def test_an_answer_that_is_lost(start_nats_server: StartServer, name: str) -> None:
    """Who waits for an answer that was lost with the link begins anew when the link is back."""
    server, clock = start_nats_server(), SystemClock()
    async with Mesh(server.url, mesh=name) as mesh:
        schedules = Schedules(mesh)
        book = CutBook(mesh.link.journal, name, replicas=1)
        book.server = server
        schedules._book, schedules._firing = book, Firing(parts_of(mesh), book)
        async with schedules:
            await schedules.every(1, "clock.tick", start=moment(0.2))
            await eventually(lambda: book.is_cut)
            server.restart()
            up_us = clock.wall_us()
            events = await wait_fired(mesh, 2)
    assert (events[1].stored_us - up_us) / S < 3.5  # 5 s is the deadline of a write


# --- the processes --------------------------------------------------------------------------------


async def test_a_process_that_is_killed_in_between(
    nats_server: NatsServer, firers: Firers, name: str
) -> None:
    """Made by one process, which is gone; fired by another one, at its time, once."""
    async with Mesh(nats_server.url, mesh=name) as mesh:
        await firers.start()
        when = moment(2.5)
        await Schedules(mesh).at(when, "tea.ready")
        firers.kill(firers.alive[0])
        await firers.start(2)
        there_us = SystemClock().wall_us()  # on a busy machine that takes longer
        (event,) = await wait_fired(mesh, 1)
        assert 0 <= event.stored_us - micros_of(when)
        assert event.stored_us - max(event.due_us, there_us) < S


@pytest.mark.may_block("the server is killed and started here")
async def test_everything_is_killed(start_nats_server: StartServer, name: str) -> None:
    """When all is killed and comes back after the moment, the event comes at once, and once."""
    server, clock = start_nats_server(), SystemClock()
    firers = Firers(server.url, name)
    try:
        await firers.start(2)
        when = moment(0.5)
        async with Mesh(server.url, mesh=name) as mesh:
            await Schedules(mesh).at(when, "tea.ready", id="tea")
        for one in tuple(firers.alive):
            firers.kill(one)
        server.kill()
        await until(clock, micros_of(when) + S)
        server.start()
        began_us = clock.wall_us()
        await firers.start(2)
        async with Mesh(server.url, mesh=name) as mesh:
            (event,) = await wait_fired(mesh, 1)
            assert (event.stored_us - began_us) / S < 5  # two interpreters start, too
            await until(clock, event.stored_us + S)
            assert 1 == len(await fired(mesh))
    finally:
        await firers.end()


@pytest.mark.parametrize("rounds", ROUNDS)
async def test_processes_that_die_while_they_fire(
    nats_server: NatsServer, firers: Firers, name: str, seed: int, rounds: int
) -> None:
    """As long as one of them lives, every moment is stored, once, and within a second of it."""
    luck, clock = random.Random(seed), SystemClock()
    async with Mesh(nats_server.url, mesh=name) as mesh:
        await firers.start(3)
        schedules, start = Schedules(mesh), moment(3)
        for number in range(10):
            await schedules.every(1, f"clock.n{number}", start=start, key="k" if number else None)
        for number in range(10 * rounds):
            last = moment(3 + 0.1 * number)
            await schedules.at(last, "tea.ready", {"n": number})
        await until(clock, micros_of(start))
        for _ in range(rounds):
            await clock.sleep(luck.uniform(0.4, 0.8))
            one = luck.choice(firers.alive)
            firers.freeze(one) if luck.random() < 0.3 else firers.kill(one)
            await clock.sleep(luck.uniform(0.0, 0.4))
            firers.thaw()
            await firers.start(3 - len(firers.alive))
        await until(clock, micros_of(last))
        await clock.sleep(1.5)
        for schedule in await schedules.list():
            await schedules.cancel(schedule.id)
        await clock.sleep(0.5)
        events = await fired(mesh)
    assert list(range(10 * rounds)) == sorted(e.body["n"] for e in events if e.topic == "tea.ready")
    for number in range(10):
        dues = [e.due_us for e in events if e.topic == f"clock.n{number}"]
        assert len(dues) > rounds / 2
        assert [micros_of(start) + n * S for n in range(len(dues))] == dues
    lates = sorted(map(late_s, events))
    print(f"{len(events)} events: half {lates[len(lates) // 2]:.3f} s, last {lates[-1]:.3f} s late")  # noqa: T201 - figures, with -s
    assert lates[0] >= 0
    assert lates[-1] < 1


@pytest.mark.parametrize("rounds", ROUNDS)
async def test_a_server_that_dies_while_they_fire(
    start_nats_server: StartServer, name: str, seed: int, rounds: int
) -> None:
    """However often the server and the processes are killed, each moment is stored once."""
    luck, clock = random.Random(seed), SystemClock()
    server = start_nats_server()
    firers = Firers(server.url, name)
    try:
        await firers.start(2)
        async with Mesh(server.url, mesh=name) as mesh:
            schedules, start = Schedules(mesh), moment(1)
            await schedules.every(1, "clock.tick", start=start)
            ups_us = [0]
            for number in range(10 * rounds):
                await schedules.at(moment(1 + 0.2 * number), "tea.ready", {"n": number})
            for _ in range(rounds):
                await clock.sleep(luck.uniform(0.5, 1.5))
                if luck.random() < 0.4:
                    firers.kill(luck.choice(firers.alive))
                await asyncio.to_thread(server.kill)
                await clock.sleep(luck.uniform(0.0, 0.5))
                await asyncio.to_thread(server.start)
                ups_us.append(clock.wall_us())
                await firers.start(2 - len(firers.alive))
            await until(clock, micros_of(start) + 2 * rounds * S)
            await wait_fired(mesh, 10 * rounds, timeout_s=30)
            async with asyncio.timeout(PATIENCE_S):
                while any(isinstance(one.rule, At) for one in await schedules.list()):
                    await clock.sleep(0.1)
            events = await fired(mesh)
    finally:
        await firers.end()
    assert list(range(10 * rounds)) == sorted(e.body["n"] for e in events if e.topic == "tea.ready")
    lates = sorted(e.stored_us - max(e.due_us, _last_up(ups_us, e)) for e in events)
    half, last = lates[len(lates) // 2] / S, lates[-1] / S
    print(f"{len(events)} events: half {half:.3f} s, last {last:.3f} s late")  # noqa: T201 - figures, with -s
    dues = [e.due_us for e in events if e.topic == "clock.tick"]
    assert sorted(set(dues)) == dues
    assert {0} == {(due - micros_of(start)) % S for due in dues}


def _last_up(ups_us: list[int], event: Fired) -> int:
    """Return when the server came up last before an event was stored."""
    return max(up_us for up_us in ups_us if up_us <= event.stored_us)
