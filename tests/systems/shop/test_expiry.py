"""Whoever runs an inventory lets go of what is held for too long: in time, once, over restarts."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
from msgspec.structs import replace

from agent99 import Mesh
from agent99.clock import SystemClock
from agent99.errors import StoreUnavailableError
from agent99.ids import SystemIds
from agent99.systems.shop import InventoryAgent
from agent99.systems.shop._expiry import LOOK_S, PAUSE_S, Expiry
from agent99.systems.shop._model import CheckStock, Reserve
from agent99.systems.shop._opening import open_stock
from agent99.systems.shop._settings import settings_on
from agent99.testing import ManualClock
from tests._nats_server import NatsServer
from tests.cli._cli import Cli
from tests.systems.shop._shelves import Shelves, back, lines, part, until_expired
from tests.systems.shop._shop import MUG, TEA, an_id, reserve
from tests.systems.shop._stand import a_stand


class Calendar:
    """Times at which reservations are due, and when it was looked at; fails as it is told."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.due_s: list[float] = []
        self.looked_s: list[float] = []
        self.expired_s: list[float] = []
        self.failures: list[Exception] = []

    def hold(self, hold_s: float) -> int:
        """Hold something so long; returns when it is due."""
        self.due_s.append(self._clock.monotonic_s() + hold_s)
        return self._clock.wall_us() + round(hold_s * 1_000_000)

    async def next_expiry_us(self) -> int | None:
        """Look."""
        self.looked_s.append(self._clock.monotonic_s())
        if self.failures:
            raise self.failures.pop(0)
        if not self.due_s:
            return None
        left_s = min(self.due_s) - self._clock.monotonic_s()
        return self._clock.wall_us() + round(left_s * 1_000_000)

    async def expire(self) -> int:
        """Let go."""
        now_s = self._clock.monotonic_s()
        due = [each for each in self.due_s if each <= now_s]
        self.due_s = [each for each in self.due_s if each > now_s]
        self.expired_s += [now_s] * len(due)
        return len(due)


@asynccontextmanager
async def looking_after(calendar: Calendar, clock: ManualClock) -> AsyncIterator[Expiry]:
    """Give what lets go of reservations, as it runs."""
    expiry = Expiry(calendar, clock)
    expiry.start()
    await clock.advance(0.0)
    yield expiry
    await expiry.stop()


async def test_it_sleeps_until_the_next_is_due() -> None:
    """And lets it go at that moment; without any it looks twice a second, and no more often."""
    clock = ManualClock()
    calendar = Calendar(clock)
    calendar.hold(0.2)
    async with looking_after(calendar, clock) as expiry:
        await clock.advance(10.0)
        assert [0.2] == calendar.expired_s
        assert 10.0 / LOOK_S + 2 >= len(calendar.looked_s)
        assert [0.0, 0.2, 0.2 + PAUSE_S] == pytest.approx(calendar.looked_s[:3])
        assert "running=True" in repr(expiry)
    await clock.advance(10.0)
    assert max(calendar.looked_s) <= 10.0
    await expiry.stop()


async def test_what_others_hold_is_seen_in_time() -> None:
    """A reservation of another process, however short, is let go within a second."""
    clock = ManualClock()
    calendar = Calendar(clock)
    async with looking_after(calendar, clock):
        await clock.advance(0.1)
        calendar.hold(0.05)
        await clock.advance(1.0)
        assert [0.5] == calendar.expired_s


async def test_it_is_woken_by_an_earlier_one() -> None:
    """What this process holds itself is let go when it is due; a later one wakes nobody."""
    clock = ManualClock()
    calendar = Calendar(clock)
    async with looking_after(calendar, clock) as expiry:
        await clock.advance(0.1)
        for hold_s in (300.0, 0.05):
            expiry.expect(calendar.hold(hold_s))
            await clock.advance(0.0)
        await clock.advance(0.1)
        assert [0.15] == pytest.approx(calendar.expired_s)
        assert 4 == len(calendar.looked_s), "at the start, when woken, when due, and once after"


async def test_a_store_that_is_away_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    """It is told once, with the reason, and asked again after a pause; so is a mistake of ours."""
    clock = ManualClock()
    calendar = Calendar(clock)
    calendar.hold(0.1)
    away = StoreUnavailableError("stock.db", "it is away")
    calendar.failures = [away, away, ZeroDivisionError("a mistake")]
    with caplog.at_level(logging.INFO, "agent99.shop"):
        async with looking_after(calendar, clock):
            await clock.advance(3 * LOOK_S)
    assert [0.0, LOOK_S, 2 * LOOK_S, 3 * LOOK_S] == pytest.approx(calendar.looked_s[:4])
    assert [3 * LOOK_S] == calendar.expired_s
    levels = [record.levelname for record in caplog.records]
    assert ["WARNING", "ERROR", "INFO"] == levels
    assert "it is away" in caplog.messages[0]


async def test_the_wait_outlives_every_process(shelves: Shelves) -> None:
    """All were gone when it was due: the next one lets it go at once; of two, one does it."""
    stocks = [await shelves.open(), await shelves.open()]
    await stocks[0].fill({TEA: 10})
    await stocks[0].reserve(reserve(1, (TEA, 4)))
    first = Expiry(stocks[0], shelves.clock)
    first.start()
    await shelves.clock.advance(600.0)
    await first.stop()
    await shelves.clock.advance(600.0)
    assert "reserved" == (await stocks[0].reservation(an_id(1))).state
    later = [Expiry(stock, shelves.clock) for stock in stocks]
    for each in later:
        each.start()
    await until_expired(stocks[0], an_id(1))
    for each in later:
        await each.stop()
    assert {TEA: (10, 0, 0, 0)} == await shelves.levels()


async def test_over_the_mesh(tmp_path: Path) -> None:
    """The agent lets go by itself, ships parts and takes back; the answers are its own words."""
    async with a_stand(tmp_path) as stand:
        await stand.host(InventoryAgent(replace(stand.settings, hold_s=0.05)))
        held = await stand.ask("inventory", CheckStock(MUG, 1))
        await stand.ask("inventory", Reserve(an_id(1), lines((TEA, 9)), hold_s=0.05), "reserve")
        await stand.ask("inventory", Reserve(an_id(2), lines((TEA, 9)), hold_s=60), "reserve")
        shipped = await stand.ask("inventory", part(2, "a", (TEA, 5)), "commit")
        assert ("committed", 9, 5) == (shipped["state"], shipped["units"], shipped["shipped_units"])
        taken = await stand.ask("inventory", back(2, "x", (TEA, 3)), "take_back")
        assert {"products": 1, "units": 3} == {key: taken[key] for key in ("products", "units")}
        store, stock = await open_stock(stand.settings, SystemClock(), SystemIds())
        await until_expired(stock, UUID(held["reservation_id"]))
        await until_expired(stock, an_id(1))
        await store.aclose()
        assert (98, 0, 5) == await stand.level(TEA)
        assert (100, 0, 0) == await stand.level(MUG)


@pytest.mark.slow
async def test_killed_while_it_waits(nats_server: NatsServer, url: str, tmp_path: Path) -> None:
    """Both processes are killed and started again: what is due is let go within 1 s, once (E8)."""
    mesh = f"shop-{SystemIds().token().decode()[:10]}"
    cli = Cli(tmp_path / "project")
    cli.environ |= {
        "AGENT99_URL": nats_server.url,
        "AGENT99_MESH": mesh,
        "AGENT99_SHOP_STORE": url,
    }
    agent = "agent99.systems.shop:InventoryAgent"
    store, stock = await open_stock(settings_on(url), SystemClock(), SystemIds())
    try:
        await stock.fill({TEA: 100})
        first = [await asyncio.to_thread(cli.start, "run", agent) for _ in range(2)]
        for each in first:
            await asyncio.to_thread(each.wait_line, "^ready: ")
        async with Mesh(nats_server.url, mesh=mesh) as client:
            for order, hold_s in ((1, 1.0), (2, 8.0), (3, 600.0)):
                request = Reserve(an_id(order), lines((TEA, order)), hold_s)
                await client.request("inventory", "reserve", request, timeout_s=5.0)
        for each in first:
            each.signal(signal.SIGKILL)
            assert -signal.SIGKILL == await asyncio.to_thread(each.wait)
        assert "reserved" == (await stock.reservation(an_id(1))).state
        again = [await asyncio.to_thread(cli.start, "run", agent) for _ in range(2)]
        await asyncio.to_thread(again[0].wait_line, "^ready: ")
        ready_us = SystemClock().wall_us()
        for order in (1, 2):
            await until_expired(stock, an_id(order))
        assert "reserved" == (await stock.reservation(an_id(3))).state
        level = await stock.level(TEA)
        assert (97, 3, 0) == (level.on_hand, level.reserved, level.shipped)
        sql = "SELECT updated_us, expires_us FROM reservations ORDER BY expires_us"
        ended = await store.read(lambda tx: tx.execute(sql).all())
        assert ended[0].updated_us - max(ended[0].expires_us, ready_us) < 1_000_000
        assert 0 <= ended[1].updated_us - ended[1].expires_us < 1_000_000
    finally:
        await store.aclose()
        await asyncio.to_thread(cli.close)
