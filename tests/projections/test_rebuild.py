"""A rebuild while the tables are written and read: no gap, no double count (V11)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from agent99 import Mesh
from agent99.groups import Batch
from agent99.projections import Projector
from agent99.projections._fold import Fold as Folding
from agent99.store import Store, Transaction
from tests._wait import PATIENCE_S
from tests.projections._revenue import QUICK, Revenue
from tests.projections._watch import Watch

SHOPS = 30


async def load(watch: Watch, events: int, luck: random.Random) -> None:
    """Append events, those of each shop one after the other."""
    shares: list[list[int]] = [[] for _ in range(SHOPS)]
    for _ in range(events):
        luck.choice(shares).append(luck.randrange(1, 10_000))

    async def one(shop: int) -> None:
        for pence in shares[shop]:
            await watch.append(f"shop-{shop}", pence)

    await asyncio.gather(*map(one, range(SHOPS)))


async def test_rebuild_while_live(mesh: Mesh, store: Store, seed: int) -> None:
    """Readers see neither gap nor double count while generations follow each other under load."""
    luck = random.Random(seed)
    async with Projector(mesh, Revenue(), store, options=QUICK) as revenue:
        async with Watch(mesh, revenue) as watch:
            loading = asyncio.ensure_future(load(watch, 600, luck))
            for after in (100, 350):
                async with asyncio.timeout(PATIENCE_S):
                    while watch.count < after:
                        await asyncio.sleep(0)
                    await revenue.rebuild()
            await loading
            await watch.check()
        before = await revenue.read(lambda tables: tables.digest())
        await revenue.rebuild()
        assert before == await revenue.read(lambda tables: tables.digest())
    assert [] == watch.faults
    assert {1, 2, 3} == watch.generations


def is_always(*_arguments: object) -> bool:
    """Find that whatever it is asked about has caught up: a planted fault."""
    return True


def position_first(fold: Callable[..., Any]) -> Callable[..., Any]:
    """Return a fold that moves a position on, and dies before the effect: a planted fault."""
    lost: dict[str, Batch] = {}

    def wrong(self: Folding, transaction: Transaction, batch: Batch, **how: Any) -> Any:
        if lost.setdefault(batch.group, batch) != batch:
            return fold(self, transaction, batch=batch, **how)
        batch.fresh(transaction)
        return "done"

    return wrong


def effect_again(fold: Callable[..., Any]) -> Callable[..., Any]:
    """Return a fold whose effects take place when the batch has been there: a planted fault."""

    def wrong(self: Folding, transaction: Transaction, batch: Batch, **how: Any) -> Any:
        outcome = fold(self, transaction, batch=batch, **how)
        if outcome == "done" and batch.records[0].sequence % 5 == 0:
            Revenue().apply(*_again(self, transaction, batch))
        return outcome

    return wrong


def _again(fold: Folding, transaction: Transaction, batch: Batch) -> tuple[Any, Any]:
    from agent99.groups import event_of
    from agent99.projections import Tables

    return Tables(transaction, fold.names, 1), event_of(batch.records[0])


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("open_mesh", ["memory"], indirect=True)
@pytest.mark.parametrize("fault", ["switch too soon", "position first", "effect again"])
async def test_planted_faults_are_found(
    mesh: Mesh, store: Store, monkeypatch: pytest.MonkeyPatch, fault: str, seed: int
) -> None:
    """What would be wrong with a rebuild is found by those who watch it."""
    if fault == "switch too soon":
        monkeypatch.setattr("agent99.projections._keeper.has_caught_up", is_always)
        monkeypatch.setattr("agent99.projections._moves.has_caught_up", is_always)
    else:
        wrap = position_first if fault == "position first" else effect_again
        monkeypatch.setattr(Folding, "fold", wrap(Folding.fold))
    async with (
        Projector(mesh, Revenue(), store, options=QUICK) as revenue,
        Watch(mesh, revenue) as watch,
    ):
        loading = asyncio.ensure_future(load(watch, 400, random.Random(seed)))
        async with asyncio.timeout(PATIENCE_S):
            while watch.count < 100:
                await asyncio.sleep(0)
        await revenue.rebuild()
        await loading
        with pytest.raises(AssertionError):
            await watch.check()
    assert watch.faults
