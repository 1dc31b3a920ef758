"""What is written down of a cache's clients is what they saw, and is judged as it should be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent99 import Mesh, Settings
from agent99.errors import Agent99Error
from agent99.systems.cache import Cache, CacheNodeAgent
from agent99.testing import MemoryEngine
from tests.systems.cache._history import (
    Began,
    Ended,
    Recorder,
    Session,
    findings,
    read_histories,
    steps_back,
)
from tests.systems.cache._register import Operation


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[Cache[Any]]:
    """Give a cache of one node, in memory."""
    settings = Settings(project=tmp_path, state_folder=tmp_path)
    async with Mesh(settings=settings, engine=MemoryEngine()) as mesh:
        await mesh.host(CacheNodeAgent(replicas=0))
        yield await mesh.cache("k15")


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path)


async def test_each_operation_is_written_down(
    cache: Cache[Any], recorder: Recorder, tmp_path: Path
) -> None:
    """Key, question and answer of each operation are in the history, in the order of a session."""
    session = Session(cache, "ann", recorder)
    version = await session.set("k", "a")
    await session.get("k")
    newer = await session.cas("k", "b", version=version)
    await session.cas("k", "c", version=version)
    await session.add("k", "d")
    await session.delete("k")
    await session.get("k")
    await session.incr("n")
    histories = read_histories(tmp_path)
    seen = [
        (each.name, each.value, each.expected, each.result, each.version) for each in histories["k"]
    ]
    expected = [
        ("set", "a", 0, None, version),
        ("get", None, 0, "a", version),
        ("cas", "b", version, True, newer),
        ("cas", "c", version, False, 0),
        ("add", "d", 0, False, 0),
        ("delete", None, 0, True, 0),
        ("get", None, 0, None, 0),
    ]
    assert expected == seen
    assert [("incr", 1)] == [(each.name, each.result) for each in histories["n"]]
    assert [] == findings(histories)


async def test_clients_at_the_same_key_are_explained(
    cache: Cache[Any], recorder: Recorder, tmp_path: Path
) -> None:
    """A cache whose owner lives passes, with many clients at one key at the same time."""

    async def work(session: Session) -> None:
        for turn in range(10):
            _, version = await session.get("k")
            await session.cas("k", f"{session.client}.{turn}", version=version)
            await session.add("k", f"{session.client}.{turn}+")
            await session.incr("n")
            if turn % 4 == 0:
                await session.delete("k")

    await asyncio.gather(*(work(Session(cache, f"c{n}", recorder)) for n in range(6)))
    histories = read_histories(tmp_path)
    assert {"k", "n"} == histories.keys()
    assert 60 == len(histories["n"])
    assert [] == findings(histories)


async def test_what_did_not_return_is_unknown(tmp_path: Path, recorder: Recorder) -> None:
    """An operation without a second line, and one that ended in doubt, have no known outcome."""
    recorder.write(Began(0, "ann", "k", "set", 1, "a"))
    recorder.write(Began(1, "bob", "k", "set", 2, "b"))
    recorder.write(Ended(1, 9, "unknown", code="TIMEOUT"))
    recorder.write(Began(2, "bob", "k", "set", 10, "c"))
    recorder.write(Ended(2, 11, "failed", code="NO_AGENT"))
    outcomes = [each.outcome for each in read_histories(tmp_path)["k"]]
    assert ["unknown", "unknown", "failed"] == outcomes


async def test_an_error_is_written_down_and_raised(tmp_path: Path, recorder: Recorder) -> None:
    """Without a node nothing was sent: the operation failed, and its caller hears of it."""
    settings = Settings(project=tmp_path, state_folder=tmp_path)
    async with Mesh(settings=settings, engine=MemoryEngine()) as mesh:
        session = Session(await mesh.cache("k15"), "ann", recorder)
        with pytest.raises(Agent99Error):
            await session.set("k", "a")
    (operation,) = read_histories(tmp_path)["k"]
    assert "failed" == operation.outcome


def test_files_become_one_history(tmp_path: Path) -> None:
    """What several processes wrote of one key is judged together."""
    files = {
        "1": [Began(0, "ann", "k", "set", 1, "a"), Ended(0, 2, "ok", version=7)],
        "2": [Began(0, "bob", "k", "get", 3), Ended(0, 4, "ok")],
    }
    for pid, lines in files.items():
        path = tmp_path / f"{pid}.history"
        path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    (found,) = findings(read_histories(tmp_path))
    assert found.startswith("k: no order explains: ")


def test_a_session_never_goes_back() -> None:
    """Who saw a version sees no older one of that key; another session may."""
    history = [
        Operation("ann", "get", 10, 20, result="b", version=2),
        Operation("bob", "get", 30, 40, result="a", version=1),
        Operation("ann", "get", 50, 60, result="a", version=1),
    ]
    (found,) = steps_back(history)
    assert "0.000..0.000 ms: ann get → 'a' (version 1)" in found
    assert [] == steps_back(history[:2])
