"""When the log is slow, full or away it is the buffer that fills, and a policy that decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent99 import Mesh
from agent99.errors import (
    Agent99Error,
    DeadlineExceededError,
    Failure,
    RequestError,
    StreamFullError,
)
from agent99.systems.analytics import DataIngestionAgent, Ingested, IngestionOptions, IngestionStats
from agent99.systems.analytics._entries import Piece
from agent99.systems.analytics._shelf import LogShelf
from tests._wait import PATIENCE_S, eventually
from tests.groups.conftest import OpenMesh
from tests.systems.analytics._lines import LINES, batches_of, numbers_of, row


class Gate:
    """Stands before the log: closed, nothing is stored; or it fails as a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_open = asyncio.Event()
        self.errors: list[Agent99Error] = []
        """Raised instead, one after the other."""
        self.lost_answers: list[Agent99Error] = []
        """Raised though it is stored."""
        self.waiting = 0
        plain: Callable[[LogShelf, Piece], Any] = LogShelf.store

        async def store(shelf: LogShelf, piece: Piece) -> bool:
            self.waiting += 1
            try:
                await self.is_open.wait()
            finally:
                self.waiting -= 1
            if self.errors:
                raise self.errors.pop(0)
            is_new: bool = await plain(shelf, piece)
            if self.lost_answers:
                raise self.lost_answers.pop(0)
            return is_new

        monkeypatch.setattr(LogShelf, "store", store)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Give a gate, which is closed."""
    return Gate(monkeypatch)


class Caller:
    """Sends arrays of five records that are in one shard."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._number = 0

    def send(self, *, timeout_s: float = 60.0, batch_id: str = "") -> asyncio.Future[Ingested]:
        """Send the next five."""
        rows = [row(number * 5) for number in range(self._number, self._number + 5)]
        self._number += 5
        payload = {"data": rows, "batch_id": batch_id}
        how: dict[str, Any] = {"returns": Ingested, "timeout_s": timeout_s}
        return asyncio.ensure_future(self._mesh.request("data_ingestion", "ingest", payload, **how))

    async def stats(self) -> IngestionStats:
        """Return what the agent says of itself."""
        return await self._mesh.request("data_ingestion", "stats", {}, returns=IngestionStats)

    async def wait_for(self, condition: Callable[[IngestionStats], object]) -> None:
        """Return when its figures are as they should be."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition(await self.stats()):
                await asyncio.sleep(0)


async def fill(mesh: Mesh, **options: Any) -> tuple[Caller, list[asyncio.Future[Ingested]]]:
    """Host an agent that has room for ten records, and fill it."""
    given = IngestionOptions(buffer_records_max=10, **options)
    await mesh.host(DataIngestionAgent([LINES], options=given))
    caller = Caller(mesh)
    first = caller.send()
    await caller.wait_for(lambda stats: stats.buffer_size == 5)
    second = caller.send()
    await caller.wait_for(lambda stats: stats.buffer_size == 10)
    return caller, [first, second]


def stored(*batches: int) -> dict[int, int]:
    """Return the numbers of some of the arrays, each once."""
    return {number * 5: 1 for at in batches for number in range(at * 5, at * 5 + 5)}


async def code_of(sent: asyncio.Future[Ingested]) -> str:
    """Return how a request was refused."""
    with pytest.raises(RequestError) as caught:
        await sent
    return caught.value.code


async def test_block_has_the_caller_wait_for_room(mesh: Mesh, gate: Gate) -> None:
    """Its records are stored behind those that came before, and nobody is refused."""
    caller, sent = await fill(mesh)
    sent.append(caller.send())
    await caller.wait_for(lambda stats: stats.blocked == 1)
    gate.is_open.set()
    await asyncio.gather(*sent)
    [batch, *more] = [b.columns["number"] for b in await batches_of(mesh)]
    assert sorted(stored(0, 1, 2)) == batch + [number for numbers in more for number in numbers]
    assert {} == (await caller.stats()).refused


async def test_block_ends_at_the_callers_deadline(mesh: Mesh, gate: Gate) -> None:
    """Who can wait no longer is told in time that nothing is stored, and nothing will be."""
    caller, sent = await fill(mesh)
    refused = caller.send(timeout_s=0.4)
    assert "INGESTION_FULL" == await code_of(refused)
    gate.is_open.set()
    await asyncio.gather(*sent)
    assert stored(0, 1) == await numbers_of(mesh)
    assert {"INGESTION_FULL": 1} == (await caller.stats()).refused


async def test_those_who_wait_for_room_are_bounded_too(mesh: Mesh, gate: Gate) -> None:
    """No more waits for room than there is room: beyond it callers are told at once."""
    options = IngestionOptions(buffer_bytes_max=2_000)
    await mesh.host(DataIngestionAgent([LINES], options=options))
    caller = Caller(mesh)
    sent = [caller.send() for _ in range(20)]
    await caller.wait_for(lambda stats: sum(stats.refused.values()) + stats.blocked >= 15)
    gate.is_open.set()
    answers = await asyncio.gather(*sent, return_exceptions=True)
    full = [each for each in answers if isinstance(each, Failure)]
    kept = [at for at, each in enumerate(answers) if isinstance(each, Ingested)]
    assert {"INGESTION_FULL"} == {each.code for each in full}
    assert stored(*kept) == await numbers_of(mesh)


async def test_refuse_tells_the_caller_at_once(mesh: Mesh, gate: Gate) -> None:
    """Those that are in are stored; the one that is not is counted."""
    caller, sent = await fill(mesh, overflow="refuse")
    assert "INGESTION_FULL" == await code_of(caller.send())
    gate.is_open.set()
    await asyncio.gather(*sent)
    assert stored(0, 1) == await numbers_of(mesh)
    assert {"INGESTION_FULL": 1} == (await caller.stats()).refused


async def test_drop_oldest_makes_room_and_says_so(mesh: Mesh, gate: Gate) -> None:
    """The oldest that waits is not stored, and its caller knows; what is being stored is left."""
    caller, sent = await fill(mesh, overflow="drop_oldest")
    last = caller.send()
    assert "DROPPED" == await code_of(sent[1])
    gate.is_open.set()
    await asyncio.gather(sent[0], last)
    assert stored(0, 2) == await numbers_of(mesh)
    stats = await caller.stats()
    assert (5, 10, 0) == (stats.dropped, stats.records, stats.buffer_size)


async def test_a_batch_that_made_room_in_part_is_not_called_unstored(
    mesh: Mesh, gate: Gate
) -> None:
    """Where it is stored in one shard already its caller is told to repeat it: then it is whole."""
    options = IngestionOptions(buffer_records_max=10, overflow="drop_oldest")
    await mesh.host(DataIngestionAgent([LINES], options=options))
    caller = Caller(mesh)

    def send(numbers: range, batch_id: str = "") -> asyncio.Future[Ingested]:
        payload = {"data": [row(number) for number in numbers], "batch_id": batch_id}
        how: dict[str, Any] = {"returns": Ingested, "timeout_s": 60.0}
        return asyncio.ensure_future(mesh.request("data_ingestion", "ingest", payload, **how))

    first = send(range(1))  # its lane is under way
    await eventually(lambda: gate.waiting == 1)
    several = send(range(1, 9), "b")  # the lanes that were free are under way too
    await eventually(lambda: gate.waiting > 1)
    later = send(range(100, 110, 5))
    await caller.wait_for(lambda stats: stats.dropped)
    gate.is_open.set()
    assert "DEADLINE_EXCEEDED" == await code_of(several)
    await asyncio.gather(first, later)
    await send(range(1, 9), "b")
    assert dict.fromkeys([*range(9), 100, 105], 1) == await numbers_of(mesh)


async def test_an_array_larger_than_the_buffer_is_refused(mesh: Mesh, gate: Gate) -> None:
    """It would never have room, whoever waits."""
    gate.is_open.set()
    options = IngestionOptions(buffer_records_max=4)
    await mesh.host(DataIngestionAgent([LINES], options=options))
    assert "INGESTION_FULL" == await code_of(Caller(mesh).send())


# --- a log that does not store --------------------------------------------------------------------


async def test_a_full_log_is_tried_again(mesh: Mesh, gate: Gate) -> None:
    """What it refused waits, and is stored once there is room."""
    gate.errors = [StreamFullError("full") for _ in range(3)]
    gate.is_open.set()
    await mesh.host(DataIngestionAgent([LINES]))
    caller = Caller(mesh)
    await caller.send()
    assert stored(0) == await numbers_of(mesh)
    assert 3 == (await caller.stats()).retries


async def test_what_a_full_log_refused_until_nobody_waits_is_not_stored(
    mesh: Mesh, gate: Gate
) -> None:
    """The caller is told that it is not stored, and that stays so."""
    gate.errors = [StreamFullError("full") for _ in range(100)]
    gate.is_open.set()
    await mesh.host(DataIngestionAgent([LINES]))
    caller = Caller(mesh)
    assert "INGESTION_FULL" == await code_of(caller.send(timeout_s=0.4))
    gate.errors.clear()
    await caller.send()
    assert stored(1) == await numbers_of(mesh)
    await caller.wait_for(lambda stats: (stats.abandoned, stats.buffer_size) == (5, 0))


async def test_an_answer_that_is_lost_stores_nothing_twice(mesh: Mesh, gate: Gate) -> None:
    """Where it is unknown whether it is stored, it is stored again under the same id."""
    gate.lost_answers = [DeadlineExceededError("late")]
    gate.is_open.set()
    await mesh.host(DataIngestionAgent([LINES]))
    caller = Caller(mesh)
    await caller.send()
    assert stored(0) == await numbers_of(mesh)
    assert (1, 1) == ((await caller.stats()).retries, (await caller.stats()).repeated)


async def test_a_caller_is_told_that_it_is_unknown(mesh: Mesh, gate: Gate) -> None:
    """Who can wait no longer while it is being stored may ask again under the same id."""
    await mesh.host(DataIngestionAgent([LINES]))
    caller = Caller(mesh)
    assert "DEADLINE_EXCEEDED" == await code_of(caller.send(timeout_s=0.4, batch_id="b"))
    gate.is_open.set()
    caller = Caller(mesh)
    await caller.send(batch_id="b")
    assert stored(0) == await numbers_of(mesh)


# --- to a file ------------------------------------------------------------------------------------


async def test_spill_acknowledges_what_is_in_the_file(
    mesh: Mesh, gate: Gate, tmp_path: Path
) -> None:
    """The caller need not wait for the log; there it comes once, in its order."""
    url = f"sqlite:///{tmp_path}/spill.db"
    caller, sent = await fill(mesh, overflow="spill", spill_url=url)
    for _ in range(4):
        await caller.send()
    await caller.send(batch_id="b")
    stats = await caller.stats()
    assert (25, 5) == (stats.spilled, stats.spilled_waiting)
    gate.is_open.set()
    await asyncio.gather(*sent)
    await caller.wait_for(lambda stats: stats.spilled_waiting == 0)
    numbers = [n for batch in await batches_of(mesh) for n in batch.columns["number"]]
    assert sorted(stored(*range(7))) == numbers
    await caller.send()
    assert 25 == (await caller.stats()).spilled


async def test_a_batch_that_lies_in_the_file_is_known_when_it_comes_again(
    mesh: Mesh, gate: Gate, tmp_path: Path
) -> None:
    """Same id, same records: there once. Same id, other records: refused."""
    url = f"sqlite:///{tmp_path}/spill.db"
    caller, sent = await fill(mesh, overflow="spill", spill_url=url)
    for _ in range(2):
        payload = {"data": [row(50)], "batch_id": "b"}
        await mesh.request("data_ingestion", "ingest", payload)
    assert 1 == (await caller.stats()).spilled_waiting
    assert "IDEMPOTENCY_CONFLICT" == await code_of(caller.send(batch_id="b"))
    gate.is_open.set()
    await asyncio.gather(*sent)
    await caller.wait_for(lambda stats: stats.spilled_waiting == 0)
    assert stored(0, 1) | {50: 1} == await numbers_of(mesh)


async def test_a_file_has_a_bound_too(mesh: Mesh, gate: Gate, tmp_path: Path) -> None:
    """Beyond it callers are told that it is full."""
    url = f"sqlite:///{tmp_path}/spill.db"
    caller, _ = await fill(mesh, overflow="spill", spill_url=url, spill_bytes_max=700)
    await caller.send()
    assert "INGESTION_FULL" == await code_of(caller.send())
    gate.is_open.set()


async def test_who_comes_after_stores_what_lies_in_the_file(
    open_mesh: OpenMesh, gate: Gate, tmp_path: Path
) -> None:
    """What was acknowledged outlasts its process."""
    url = f"sqlite:///{tmp_path}/spill.db"
    first, second = await open_mesh(), await open_mesh()
    caller, sent = await fill(first, overflow="spill", spill_url=url)
    await caller.send()
    for each in sent:
        each.cancel()
    await first.aclose()
    gate.is_open.set()
    options = IngestionOptions(overflow="spill", spill_url=url)
    await second.host(DataIngestionAgent([LINES], options=options))
    caller = Caller(second)
    await caller.wait_for(lambda stats: stats.spilled_waiting == 0)
    assert stored(2).items() <= (await numbers_of(second)).items()


async def test_the_file_is_of_sqlite(mesh: Mesh) -> None:
    """It is for one instance, and on its own machine."""
    options = IngestionOptions(overflow="spill", spill_url="postgresql://nobody@nowhere/none")
    with pytest.raises(Agent99Error, match="SQLite"):
        await mesh.host(DataIngestionAgent([LINES], options=options))
