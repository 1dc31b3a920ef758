"""Stored work while agents, relay and server are killed: nothing acknowledged is lost (F13)."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent99 import Mesh
from agent99.envelope import decode_header, split_message
from agent99.errors import Agent99Error
from agent99.ids import SystemIds
from agent99.journal import JetStreamJournal
from agent99.store import Transaction, open_store
from tests._faults import Fault, Figure
from tests._nats_server import NatsServer
from tests.campaigns._load import last
from tests.campaigns._worker import FAULTS, OPTIONS, TABLES, store_url
from tests.work._relays import connected

ROOT = Path(__file__).parents[2]
WORKERS = 2
KEYS = 4
QUIET_S = 90.0
"""So long what was stored may take until it is done, once nothing is killed any more."""
SECONDS = [
    pytest.param(12, id="short", marks=pytest.mark.slow),
    pytest.param(60, id="full", marks=pytest.mark.chaos),
]
Numbers = dict[str, list[int]]


class Found(msgspec.Struct):
    """What there is at last."""

    effects: dict[str, list[int]]
    """Numbers by kind, in the order of the effects."""
    keys: dict[int, str]
    """Of rows, in the order of their transactions."""
    events: dict[str, list[tuple[str, str, int]]]
    """Id, key and number, by topic, in the order of the stream."""
    quarantined: set[int]
    waiting: int
    """Rows of the outbox."""

    def numbers(self, topic: str) -> set[int]:
        """Return those of a topic's events."""
        return {number for _, _, number in self.events.get(topic, ())}


class Campaign:
    """Two workers and a server, one of them killed again and again, under load."""

    def __init__(self, server: NatsServer, folder: Path, seed: int, fault: str = "none") -> None:
        self.acked: Numbers = defaultdict(list)
        self.kills: Counter[str] = Counter()
        self._server, self._folder, self._fault = server, folder, fault
        self._luck = random.Random(seed)
        self._mesh_name = f"c{SystemIds().token().decode()[:10]}"
        self._running: list[asyncio.subprocess.Process] = []
        self._numbers = count(1)
        self._is_ending = False

    async def run(self, seconds: float) -> Found:
        """Kill for so long, then let everything come to its end; return what there is."""
        try:
            return await self._run(seconds)
        finally:
            for process in self._running:
                process.kill()
                await process.communicate()

    async def _run(self, seconds: float) -> Found:
        while len(self._running) < WORKERS:  # the first one makes the tables
            await self._start()
        async with Mesh(self._server.url, mesh=self._mesh_name) as mesh:
            lanes = [lane for key in range(KEYS) for lane in self._lanes(mesh, f"k{key}")]
            load = asyncio.gather(*lanes)
            until_s = time.monotonic() + seconds
            while time.monotonic() < until_s:
                await last(self._luck.uniform(0.3, 1.5))
                await self._kill_one()
            self._is_ending = True
            await load
            return await self._end(mesh)

    async def _start(self) -> None:
        words = ("-m", "tests.campaigns._worker", self._server.url, self._mesh_name)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *words,
            str(self._folder),
            self._fault,
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        self._running.append(process)
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        assert line == b"works\n", "a worker ended by itself"

    async def _kill_one(self) -> None:
        if self._luck.random() < 0.25:
            self.kills["server"] += 1
            await asyncio.to_thread(self._server.kill)
            await last(self._luck.choice((0.0, 0.5)))
            await asyncio.to_thread(self._server.start)
            return
        self.kills["worker"] += 1
        victim = self._running.pop(self._luck.randrange(len(self._running)))
        victim.kill()
        await victim.communicate()
        await self._start()

    def _lanes(self, mesh: Mesh, key: str) -> list[Awaitable[None]]:
        def append(number: int) -> Awaitable[str]:
            return mesh.append("event.made", {"number": number, "key": key}, key=key)

        def post(number: int) -> Awaitable[str]:
            return mesh.post("hand", "work", {"number": number})

        def trade(number: int) -> Awaitable[str]:
            return mesh.post("hand", "trade", {"number": number, "key": key})

        calls = {"event": append, "job": post, "row": trade}
        return [self._lane(kind, call) for kind, call in calls.items()]

    async def _lane(self, kind: str, call: Callable[[int], Awaitable[str]]) -> None:
        """Store one after the other, and note what was acknowledged."""
        while not self._is_ending:
            number = next(self._numbers)
            try:
                await call(number)
            except Agent99Error:
                continue  # nobody was promised anything
            self.acked[kind].append(number)
            await last(0.02)

    async def _end(self, mesh: Mesh) -> Found:
        """Wait until nothing is left to do, or nothing comes of it."""
        until_s = time.monotonic() + QUIET_S
        options = msgspec.structs.replace(OPTIONS, rows_max=10_000_000)
        store = open_store(store_url(self._folder), migrations=TABLES, options=options)
        async with store, connected(mesh.url) as wire:
            journal = JetStreamJournal(wire)
            while not await self._is_quiet(journal) or (await store.outbox.counts()).waiting:
                if time.monotonic() > until_s:
                    break
                await last(0.5)
            found = await store.read(_find)
            found.waiting = (await store.outbox.counts()).waiting
            await _read_events(journal, f"A99_{mesh.name}_LOG", found)
        async for record in mesh.quarantine.records():
            found.quarantined.add(_number_of(record.body)["number"])
        return found

    async def _is_quiet(self, journal: JetStreamJournal) -> bool:
        log = f"A99_{self._mesh_name}_LOG"
        jobs = await journal.stream_state(f"A99_{self._mesh_name}_JOB_hand")
        states = await journal.consumers(log)
        return not jobs.messages and not any(one.pending or one.in_flight for one in states)


def _find(transaction: Transaction) -> Found:
    effects: dict[str, list[int]] = defaultdict(list)
    keys: dict[int, str] = {}
    for row in transaction.execute("SELECT kind, number, key FROM effect ORDER BY place"):
        effects[row.kind].append(row.number)
        if row.kind == "row":
            keys[row.number] = row.key
    return Found(effects, keys, defaultdict(list), set(), 0)


async def _read_events(journal: JetStreamJournal, stream: str, found: Found) -> None:
    state = await journal.stream_state(stream)
    for sequence in range(state.first_sequence, state.last_sequence + 1):
        record = await journal.get(stream, sequence)
        assert record is not None
        header, what = decode_header(record.payload), _number_of(record.payload)
        topic = header.to_uuid.partition(".")[0]
        found.events[topic].append((header.event_uuid, what["key"], what["number"]))


def _number_of(message: bytes) -> dict[str, Any]:
    what: dict[str, Any] = msgspec.json.decode(split_message(message)[1])
    return what


def _twice(numbers: list[int]) -> set[int]:
    return {number for number, times in Counter(numbers).items() if times > 1}


def findings(acked: Numbers, found: Found) -> dict[str, set[int]]:
    """Return what is wrong, in words, and the numbers for which it is."""
    done = {kind: set(numbers) for kind, numbers in found.effects.items()}
    done = defaultdict(set, done)
    rows, noted = done["row"], done["noted event"] | done["noted row"]
    stored = found.numbers("event") | found.numbers("row")
    promised = set(acked["event"]) | set(acked["job"]) | set(acked["row"])
    ids = {event for events in found.events.values() for event in events}  # a repeated one is one
    return {
        "acknowledged, and not stored": set(acked["event"]) - found.numbers("event"),
        "acknowledged, and not done": promised - done["job"] - rows - noted - found.quarantined,
        "an outbox row that is not in the stream": rows - found.numbers("row"),
        "an event without an effect": found.numbers("row") - rows,
        "stored, and not followed": stored - noted - found.quarantined,
        "two events": _twice([number for _, _, number in ids]),
        "two effects": set().union(*(_twice(numbers) for numbers in found.effects.values())),
        "out of order": _out_of_order(acked, found),
    }


def _followed_late(found: Found) -> int:
    """Count the effects that came after that of a later event of their key.

    Instances that share the work keep the order each for itself, and not past a crash.
    """
    latest: Counter[tuple[str, str]] = Counter()
    late = 0
    for topic, events in found.events.items():
        places = {number: (key, place) for place, (_, key, number) in enumerate(events)}
        for number in found.effects.get(f"noted {topic}", ()):
            key, place = places.get(number, ("", 0))
            late += place < latest[topic, key]
            latest[topic, key] = max(place, latest[topic, key])
    return late


def _out_of_order(acked: Numbers, found: Found) -> set[int]:
    """Return the numbers that stand in the stream before one that came earlier, of their keys."""
    places = {number: place for place, number in enumerate(found.effects.get("row", ()))}
    places |= {number: number for number in acked["event"]}
    by_key: dict[tuple[str, str], dict[int, None]] = defaultdict(dict)
    for topic, events in found.events.items():
        for _, key, number in events:
            if number in places:
                by_key[topic, key].setdefault(number)  # of a repeated one the first counts
    pairs = (pair for numbers in by_key.values() for pair in pairwise(numbers))
    return {second for first, second in pairs if places[first] > places[second]}


@pytest.mark.fault("F13", "kill -9 agents, relay and server at random under stored work")
@pytest.mark.parametrize("seconds", SECONDS)
async def test_what_is_acknowledged_is_done_once(
    start_nats_server: Callable[..., NatsServer],
    tmp_path: Path,
    fault: Fault,
    seed: int,
    seconds: int,
) -> None:
    """Whoever is killed: appends, posts and rows are stored in order per key, and done once."""
    campaign = Campaign(start_nats_server(), tmp_path, seed)
    found = await campaign.run(seconds)
    kills = campaign.kills
    fault.report(
        Figure("workers killed", kills["worker"], at_least=3),
        Figure("servers killed", kills["server"]),
        *(Figure(f"acknowledged: {kind}", len(n)) for kind, n in sorted(campaign.acked.items())),
        Figure("in quarantine", len(found.quarantined)),
        Figure("followed after a later one of its key", _followed_late(found)),
        Figure("rows that wait", found.waiting, at_most=0),
        *(
            Figure(what, len(numbers), at_most=0)
            for what, numbers in findings(campaign.acked, found).items()
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize(("planted", "expected"), FAULTS.items())
async def test_planted_faults_are_found(
    start_nats_server: Callable[..., NatsServer],
    tmp_path: Path,
    seed: int,
    planted: str,
    expected: str,
) -> None:
    """The campaign can fail: what is acknowledged or published too early is found."""
    found: dict[str, set[int]] = {}
    for turn in range(3):
        folder = tmp_path / str(turn)
        folder.mkdir()
        campaign = Campaign(start_nats_server(), folder, seed + turn, planted)
        found = findings(campaign.acked, await campaign.run(6))
        if found[expected]:
            return
    pytest.fail(f"nobody noticed: {planted}; found at last: {found}")
