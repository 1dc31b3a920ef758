"""Workers where work ends badly: processes die, handlers last, streams are not there."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from agent99 import Agent, Mesh, follow, job
from agent99.envelope import Header, Name, Subjects, encode_message
from agent99.ids import SystemIds
from agent99.journal import JetStreamJournal, Journal, StreamConfig
from agent99.work import jobs_for
from agent99.work._streams import ADVISORIES
from tests._nats_server import NatsServer
from tests._wait import PATIENCE_S, eventually
from tests.work._fragile import ATTEMPTS_MAX, with_ack_wait
from tests.work._relays import connected

ROOT = Path(__file__).parents[2]


class Slow(Agent):
    """Works for as long as its gate is shut."""

    capabilities = ("slow",)

    def __init__(self) -> None:
        self.begun = self.ended = self.cancelled = 0
        self.gate = asyncio.Event()

    @job(attempts_max=3, delay_s=0.01)
    async def work(self) -> None:
        """Wait for the gate."""
        self.begun += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.ended += 1


@pytest.fixture
async def mesh(nats_server: NatsServer) -> AsyncIterator[Mesh]:
    """Give a mesh of the test's own on the shared server."""
    async with Mesh(nats_server.url, mesh=f"w{SystemIds().token().decode()[:10]}") as made:
        yield made


async def until_gone(mesh: Mesh, journal: Journal, folder: Path, how: str) -> None:
    """Start an agent again whenever it died, until no work for it is stored."""
    words = ("-m", "tests.work._fragile", mesh.url, mesh.name, str(folder), how)
    stream = f"A99_{mesh.name}_JOB_fragile"
    while (await journal.stream_state(stream)).messages:
        process = await asyncio.create_subprocess_exec(sys.executable, *words, cwd=ROOT)
        try:
            while (await journal.stream_state(stream)).messages and process.returncode is None:
                await asyncio.sleep(0)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.mark.slow
@pytest.mark.parametrize(("how", "attempts"), [("bury", 2), ("cannot bury", 5)])
async def test_work_that_kills_its_process_ends_in_quarantine(
    mesh: Mesh, tmp_path: Path, how: str, attempts: int
) -> None:
    """After its attempts, each of them made once; by the server's notice where nobody buries it."""
    posted = await mesh.post("fragile", "die")
    async with connected(mesh.url) as wire, asyncio.timeout(60):
        await until_gone(mesh, JetStreamJournal(wire), tmp_path, how)
    (record,) = [record async for record in mesh.quarantine.records()]
    assert (posted, "attempts", "HANDLER_ERROR", attempts) == (
        record.id, record.reason, record.code, record.attempts
    )  # fmt: skip
    assert ATTEMPTS_MAX == (tmp_path / "begun").read_text().splitlines().count("die")


@pytest.mark.slow
async def test_work_that_lasts_is_not_done_twice(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker keeps it, for several times as long as the server waits for a sign."""
    monkeypatch.setattr("agent99.work.jobs_for", with_ack_wait(jobs_for, 0.3))
    first, second = Slow(), Slow()
    await mesh.host(first)
    await mesh.post("slow", "work")
    await eventually(lambda: first.begun == 1)
    async with Mesh(mesh.url, mesh=mesh.name) as other:
        await other.host(second)
        with pytest.raises(AssertionError, match="not within"):
            await eventually(lambda: first.begun + second.begun > 1, timeout_s=2)
        first.gate.set()
        await eventually(lambda: first.ended == 1)
        assert (1, 0) == (first.begun, second.begun)


async def test_what_is_not_finished_at_the_end_is_given_back(mesh: Mesh) -> None:
    """At once, and not when the server has waited for a sign; its handler is cancelled."""
    first, second = Slow(), Slow()
    second.gate.set()
    await mesh.host(first)
    await mesh.post("slow", "work")
    await eventually(lambda: first.begun == 1)
    async with Mesh(mesh.url, mesh=mesh.name) as other:
        await other.host(second)
        running = first._running
        assert running is not None
        await running.duties.leave()
        assert await running.duties.finish(0.05) is False
        await eventually(lambda: second.ended == 1)
        first.gate.set()
        await mesh.stop(first)
    assert (0, 1) == (first.ended, first.cancelled)


async def test_a_redriven_event_that_the_server_gave_up_on_is_buried(mesh: Mesh) -> None:
    """By its notice, also where an agent follows and takes no jobs."""

    class Reader(Agent):
        """Follows alone."""

        @follow("page.*")
        async def read(self) -> None:
            """Do nothing."""

    header = Header(
        type="event", from_uuid="me", to_uuid="page.turned", event_uuid="e1", timestamp=1
    )
    subject = Subjects(mesh.name, "me").job(Name("reader"), Name("gone"))
    stream = f"A99_{mesh.name}_JOB_reader"
    await mesh.host(Reader())
    async with connected(mesh.url) as wire, asyncio.timeout(PATIENCE_S):
        journal = JetStreamJournal(wire)
        while ADVISORIES not in [one.config.name for one in await journal.streams()] or (
            stream not in [one.config.name for one in await journal.streams()]
        ):
            await asyncio.sleep(0)
        stored = await journal.append(subject, encode_message(header, b"{}"), message_id="e1")
        notice = {"stream": stream, "stream_seq": stored.sequence, "deliveries": 8}
        wire.publish(
            f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{stream}.gone".encode(),
            msgspec.json.encode(notice),
        )
        while not (found := [record async for record in mesh.quarantine.records()]):
            await asyncio.sleep(0)
    assert ("reader", "gone", "e1", 8) == (
        found[0].capability, found[0].operation, found[0].id, found[0].attempts
    )  # fmt: skip


@pytest.mark.slow
async def test_what_is_beside_work_that_kills_its_process_is_done(
    mesh: Mesh, tmp_path: Path
) -> None:
    """However often it dies: what comes again is tried alone, and only the killer is given up."""
    innocent = [await mesh.post("fragile", "live") for _ in range(12)]
    killer = await mesh.post("fragile", "die")
    innocent += [await mesh.post("fragile", "live") for _ in range(12)]
    async with connected(mesh.url) as wire, asyncio.timeout(90):
        await until_gone(mesh, JetStreamJournal(wire), tmp_path, "bury")
    assert [killer] == [record.id async for record in mesh.quarantine.records()]
    lived = (tmp_path / "ended").read_text().split()
    assert sorted(innocent) == sorted(set(lived))


async def test_work_that_is_cut_short_by_a_stop_loses_no_attempt(mesh: Mesh) -> None:
    """However often: it began, and nobody can tell that it would have failed."""
    await mesh.post("slow", "work")
    for _ in range(5):  # of three attempts
        agent = Slow()
        async with Mesh(mesh.url, mesh=mesh.name) as other:
            await other.host(agent)
            await eventually(lambda agent=agent: agent.begun == 1)  # type: ignore[misc]  # mypy sees no type for the default
            assert agent._running is not None
            await agent._running.duties.leave()
            assert await agent._running.duties.finish(0.05) is False
    last = Slow()
    last.gate.set()
    await mesh.host(last)
    await eventually(lambda: last.ended == 1)
    assert [] == [record async for record in mesh.quarantine.records()]


async def test_trouble_with_the_stream_passes(mesh: Mesh, caplog: pytest.LogCaptureFixture) -> None:
    """Where another stream takes its subjects a worker tries again, until that is gone."""
    subject = Subjects(mesh.name, "me").job_listen(Name("slow"))
    agent = Slow()
    agent.gate.set()
    async with connected(mesh.url) as wire:
        journal = JetStreamJournal(wire)
        name = f"in-the-way-{mesh.name}"
        await journal.ensure_stream(StreamConfig(name=name, subjects=(subject,)))
        await mesh.host(agent)
        await eventually(lambda: "stored work for 'work' cannot be read" in caplog.text)
        await journal.delete_stream(name)
    await mesh.post("slow", "work")
    await eventually(lambda: agent.ended == 1)
