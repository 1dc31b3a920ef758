"""What stored work keeps when it is interrupted, given back, malformed, or too much."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent99 import Agent, Mesh, Settings, follow, job, named, operation
from agent99.envelope import Name
from agent99.errors import StreamFullError
from agent99.ids import SystemIds
from agent99.journal import Journal
from tests._nats_server import NatsServer
from tests._wait import PATIENCE_S, eventually
from tests.agent.conftest import OpenMesh
from tests.agent.test_durable import buried, durable_of, until_buried

SLOW: dict[str, Any] = {"attempts_max": 3, "delay_s": 30.0, "delay_s_max": 30.0}


class Reader(Agent):
    """Follows, one after the other, and fails where it is told."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.failed: list[int] = []
        self.bad: set[int] = set()
        self.gate = asyncio.Event()
        self.gate.set()

    @follow("page.*", **SLOW)
    async def read(self, number: int) -> None:
        """Read it, or fail."""
        await self.gate.wait()
        if number in self.bad:
            self.failed.append(number)
            raise ValueError(number)
        self.seen.append(number)


class Yard(Agent):
    """Works, as many at once as it may."""

    capabilities = ("yard", "field")
    concurrency_max = 2
    waiting_max = 1

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.done = 0

    @job
    async def dig(self) -> None:
        """Work until the gate opens."""
        await self.gate.wait()
        self.done += 1

    @job
    async def plough(self) -> None:
        """Work until the gate opens."""
        await self.gate.wait()
        self.done += 1

    @job(attempts_max=1)
    async def boast(self) -> str:
        """Return more than any message may hold."""
        self.done += 1
        return "x" * 2_000_000

    @job(attempts_max=1, timeout_s=0.05)
    async def hurry(self) -> None:
        """Take longer than it may."""
        await self.gate.wait()

    @operation
    async def ask(self) -> str:
        """Answer."""
        return "here"


async def _append(client: Mesh, *numbers: int) -> None:
    for number in numbers:
        await client.append("page.turned", {"number": number}, key="k")


async def _until_in_hand(reader: Reader, count: int) -> None:
    running = reader._running
    assert running is not None
    await eventually(lambda: running.duties.workers[0].statistics().in_hand == count)


async def _until_all_wait(reader: Reader, count: int) -> None:
    """Wait until so many are in hand, the first of them to be tried again."""
    await _until_in_hand(reader, count)
    running = reader._running
    assert running is not None
    await eventually(lambda: running.duties.workers[0]._waits)


def _journal(mesh: Mesh) -> Journal:
    return durable_of(mesh).parts.journal


async def test_a_pause_keeps_the_order_of_a_key(client: Mesh, mesh: Mesh) -> None:
    """What is behind an event that failed is given back with it, and comes after it again."""
    reader = Reader()
    reader.bad = {1}
    await mesh.host(reader)
    await _append(client, 1, 2, 3, 4, 5)
    await eventually(lambda: reader.failed == [1])
    await _until_all_wait(reader, 5)
    await client.control(named("reader"), "pause")
    assert ([], [1]) == (reader.seen, reader.failed)
    reader.bad.clear()
    await client.control(named("reader"), "resume")
    await _append(client, 6)
    await eventually(lambda: len(reader.seen) == 6)
    assert [1, 2, 3, 4, 5, 6] == reader.seen


async def test_a_stop_keeps_the_order_of_a_key(client: Mesh, mesh: Mesh) -> None:
    """The next instance begins with the event that failed."""
    first, second = Reader(), Reader()
    first.bad = {1}
    await mesh.host(first)
    await _append(client, 1, 2, 3, 4, 5)
    await eventually(lambda: first.failed == [1])
    await _until_all_wait(first, 5)  # what it has not read yet is given back at once, before these
    await mesh.stop(first)
    assert [] == first.seen
    await mesh.host(second)
    await eventually(lambda: len(second.seen) == 5)
    assert [1, 2, 3, 4, 5] == second.seen


async def test_what_is_given_back_untried_loses_no_attempt(client: Mesh, mesh: Mesh) -> None:
    """However often its agent is stopped meanwhile: it is done, not given up."""
    await _append(client, *range(20))
    seen: list[int] = []
    for _ in range(6):  # of three attempts
        reader = Reader()
        reader.gate.clear()
        await mesh.host(reader)
        await _until_in_hand(reader, 20 - len(seen))
        stopping = asyncio.ensure_future(mesh.stop(reader))
        await asyncio.sleep(0)
        reader.gate.set()
        await stopping
        seen += reader.seen
        if len(seen) == 20:
            break
    last = Reader()
    await mesh.host(last)
    await eventually(lambda: len({*seen, *last.seen}) == 20)
    assert list(range(20)) == [*seen, *last.seen]
    assert [] == await buried(client)


async def test_what_is_no_event_is_quarantined_and_holds_up_nobody(
    client: Mesh, mesh: Mesh
) -> None:
    """More of it than an instance may have in hand, under subjects that only look like ours."""
    journal, reader = _journal(client), Reader()
    await _append(client, 1)
    prefix = f"a99.{client.name}.log"
    for number in range(Reader.concurrency_max + 5):
        await journal.append(f"{prefix}.zz.me.k.page.turned", b"{}", message_id=f"bad{number}")
    await _append(client, 2)
    await mesh.host(reader)
    await eventually(lambda: reader.seen == [1, 2])
    found = await until_buried(client, Reader.concurrency_max + 5)
    assert {("unreadable", 0, b"{}")} == {(one.reason, one.attempts, one.body) for one in found}


async def test_stored_work_leaves_the_queue_to_those_who_ask(client: Mesh, mesh: Mesh) -> None:
    """However much of it there is: a request waits for a place, and is not refused."""
    yard = Yard()
    await mesh.host(yard)
    await client.wait_for("yard", "field")
    for number in range(24):
        capability, what = ("yard", "field")[number % 2], ("dig", "plough")[number // 2 % 2]
        await client.post(capability, what)
    running = yard._running
    assert running is not None
    await eventually(lambda: running.dispatcher.statistics().in_flight == 2)
    asking = asyncio.ensure_future(client.request("yard", "ask", timeout_s=5))
    await eventually(lambda: running.dispatcher.statistics().waiting == 1)
    yard.gate.set()
    assert "here" == await asking
    await eventually(lambda: yard.done == 24)


async def test_nobody_looks_at_what_a_job_returns(client: Mesh, mesh: Mesh) -> None:
    """It is done once, however large that is."""
    yard = Yard()
    await mesh.host(yard)
    await client.wait_for("yard")
    await client.post("yard", "boast")

    async def left() -> int:
        return sum(one.left for one in await client.ledger.jobs(Name("yard")))

    async with asyncio.timeout(PATIENCE_S):
        while await left():
            await asyncio.sleep(0)
    assert (1, []) == (yard.done, await buried(client))


async def test_a_job_has_the_time_that_it_was_given(client: Mesh, mesh: Mesh) -> None:
    """An attempt that takes longer has failed."""
    await mesh.host(Yard())
    await client.wait_for("yard")
    await client.post("yard", "hurry")
    found = await until_buried(client)
    assert ("attempts", "DEADLINE_EXCEEDED") == (found[0].reason, found[0].code)


async def test_a_record_that_several_redrive_at_once_is_stored_once(
    client: Mesh, mesh: Mesh, open_mesh: OpenMesh
) -> None:
    """The others are told so, and nothing of it stays in quarantine."""
    yard = Yard()
    await mesh.host(yard)
    await client.wait_for("yard")
    await client.post("yard", "hurry")
    found = await until_buried(client)
    await mesh.stop(yard)
    other = await open_mesh()
    asked = [each.quarantine.redrive(found[0]) for each in (client, other, client)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert 1 == outcomes.count(None)
    (count,) = await client.ledger.jobs(Name("yard"))
    assert (2, 1, 0) == (count.stored, count.left, count.quarantined)
    with pytest.raises(Exception, match="already"):
        raise next(one for one in outcomes if one is not None)


async def test_an_agent_whose_events_are_refused_says_so(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    """It is degraded, by name of the stream that is full, until that takes something again."""
    settings = Settings(
        project=tmp_path,
        state_folder=tmp_path,
        url=nats_server.url,
        mesh=f"t{SystemIds().token().decode()[:12]}",
        log_bytes_max=1_048_576,
    )
    async with Mesh(settings=settings) as mesh, Mesh(settings=settings) as client:
        yard = Yard()
        await mesh.host(yard)
        await client.wait_for("yard")
        page = {"text": "x" * 200_000}
        for _ in range(4):
            await yard.append("page.turned", page)
        outcomes = [yard.append("page.turned", page) for _ in range(3)]
        *_, last = await asyncio.gather(*outcomes, return_exceptions=True)
        assert isinstance(last, StreamFullError)
        stream = f"A99_{mesh.name}_LOG"

        async def about() -> tuple[str, tuple[str, ...]]:
            (status,) = (await client.control(named("yard"), "status")).results
            (peer,) = await client.discover("yard")
            assert status["full"] == list(peer.description.full)
            return status["state"], peer.description.full

        await eventually(lambda: bool(client.peers()[0].description.full))
        assert ("degraded", (stream,)) == await about()
        for record in range(1, 4):
            await _journal(client).delete(stream, record)
        await yard.append("page.turned", page)
        await eventually(lambda: not client.peers()[0].description.full)
        assert ("ready", ()) == await about()
