"""An agent that hangs, frozen or blocked, is left out, and does nothing late when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agent99 import Mesh
from tests._faults import Fault, Figure
from tests._wait import eventually
from tests.campaigns._clerk import effects_of
from tests.campaigns._load import Load, now_s
from tests.campaigns.conftest import ClerkProcess, Spawn

EJECTED_S = 3.0
SUSPECT_S = 15.0
BACK_S = 10.0
MINUTE = 300 * 60
"""Requests in the minute that the full campaign lasts: the failed are counted in per cent of them,
in the short form too, because what fails fails before the instance is left out."""


class Hang:
    """One of three hangs for some seconds under load; what its callers see of that."""

    def __init__(self, mesh: Mesh, bystander: Mesh, load: Load, hung: ClerkProcess) -> None:
        self.ejected_s = self.suspect_s = self.back_s = 0.0
        self.reached = 0
        """Answers of the one that hangs, to requests made while it did."""
        self._mesh = mesh
        self._bystander = bystander
        self._load = load
        self._hung = hung

    def __repr__(self) -> str:
        return f"Hang({self._hung!r})"

    async def watch(self, seconds: float, end: Callable[[], None]) -> None:
        """Follow it from its beginning, which is now, until it serves again."""
        began_s, instance = now_s(), self._hung.instance
        assert self._mesh._link is not None
        ejected = self._mesh._link.health.ejected
        await eventually(lambda: instance in ejected, timeout_s=seconds)
        self.ejected_s = now_s() - began_s
        table = self._bystander.registry
        await eventually(lambda: table.table.get(instance) is None, timeout_s=SUSPECT_S)
        self.suspect_s = now_s() - began_s
        await eventually(lambda: now_s() > began_s + seconds, timeout_s=seconds)
        end()
        ended_s = now_s()
        await eventually(lambda: self._answers_since(ended_s), timeout_s=BACK_S)
        self.back_s = now_s() - ended_s
        self.reached = len(self._answers_since(began_s + self.ejected_s, until_s=ended_s))

    def _answers_since(self, from_s: float, until_s: float = float("inf")) -> list[float]:
        return [
            outcome.began_s
            for outcome in self._load.answered()
            if outcome.instance == self._hung.instance and from_s < outcome.began_s < until_s
        ]


async def figures_of(hang: Hang, load: Load, mesh: Mesh, folder: Path) -> list[Figure]:
    """Return what must hold of an instance that hung, whatever the way."""
    assert mesh._link is not None
    effects = await effects_of(folder)
    failed = 100 * len(load.failed()) / MINUTE
    dropped = mesh._link.wire.statistics().dropped
    return [
        *load.figures(),
        Figure("left out after", hang.ejected_s, "s", at_most=EJECTED_S),
        Figure("failed of those that may be repeated", len(load.failed("look_up")), at_most=0),
        Figure("failed of a minute's requests", failed, "%", at_most=1),
        Figure("gone from the registry after", hang.suspect_s, "s", at_most=SUSPECT_S),
        Figure("answers of it while it was left out", hang.reached, at_most=0),
        Figure("expired requests that it ran when it was back", effects.expired, at_most=0),
        Figure("late answers that were dropped", dropped.get("late_answer", 0)),
        Figure("asked again after", hang.back_s, "s", at_most=BACK_S),
    ]


@pytest.fixture
async def bystander(mesh: Mesh) -> AsyncIterator[Mesh]:
    """Give a process's worth of the same mesh that asks nobody: it knows what the registry says."""
    async with Mesh(mesh.url, mesh=mesh.name) as made:
        yield made


@pytest.mark.fault("F2", "SIGSTOP one of 3 agents under 300 requests a second, then SIGCONT")
@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(10.0, id="short", marks=pytest.mark.slow),
        pytest.param(60.0, id="full", marks=pytest.mark.chaos),
    ],
)
async def test_a_frozen_agent(
    mesh: Mesh,
    bystander: Mesh,
    spawn: Spawn,
    tmp_path: Path,
    fault: Fault,
    seed: int,
    seconds: float,
) -> None:
    """Soon nothing goes there; what it has when it thaws is too late, and it does none of it."""
    clerks = await spawn(mesh, 3)
    frozen = clerks[seed % 3]
    async with Load(mesh, seed, ("look_up", "book")) as load:
        await load.wait_answers(200)
        hang = Hang(mesh, bystander, load, frozen)
        frozen.freeze()
        await hang.watch(seconds, frozen.thaw)
        await load.stop()
    fault.report(*await figures_of(hang, load, mesh, tmp_path))


@pytest.mark.fault("F3", "time.sleep in a handler of one of 3 agents under 300 requests a second")
@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(10.0, id="short", marks=pytest.mark.slow),
        pytest.param(30.0, id="full", marks=pytest.mark.chaos),
    ],
)
async def test_a_blocked_agent(
    mesh: Mesh,
    bystander: Mesh,
    spawn: Spawn,
    tmp_path: Path,
    fault: Fault,
    seed: int,
    seconds: float,
) -> None:
    """As above; and its process says what blocks it, while it is blocked."""
    clerks = await spawn(mesh, 3)
    blocked = clerks[seed % 3]
    async with Load(mesh, seed, ("look_up", "book")) as load:
        await load.wait_answers(200)
        hang = Hang(mesh, bystander, load, blocked)
        blocking = asyncio.create_task(_block(mesh, blocked, seconds))
        said = asyncio.create_task(_said(blocked, now_s()))
        await hang.watch(seconds, lambda: None)
        await load.stop()
        await blocking
    fault.report(
        Figure("said by its process after", await said, "s", at_most=2),
        *await figures_of(hang, load, mesh, tmp_path),
    )


async def _block(mesh: Mesh, clerk: ClerkProcess, seconds: float) -> None:
    (peer,) = [one for one in mesh.peers() if one.instance == clerk.instance]
    await peer.request("block", {"seconds": seconds}, timeout_s=seconds + 5)


async def _said(clerk: ClerkProcess, began_s: float) -> float:
    """Wait for the line that names the handler; returns after how long it came."""
    await eventually(lambda: "time.sleep(seconds)" in clerk.log.read_text())
    return now_s() - began_s
