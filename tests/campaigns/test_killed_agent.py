"""An agent that is killed costs its callers what it had in its hands, and nothing else (F1)."""

from __future__ import annotations

import math
import random
from collections import Counter
from pathlib import Path

import pytest

from agent99 import Mesh
from tests._faults import Fault, Figure
from tests.campaigns._clerk import Effects, effects_of
from tests.campaigns._load import REPEATABLE, Load, last, now_s
from tests.campaigns.conftest import Spawn

GONE_S = 0.1
"""So long after its end may a dead instance be sent requests."""
KILLS = [
    pytest.param(1, id="short", marks=pytest.mark.slow),
    pytest.param(5, id="full", marks=pytest.mark.chaos),
]


@pytest.mark.fault("F1", "kill -9 one of 3 agents in the middle of 300 requests a second")
@pytest.mark.parametrize("kills", KILLS)
async def test_killing_one_of_three_agents(
    mesh: Mesh, spawn: Spawn, tmp_path: Path, fault: Fault, seed: int, kills: int
) -> None:
    """What may be repeated is answered all the same; what may not ends as unknown, never twice."""
    luck = random.Random(seed)
    clerks = await spawn(mesh, 3)
    held: set[int] = set()
    killed: list[float] = []
    async with Load(mesh, seed, ("look_up", "book", "pay")) as load:
        for _ in range(kills):
            await last(1 + luck.random())
            held.update(load.under_way)
            victim = clerks.pop(luck.randrange(len(clerks)))
            victim.kill()
            killed.append(now_s())
            await last(2)
            clerks += await spawn(mesh, 1) if kills > 1 else []
        await load.stop()
    effects = await effects_of(tmp_path)
    failed = load.failed("book")
    unknown = [outcome for outcome in failed if outcome.code == "DEADLINE_EXCEEDED"]
    fault.report(
        *load.figures(),
        Figure("failed of those that may be repeated", len(load.failed(*REPEATABLE)), at_most=0),
        Figure("failed of the others", len(failed)),
        Figure("told otherwise than as unknown", len(failed) - len(unknown), at_most=0),
        Figure(
            "the last to be sent there after its end",
            _last_sent_s(load, held, killed),
            "s",
            at_most=GONE_S,
        ),
        *_effects(load, effects),
    )


def _last_sent_s(load: Load, held: set[int], killed: list[float]) -> float:
    """Return how long after a kill the last request began that the dead one swallowed.

    What it held when it was killed was not sent there after its end.
    """
    swallowed = [
        o.began_s
        for o in load.outcomes
        if o.number not in held and (o.code or o.took_s > load.timeout_s / 2)
    ]
    return max((_since_s(killed, began_s) for began_s in swallowed), default=0.0)


def _since_s(killed: list[float], now: float) -> float:
    """Return how long the last kill was ago."""
    return now - max((at_s for at_s in killed if at_s <= now), default=-math.inf)


def _effects(load: Load, effects: Effects) -> list[Figure]:
    """Return the figures of what was done, as it stands on the disk."""
    booked, paid = Counter(effects.done("book")), Counter(effects.paid)
    answered = {name: {o.number for o in load.answered(name)} for name in ("book", "pay")}
    missing = len(answered["book"] - booked.keys()) + len(answered["pay"] - paid.keys())
    twice = sum(count > 1 for count in (*booked.values(), *paid.values()))
    return [
        Figure("answered without an effect", missing, at_most=0),
        Figure("effects that took place twice", twice, at_most=0),
    ]
