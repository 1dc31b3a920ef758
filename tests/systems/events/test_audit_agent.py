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
from agent99.errors import JournalError
from agent99.systems.events import AuditAgent, AuditAnswer, AuditLog, Proof
from agent99.systems.events._anchors import EVERY_ENTRIES, Anchoring, Anchors
from agent99.systems.events._audit import audit_url
from agent99.systems.events._entry import Head
from agent99.testing import ManualClock
from tests.groups.conftest import OpenMesh


@pytest.fixture
def database(tmp_path: Path) -> str:
    """Give the address of a database that is not there yet."""
    return f"sqlite:///{tmp_path}/audit.db"


async def _entries(mesh: Mesh, **request: Any) -> AuditAnswer:
    return await mesh.request("audit", "get_audit_log", request, returns=AuditAnswer)


async def _until_kept(mesh: Mesh, count: int) -> AuditAnswer:
    async with asyncio.timeout(20):
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
    anchors = await Anchors(mesh).read()
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
    """Anchors in memory, that may refuse."""

    def __init__(self) -> None:
        self.heads: list[int] = []
        self.is_full = False

    async def write(self, head: Head) -> None:
        if self.is_full:
            raise JournalError("full")
        self.heads.append(head.number)


async def test_a_head_is_anchored_within_a_second_or_a_hundred_entries() -> None:
    """What could not be written is written later; the last is written at the end."""
    clock, slate = ManualClock(), Slate()
    anchoring = Anchoring(slate, clock)  # type: ignore[arg-type] # it has what is needed
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
    anchoring.note(Head(301))
    await anchoring.stop()
    assert [99, 200, 300, 301] == slate.heads
    await anchoring.stop()


def test_where_it_is_when_nobody_says(tmp_path: Path) -> None:
    """The environment's word, or a file in the project's state folder."""
    assert "sqlite:///x.db" == audit_url({"AGENT99_AUDIT_STORE": "sqlite:///x.db"})
    url = audit_url({"AGENT99_PROJECT": str(tmp_path)})
    assert url.startswith("sqlite:///")
    assert url.endswith("/audit/audit.db")
