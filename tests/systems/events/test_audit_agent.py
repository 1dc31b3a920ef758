"""The agent that keeps the audit log of its mesh."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent99 import Mesh
from agent99.envelope import parse_key, parse_topic
from agent99.errors import Failure, JournalError
from agent99.systems.events import AuditAgent, AuditAnswer, AuditLog, Proof
from agent99.systems.events._anchors import EVERY_ENTRIES, Anchoring, Anchors
from agent99.systems.events._audit import audit_url
from agent99.systems.events._entry import Head
from agent99.testing import ManualClock
from tests._wait import PATIENCE_S
from tests.groups.conftest import OpenMesh


@pytest.fixture
def database(tmp_path: Path) -> str:
    """Give the address of a database that is not there yet."""
    return f"sqlite:///{tmp_path}/audit.db"


async def _entries(mesh: Mesh, **request: Any) -> AuditAnswer:
    return await mesh.request("audit", "get_audit_log", request, returns=AuditAnswer)


async def _until_kept(mesh: Mesh, count: int) -> AuditAnswer:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = await _entries(mesh, limit=1_000)
            if answer.count >= count:
                return answer


async def _proof(mesh: Mesh) -> Proof:
    return await mesh.request("audit", "verify", returns=Proof)


async def test_every_stored_event_is_kept_once_and_can_be_asked_for(
    mesh: Mesh, database: str
) -> None:
    """Those from before it ran, too; in the order of each key, with what was appended."""
    await mesh.append("order.placed", {"number": 1}, key="7")
    await mesh.host(AuditAgent(database))
    await mesh.append("order.paid", {"number": 2}, key="7")
    await mesh.append("stock.low", {"product": "tea"})
    kept = (await _until_kept(mesh, 3)).audit_entries
    assert [1, 2, 3] == [entry.audit_id for entry in kept]
    of_order = (await _entries(mesh, entity="7")).audit_entries
    assert ["order.placed", "order.paid"] == [entry.event_type for entry in of_order]
    assert [b'{"number":1}', b'{"number":2}'] == [bytes(entry.event) for entry in of_order]
    (low,) = (await _entries(mesh, event_type="stock.*")).audit_entries
    assert ("", {"product": "tea"}) == (low.entity, msgspec.json.decode(low.event))
    assert low.occurred_at <= low.stored_at + timedelta(seconds=1)
    assert (await _proof(mesh)).is_sound


async def test_the_default_is_a_day(mesh: Mesh, database: str) -> None:
    """Who wants more says since when; a time without a zone is UTC."""
    await mesh.host(AuditAgent(database))
    await mesh.append("order.placed", {}, key="7")
    await _until_kept(mesh, 1)
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    assert 1 == (await _entries(mesh, since=now - hour)).count
    assert 1 == (await _entries(mesh, since=(now - hour).replace(tzinfo=None))).count
    assert 0 == (await _entries(mesh, since=now + hour)).count
    assert 0 == (await _entries(mesh, until=now - hour)).count


async def test_instances_share_one_chain(open_mesh: OpenMesh, database: str) -> None:
    """Two of them, one that goes, and one that comes later: nothing twice, nothing missing."""
    one, other = await open_mesh(), await open_mesh()
    agents = [AuditAgent(database) for _ in range(3)]
    await one.host(agents[0])
    await other.host(agents[1])
    for number in range(40):
        await one.append("order.placed", {"number": number}, key=f"{number % 10}")
    await one.stop(agents[0])
    for number in range(40, 80):
        await one.append("order.placed", {"number": number}, key=f"{number % 10}")
    await one.host(agents[2])
    kept = (await _until_kept(one, 80)).audit_entries
    assert list(range(1, 81)) == [entry.audit_id for entry in kept]
    by_key: dict[str, list[int]] = {}
    for entry in kept:
        number = msgspec.json.decode(entry.event)["number"]
        by_key.setdefault(entry.entity, []).append(number)
    assert all(numbers == sorted(numbers) for numbers in by_key.values())
    assert sorted(chain(*by_key.values())) == list(range(80))
    proof = await _proof(one)
    assert (True, 80) == (proof.is_sound, proof.entries)


async def test_its_end_is_anchored_in_the_mesh(open_mesh: OpenMesh, database: str) -> None:
    """Every hundred entries, within a second, and when it stops; a chain made anew is found out."""
    mesh = await open_mesh()
    agent = AuditAgent(database)
    await mesh.host(agent)
    await asyncio.gather(
        *(mesh.append("order.placed", {}, key=str(number)) for number in range(250))
    )
    await _until_kept(mesh, 250)
    await mesh.stop(agent)
    async with AuditLog.opened(database) as log:
        anchors = await Anchors(mesh).read(await log.chain())
    assert 250 == max(anchors)
    async with AuditLog.opened(database) as log:
        await log.store.transaction(
            lambda t: (
                t.execute("DROP TRIGGER audit_no_update"),
                t.execute("UPDATE audit_entries SET actor = 'me' WHERE number = 100"),
            )
        )
    await mesh.host(AuditAgent(database))
    breach = (await _proof(mesh)).breach
    assert breach is not None
    assert (100, "hash") == (breach.number, breach.rule)


class Slate:
    """Anchors in memory, that may refuse, and the end of a chain."""

    def __init__(self) -> None:
        self.heads: list[int] = []
        self.is_full = False
        self.head = Head()

    async def write(self, head: Head) -> None:
        """Write a head down."""
        if self.is_full:
            raise JournalError("full")
        self.heads.append(head.number)

    async def read(self) -> Head:
        """Return the end of the chain."""
        return self.head


async def test_a_head_is_anchored_within_a_second_or_a_hundred_entries() -> None:
    """What could not be written is written later; the last is written at the end."""
    clock, slate = ManualClock(), Slate()
    anchoring = Anchoring(slate.write, slate.read, clock)
    anchoring.start()
    await clock.advance(0)
    anchoring.note(Head(EVERY_ENTRIES - 1))
    anchoring.note(Head(5))
    await clock.advance(0.5)
    assert [] == slate.heads
    await clock.advance(0.6)
    assert [EVERY_ENTRIES - 1] == slate.heads
    anchoring.note(Head(2 * EVERY_ENTRIES))
    await clock.advance(0.01)
    assert [99, 200] == slate.heads
    slate.is_full = True
    anchoring.note(Head(300))
    await clock.advance(2)
    slate.is_full = False
    await clock.advance(1)
    assert [99, 200, 300] == slate.heads
    slate.head = Head(301)  # somebody else's, who died before it was anchored
    await clock.advance(1)
    assert [99, 200, 300, 301] == slate.heads
    anchoring.note(Head(302))
    await anchoring.stop()
    assert [99, 200, 300, 301, 302] == slate.heads
    await anchoring.stop()


async def test_anchors_are_of_one_chain_and_cannot_be_deleted(mesh: Mesh) -> None:
    """What is no anchor is passed over; of two the first counts."""
    anchors = Anchors(mesh)
    assert {} == await anchors.read("one")
    await anchors.write("one", Head(1, bytes(32)))
    await anchors.write("one", Head(1, bytes([1] * 32)))
    await anchors.write("other", Head(1, bytes([2] * 32)))
    journal, stream = mesh.link.journal, f"A99_{mesh.name}_AUDIT"
    subject = mesh.link.subjects.anchors()
    for broken in (b"{", b'{"chain":"one","number":0,"hash":""}'):
        await journal.append(subject, broken, message_id=repr(broken))
    assert {1: bytes(32)} == await anchors.read("one")
    with pytest.raises(JournalError):
        await journal.delete(stream, 1)


async def test_a_new_database_is_another_chain(open_mesh: OpenMesh, tmp_path: Path) -> None:
    """The old one's anchors and places say nothing of it: it begins where the group stands."""
    mesh = await open_mesh()
    for name in ("old", "new"):
        agent = AuditAgent(f"sqlite:///{tmp_path}/{name}.db")
        await mesh.host(agent)
        for number in range(5):
            await mesh.append("order.placed", {"of": name}, key=f"k{number}")
        await _until_kept(mesh, 5)
        assert (await _proof(mesh)).is_sound
        await mesh.stop(agent)


async def test_what_a_sender_may_write_can_be_shown(mesh: Mesh, database: str) -> None:
    """A moment that no calendar has; a body that is none: each is shown as far as it can be."""
    await mesh.host(AuditAgent(database))
    subjects = mesh.link.subjects
    for number, (timestamp, body) in enumerate([(2**62, "{}"), (5, "nope")]):
        subject = subjects.log(parse_topic("order.placed"), parse_key("7"))
        header = {"type": "event", "from_uuid": "me", "to_uuid": "x", "timestamp": timestamp}
        head = msgspec.json.encode({**header, "event_uuid": f"e{number}"}).decode()
        payload = f'{{"header":{head}}}' if body == "{}" else f'{{"header":{head},"a":{body}'
        await mesh.link.durable.streams.ensure_log()
        await mesh.link.journal.append(subject, payload.encode(), message_id=f"m{number}")
    late, broken = (await _until_kept(mesh, 2)).audit_entries
    assert (9999, b"{}") == (late.occurred_at.year, bytes(late.event))
    assert b"null" == bytes(broken.event)


async def test_an_answer_is_bounded(mesh: Mesh, database: str) -> None:
    """Large events come in several answers, which say so; a wrong question is the asker's."""
    await mesh.host(AuditAgent(database))
    for number in range(4):
        await mesh.append("order.placed", {"number": number, "text": "x" * 200_000}, key="7")
    found: list[int] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(found) < 4:
            answer = await _entries(mesh, after=len(found))
            found += [entry.audit_id for entry in answer.audit_entries]
            assert answer.count <= 2
    assert [1, 2, 3, 4] == found
    for wrong in ({"limit": 0}, {"event_type": "a..b"}):
        with pytest.raises(Failure) as caught:
            await _entries(mesh, **wrong)
        assert "INVALID_QUERY" == caught.value.code


def test_where_it_is_when_nobody_says(tmp_path: Path) -> None:
    """The environment's word, or a file in the project's state folder."""
    assert "sqlite:///x.db" == audit_url({"AGENT99_AUDIT_STORE": "sqlite:///x.db"})
    url = audit_url({"AGENT99_PROJECT": str(tmp_path)})
    assert url.startswith("sqlite:///")
    assert url.endswith("/audit/audit.db")
