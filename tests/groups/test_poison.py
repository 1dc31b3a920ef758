"""Events that always fail: other keys do not wait for them, and none of them is lost (V5)."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from math import ceil
from pathlib import Path

import msgspec
import pytest

from agent99 import Mesh
from agent99.clock import SystemClock
from agent99.groups import Event, EventGroup, EventOptions
from agent99.ids import SystemIds
from agent99.work import Curve
from tests._faults import Fault, Figure
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.cli._cli import Cli
from tests.groups.conftest import delete_streams

KEYS = 200
ROUND = 1_000
"""Events of one measurement, five of each key."""
POISON = ROUND // 100
ROUNDS = 6
"""Of so many measurements the best counts: a busy machine has its moments."""
AT_ONCE = 5
ATTEMPTS_MAX = 3
FACTOR_MAX = 3.0
NOISE_MS = 2.0
RATE = 50
OPTIONS = EventOptions(
    commit_s=0.2,
    curve=Curve(attempts_max=ATTEMPTS_MAX, delay_s=0.2, delay_s_max=0.4, timeout_s=5.0),
)
_wall_us = SystemClock().wall_us


class Numbered(msgspec.Struct):
    """What is appended."""

    number: int
    is_poison: bool


class Mill:
    """Handles events, until it is mended not those that are poison."""

    def __init__(self) -> None:
        self.done: dict[str, list[int]] = defaultdict(list)
        """Numbers by key, in the order in which they were done."""
        self.took_us: dict[int, int] = {}
        """From when an event was stored until it was done, by number."""
        self.is_mended = False

    async def handle(self, event: Event) -> None:
        """Do it, or break."""
        what = event.decode(Numbered)
        if what.is_poison and not self.is_mended:
            raise ValueError(f"number {what.number} is poison")
        self.done[event.subject].append(what.number)
        self.took_us[what.number] = _wall_us() - event.stored_us


class Load:
    """Numbered events of all keys, in turn."""

    def __init__(self, mesh: Mesh, mill: Mill, luck: random.Random) -> None:
        self.count = 0
        self.poison: dict[int, str] = {}
        """The keys of what is poison, by number."""
        self._mesh, self._mill, self._luck = mesh, mill, luck

    async def round(self, poison: int) -> float:
        """Append events, some of them poison; returns the p99 of keys without, in seconds."""
        first, last = self.count, self.count + ROUND
        bad = set(self._luck.sample(range(first, last), poison))
        self.poison |= {number: _key(number) for number in bad}
        bad_keys = set(map(_key, bad))
        good = [number for number in range(first, last) if _key(number) not in bad_keys]
        for number in range(first, last, AT_ONCE):
            each = range(number, number + AT_ONCE)
            await asyncio.gather(*(self._append(one, is_poison=one in bad) for one in each))
        self.count = last
        await eventually(lambda: all(one in self._mill.took_us for one in good))
        took_us = sorted(self._mill.took_us[number] for number in good)
        return took_us[ceil(0.99 * len(took_us)) - 1] / 1e6

    async def _append(self, number: int, *, is_poison: bool) -> None:
        event = Numbered(number, is_poison)
        await self._mesh.append("order.placed", event, key=_key(number))


def _key(number: int) -> str:
    return f"k{number % KEYS}"


@pytest.fixture
async def mesh(nats_server: NatsServer) -> AsyncIterator[Mesh]:
    """Give a mesh of the test's own."""
    async with Mesh(nats_server.url, mesh=f"t{SystemIds().token().decode()[:12]}") as made:
        yield made
    await delete_streams(nats_server.url, made.name)


@pytest.mark.slow
@pytest.mark.fault("V5", "1 % of the events of 200 keys always fail")
async def test_poison_among_events(mesh: Mesh, tmp_path: Path, fault: Fault, seed: int) -> None:
    """Other keys are as quick; all of it is in quarantine with its reason, and is done once mended.

    What comes afterwards of its keys comes behind it, in order.
    """
    mill = Mill()
    load = Load(mesh, mill, random.Random(seed))
    cli = Cli(tmp_path / "project")
    where = ("--url", mesh.url, "--mesh", mesh.name)
    chosen = ("--where", "capability=mill, reason=attempts", *where)
    async with EventGroup(mesh, "mill", [">"], mill.handle, options=OPTIONS) as group:
        await load.round(0)  # to get warm
        rounds = [(await load.round(0), await load.round(POISON)) for _ in range(ROUNDS)]
        before_s, beside_s = map(min, zip(*rounds, strict=True))
        poison = len(load.poison)
        await eventually(lambda: group.statistics().buried == poison)
        await eventually(lambda: sum(map(len, mill.done.values())) == load.count - poison)
        kept = [one async for one in mesh.quarantine.records()]
        mill.is_mended = True
        dry = await asyncio.to_thread(cli.run, "quarantine", "redrive", *chosen, "--dry-run")
        left_dry = [one async for one in mesh.quarantine.records()]
        other = ("--where", "capability=mill, code=OTHER", *where)
        await asyncio.to_thread(cli.run, "quarantine", "redrive", *other)
        left_other = [one async for one in mesh.quarantine.records()]
        began_us = _wall_us()
        done = await asyncio.to_thread(
            cli.run, "quarantine", "redrive", *chosen, "--rate", str(RATE)
        )
        took_s = (_wall_us() - began_us) / 1e6
        await load.round(0)
        await eventually(lambda: sum(map(len, mill.done.values())) == load.count)
        left = [one async for one in mesh.quarantine.records()]
    assert (0, 0) == (dry.code, done.code), dry.err + done.err
    assert {_key(n) for n in load.poison} == {one.key for one in kept}
    good = {key: [one for one in done if one not in load.poison] for key, done in mill.done.items()}
    late = [
        number
        for number, key in load.poison.items()
        if mill.done[key].index(number) > mill.done[key].index(_first_after(load, number))
    ]
    fault.report(
        Figure("events", load.count),
        Figure("poison among them", poison),
        Figure("p99 of a key without poison, alone", before_s * 1e3, "ms"),
        Figure(
            "p99 of a key without poison, beside it",
            beside_s * 1e3,
            "ms",
            at_most=round(FACTOR_MAX * before_s * 1e3 + NOISE_MS, 2),
        ),
        Figure("in quarantine", len(kept), at_least=poison, at_most=poison),
        Figure(
            "of them without reason, traceback or attempts",
            sum(
                (one.reason, one.attempts) != ("attempts", ATTEMPTS_MAX)
                or "is poison" not in one.message
                or "raise ValueError" not in one.traceback
                for one in kept
            ),
            at_most=0,
        ),
        Figure("moved by a dry run", poison - len(left_dry), at_most=0),
        Figure("moved that does not fit the filter", poison - len(left_other), at_most=0),
        Figure("redriven a second", poison / took_s, at_most=RATE),
        Figure("left in quarantine", len(left), at_most=0),
        Figure("done twice", _twice(mill), at_most=0),
        Figure("others out of order", sum(sorted(one) != one for one in good.values()), at_most=0),
        Figure("redriven, and behind what came afterwards", len(late), at_most=0),
    )


def _first_after(load: Load, number: int) -> int:
    """Return the first event of a key that was appended after everything was redriven."""
    return load.count - ROUND + number % KEYS


def _twice(mill: Mill) -> int:
    return sum(len(done) - len(set(done)) for done in mill.done.values())
