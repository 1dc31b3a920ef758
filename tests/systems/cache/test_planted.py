"""The judge of histories is worth something: nodes that break a promise of the cache are caught."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent99 import Agent99Error, Mesh
from agent99.ids import SystemIds
from agent99.systems.cache import Cache
from agent99.systems.cache._table import Table
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.systems.cache._crew import Crew, Member
from tests.systems.cache._history import Recorder, Session, findings, read_histories
from tests.systems.cache._member import NAMESPACE

KEYS = tuple(f"key{number}" for number in range(60))

pytestmark = pytest.mark.slow


def _crew(server: NatsServer, folder: Path) -> Crew:
    return Crew(server.url, f"c{SystemIds().token().decode()[:10]}", folder, seed=0)


@pytest.mark.parametrize(
    ("planted", "says"),
    [
        ("none", ""),
        pytest.param("forgets", "a miss", id="a lost write"),
        pytest.param("keeps deleted", "'first'", id="a resurrected key"),
    ],
)
async def test_copies_that_do_not_keep_what_they_acknowledge(
    nats_server: NatsServer, tmp_path: Path, planted: str, says: str
) -> None:
    """As soon as an owner is killed, a read shows it; without a fault nothing is found."""
    async with _crew(nats_server, tmp_path) as crew:
        first, _, _ = await crew.start_nodes(3, more=planted)
        recorder = Recorder(tmp_path)
        session = Session(crew.cache, "planter", recorder)
        for key in KEYS:
            await session.set(key, "first")
        for key in KEYS[::2]:
            await session.delete(key)
        await first.kill()
        await crew.wait_whole()
        for key in KEYS:
            await session.get(key)
        recorder.close()
        found = findings(read_histories(tmp_path))
    assert bool(found) == (planted != "none")
    assert all(f"get → {says}" in text for text in found)


@pytest.mark.parametrize("planted", ["deaf", pytest.param("needs no lease", id="a stale read")])
async def test_a_node_that_serves_without_a_lease(
    nats_server: NatsServer, tmp_path: Path, planted: str
) -> None:
    """It is frozen, its keys are changed elsewhere, and it answers when it goes on: that is found.

    Neither it nor who asks it has heard of the change; with a lease alone it does not answer.
    """
    async with _crew(nats_server, tmp_path) as crew, Mesh(nats_server.url, mesh=crew.mesh) as mesh:
        frozen, _, _ = await crew.start_nodes(3, more=planted)
        recorder, late = Recorder(tmp_path), await mesh.cache(NAMESPACE)
        session = Session(crew.cache, "planter", recorder)
        for key in KEYS:
            await session.set(key, "first")
        await _know(late, crew.table)
        stale = [key for key in KEYS if late.owner(key) == frozen.instance]
        _hear_nothing(late)
        frozen.freeze()
        await eventually(lambda: not _has(crew.table, frozen))
        for key in stale:
            await session.set(key, "second")
        frozen.thaw()
        reader = Session(late, "late", recorder)
        await _read(reader, stale[0])
        recorder.close()
        found = findings(read_histories(tmp_path))
    assert bool(found) == (planted == "needs no lease")
    assert all("get → 'first'" in text for text in found)


async def _know(cache: Cache[Any], table: Table) -> None:
    """Wait until another client knows a table."""
    await eventually(lambda: cache.table.epoch >= table.epoch)


def _has(table: Table, member: Member) -> bool:
    return any(node.instance == member.instance for node in table.nodes)


def _hear_nothing(cache: Cache[Any]) -> None:
    """Have a client take no notice of any later table."""
    vars(cache)["_client"].on_table = _take_no_notice


async def _read(session: Session, key: str) -> None:
    with suppress(Agent99Error):  # nobody has answered: that is right
        await session.get(key)


def _take_no_notice(_: Table) -> None:
    pass
