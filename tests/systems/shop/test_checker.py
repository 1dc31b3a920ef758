"""The checker at work: what it reads of either database, what it keeps, and what it tells."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
import sqlalchemy

from agent99 import Agent, Mesh, Settings, follow
from agent99.errors import StoreUnavailableError, TransportError
from agent99.systems.shop import (
    CheckerAgent,
    InventoryAgent,
    OrderProcessingAgent,
    PaymentAgent,
    _check_links,
    _checker_reading,
)
from agent99.systems.shop._checker_model import VIOLATION, Verdict, split_log
from agent99.systems.shop._checker_rules import Violation
from agent99.systems.shop._checker_watch import OVERLAP_S, VIOLATIONS_MAX, Watch
from agent99.systems.shop._order import Refusal
from agent99.systems.shop._payment_model import Authorise, Capture
from agent99.systems.shop._settings import settings_in, settings_on
from agent99.systems.shop._states import OrderEvent
from agent99.testing import ManualClock, MemoryEngine
from tests._wait import eventually
from tests.systems.shop._shop import OpenShop, Shop, an_id, order_of, reserve, shipped
from tests.systems.shop._stand import TEA, a_stand
from tests.systems.shop.conftest import opened

_NOW_US = 1_700_000_000_000_000
_ORDER = order_of((an_id("tea"), 2, "1.10"), (an_id("mug"), 1, "3.00"))
_YES, _NO, _OPEN = (str(an_id(each)) for each in ("confirmed", "rejected", "under way"))


async def _live(shop: Shop) -> None:
    """Live three orders: one to its confirmation, one that is refused, one that is under way."""
    await shop.stock.fill({an_id("tea"): 10, an_id("mug"): 10})
    move, payments = shop.orders.move, shop.payments
    for name in ("confirmed", "rejected", "under way"):
        order = an_id(name)
        await shop.orders.take(_ORDER, order)
        await shop.stock.reserve(reserve(name, (an_id("tea"), 2), (an_id("mug"), 1)))
        await move(order, OrderEvent.RESERVE)
        await payments.authorise(Authorise(_ORDER.customer_id, Decimal("5.20"), order))
        await move(order, OrderEvent.AUTHORISE)
    yes, no = UUID(_YES), UUID(_NO)
    await shop.stock.commit(yes)
    await payments.capture(Capture(yes))
    await move(yes, OrderEvent.PAY)
    await move(yes, OrderEvent.CONFIRM)
    await shop.orders.note_shipment(shipped(yes))
    await payments.void(no)
    await shop.stock.release(no)
    await move(no, OrderEvent.DECLINE, Refusal("PAYMENT_ERROR", "no"))


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database of a sound shop, to be copied."""
    path = tmp_path_factory.mktemp("lived") / "shop.db"

    async def live() -> None:
        async with opened(f"sqlite:///{path}") as open_one:
            await _live(await open_one())

    asyncio.run(live())
    return path


@pytest.fixture
def path(lived: Path, tmp_path: Path) -> Path:
    """Return a database of a sound shop, in which every row is old."""
    path = tmp_path / "shop.db"
    shutil.copy(lived, path)
    _plant(path, "UPDATE orders SET updated_us = 0")
    _plant(path, "UPDATE payments SET updated_us = 0", "UPDATE ledger SET at_us = 0")
    return path


def _plant(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as link:
        link.execute("PRAGMA ignore_check_constraints = ON")
        for statement in statements:
            assert link.execute(statement).rowcount > 0, statement
        link.commit()


def _watch(path: Path, **how: Any) -> Watch:
    return Watch(settings_on(f"sqlite:///{path}"), late_s=how.get("late_s", 60.0))


def _names(watch: Watch) -> set[str]:
    return {violation.name for violation in watch.violations}


# --- what it reads --------------------------------------------------------------------------------

_EVERYTHING = {
    f"UPDATE stock SET on_hand = -1 WHERE product_id = '{an_id('tea')}'": {
        "stock_not_conserved",
        "stock_negative",
    },
    f"UPDATE stock SET reserved = 0, on_hand = 9 WHERE product_id = '{an_id('mug')}'": {
        "stock_reserved_differs"
    },
    f"UPDATE reservations SET state = 'expired' WHERE order_id = '{_YES}'": {
        "confirmed_not_committed"
    },
    f"UPDATE reservations SET state = 'reserved' WHERE order_id = '{_NO}'": {
        "rejected_keeps_stock"
    },
    "UPDATE ledger SET pence = pence + 1 WHERE account = 'cash'": {
        "ledger_sum",
        "ledger_unbalanced",
        "cash_differs",
    },
    f"UPDATE payments SET amount_pence = 1 WHERE order_id = '{_YES}'": {
        "payment_out_of_bounds",
        "confirmed_not_paid",
    },
    f"UPDATE payments SET state = 'authorised' WHERE order_id = '{_NO}'": {"rejected_keeps_money"},
    f"INSERT INTO payments SELECT 'again', '{_OPEN}', customer_id, state, currency, amount_pence,"
    " captured_pence, refunded_pence, NULL, at_us, updated_us FROM payments"
    f" WHERE order_id = '{_OPEN}'": {"payment_repeated"},
    f"DELETE FROM order_history WHERE step = 2 AND order_id = '{_NO}'": {"history_gap"},
    f"UPDATE order_history SET event = 'pay' WHERE step = 1 AND order_id = '{_YES}'": {
        "history_illegal"
    },
    f"UPDATE orders SET state = 'paid' WHERE order_id = '{_OPEN}'": {"order_state_differs"},
}


async def test_everything_is_read_of_either_database(open_shop: OpenShop, url: str) -> None:
    """Of a sound shop nothing is said; of one in which all is wrong, each thing by its name."""
    await _live(await open_shop())
    watch = Watch(settings_on(url), late_s=60.0)
    await asyncio.to_thread(watch.look, _NOW_US)
    assert ("", ()) == (watch.verdict().unread, watch.violations)
    assert (1, 1) == (watch.verdict().looks, watch.verdict().rounds)
    with pytest.raises(StoreUnavailableError), _check_links.snapshot(url) as link:
        link.exec_driver_sql("DELETE FROM ledger")  # who proves may not write
    await asyncio.to_thread(_spoil, url)
    await asyncio.to_thread(watch.look, _NOW_US + 1)
    assert "" == watch.verdict().unread
    assert set().union(*_EVERYTHING.values()) == _names(watch)


def _spoil(url: str) -> None:
    """Take the rules off the tables that have any, and break each of ours."""
    is_sqlite = url.startswith("sqlite")
    address = sqlalchemy.make_url(url)
    driver = address if is_sqlite else address.set(drivername="postgresql+psycopg")
    engine = sqlalchemy.create_engine(driver)
    with engine.begin() as link:
        for table in ("stock", "payments"):
            link.exec_driver_sql(f"CREATE TABLE loose AS SELECT * FROM {table}")
            link.exec_driver_sql(f"DROP TABLE {table}{'' if is_sqlite else ' CASCADE'}")
            link.exec_driver_sql(f"ALTER TABLE loose RENAME TO {table}")
        for statement in _EVERYTHING:
            assert link.exec_driver_sql(statement).rowcount > 0, statement
    engine.dispose()


def test_what_nobody_changed_comes_with_a_page(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that was changed without a trace is found within a round, whose pages are small."""
    monkeypatch.setattr(_checker_reading, "PAGE_ROWS", 1)
    watch = _watch(path)
    while not watch.verdict().rounds:
        watch.look(_NOW_US)
    assert (4, ()) == (watch.verdict().looks, watch.violations)
    _plant(
        path,
        f"DELETE FROM order_history WHERE step = 1 AND order_id = '{max(_YES, _NO)}'",
        f"UPDATE payments SET refunded_pence = 999 WHERE order_id = '{_YES}'",
        "UPDATE ledger SET pence = 0 WHERE account = 'cash'",
    )
    watch.look(_NOW_US)
    assert "history_gap" not in _names(watch)
    while watch.verdict().rounds < 2:
        watch.look(_NOW_US)
    assert {"history_gap", "payment_out_of_bounds", "ledger_unbalanced"} < _names(watch)


def test_what_changed_is_seen_at_the_next_look(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what committed later than its time says; and it is not read again until it moves."""
    watch = _watch(path)
    watch.look(_NOW_US)
    monkeypatch.setattr(_checker_reading, "_page", lambda *_: ((), None))
    a_moment_ago_us = _NOW_US - int(OVERLAP_S * 1e6) + 1
    gap = f"DELETE FROM order_history WHERE step = 3 AND order_id = '{_NO}'"
    _plant(path, f"UPDATE orders SET updated_us = {a_moment_ago_us}")
    watch.look(_NOW_US)
    _plant(path, gap)
    watch.look(_NOW_US)
    assert set() == _names(watch)
    _plant(path, "UPDATE orders SET steps = steps + 1")
    watch.look(_NOW_US)
    assert {"history_gap"} == _names(watch)


def test_a_database_that_is_away_is_unread(tmp_path: Path, lived: Path) -> None:
    """No violation, no look that counts, and no file that was not there; it is tried again."""
    folder = tmp_path / "away"
    watch = Watch(settings_in(folder), late_s=60.0)
    watch.look(_NOW_US)
    verdict = watch.verdict()
    assert (0, 0, (), None) == (
        verdict.looks,
        verdict.rounds,
        verdict.violations,
        verdict.last_look_us,
    )
    assert "away/orders.db is not available: unable to open database file" in verdict.unread
    folder.mkdir()
    watch.look(_NOW_US)
    assert [] == list(folder.iterdir())
    (folder / "orders.db").touch()  # its tables are not made yet
    watch.look(_NOW_US)
    assert "no such table: orders" in watch.verdict().unread
    for name in ("orders", "stock", "payments"):
        shutil.copy(lived, folder / f"{name}.db")
    watch.look(_NOW_US)
    assert (1, "", _NOW_US) == (
        watch.verdict().looks,
        watch.verdict().unread,
        watch.verdict().last_look_us,
    )


def test_one_that_is_locked_is_unread_and_the_others_are_judged(
    tmp_path: Path, lived: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what belongs together nothing is said until all of it can be read."""
    monkeypatch.setattr(_check_links, "_WAIT_S", 0.01)
    for name in ("orders", "stock", "payments"):
        shutil.copy(lived, tmp_path / f"{name}.db")
    gone = f"UPDATE reservations SET state = 'released' WHERE order_id = '{_YES}'"
    _plant(tmp_path / "stock.db", gone)
    _plant(tmp_path / "payments.db", "UPDATE ledger SET pence = 0 WHERE account = 'cash'")
    watch = Watch(settings_in(tmp_path), late_s=60.0)
    with closing(sqlite3.connect(tmp_path / "stock.db")) as owner:
        owner.execute("PRAGMA locking_mode = EXCLUSIVE")
        owner.execute("BEGIN IMMEDIATE")
        watch.look(_NOW_US)
    assert "stock.db is not available: database is locked" in watch.verdict().unread
    money = {"ledger_sum", "ledger_unbalanced", "cash_differs"}
    assert (0, money) == (watch.verdict().looks, _names(watch))
    watch.look(_NOW_US)
    assert (1, money | {"confirmed_not_committed"}) == (watch.verdict().looks, _names(watch))


def test_an_order_that_has_not_ended_in_time_is_late(path: Path) -> None:
    """And is no violation: somebody may still be at it."""
    at_us = _NOW_US - 90_000_000
    _plant(path, f"UPDATE orders SET updated_us = {at_us}")
    for late_s, late in ((60.0, (_OPEN,)), (120.0, ())):
        watch = _watch(path, late_s=late_s)
        watch.look(_NOW_US)
        assert (late, ()) == (watch.verdict().late, watch.violations)


def test_the_first_violations_are_kept_each_once(path: Path) -> None:
    """However many there are, and however often they are seen."""
    rows = ", ".join(f"('p{n}', 1, 0)" for n in range(VIOLATIONS_MAX + 5))
    _plant(path, f"INSERT INTO stock (product_id, opening, on_hand) VALUES {rows}")
    watch = _watch(path)
    for _ in range(2):
        watch.look(_NOW_US)
    found = watch.verdict().violations
    assert VIOLATIONS_MAX == len(found) == len(set(found))
    said = "0 on hand, 0 reserved, 0 shipped, 0 restocked, 1 opening: 0 units of 1"
    assert found[0] == f"stock_not_conserved (p0): {said}"


# --- what it tells --------------------------------------------------------------------------------


class _Listener(Agent):
    """Follows the violations, and keeps what it hears."""

    uses = ("shop_checker",)

    def __init__(self) -> None:
        self.heard: list[Violation] = []

    @follow(VIOLATION)
    async def hear(self, violation: Violation) -> None:
        self.heard.append(violation)


async def _verdict(mesh: Mesh) -> Verdict:
    return await mesh.request("shop_checker", "verdict", returns=Verdict)


def _unit_gone(path: Path) -> None:
    _plant(path, "UPDATE stock SET opening = opening + 1 WHERE shipped = 2")


async def test_a_fault_is_found_while_the_agents_work(tmp_path: Path) -> None:
    """Those that move stock and money confirm an order, and nothing is said; a unit vanishes."""
    async with a_stand(tmp_path) as stand:
        settings = stand.settings
        await stand.host(
            InventoryAgent(settings),
            PaymentAgent(settings),
            OrderProcessingAgent(settings),
            CheckerAgent(settings),
        )
        await stand.place()
        verdict = await _verdict(stand.client)
        assert ((), (), "") == (verdict.violations, verdict.late, verdict.unread)
        assert verdict.looks > 0 < verdict.rounds
        _unit_gone(tmp_path / "stock.db")
        (text,) = (await _verdict(stand.client)).violations
        assert text.startswith(f"stock_not_conserved ({TEA}): 98 on hand, 0 reserved, 2 shipped")


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    """Give a mesh in memory."""
    settings = Settings(project=tmp_path, state_folder=tmp_path, mesh="checked")
    async with Mesh(settings=settings, engine=MemoryEngine()) as mesh:
        yield mesh


async def test_a_violation_is_an_event_once(mesh: Mesh, path: Path) -> None:
    """However often it is seen; and a checker that starts anew finds, and tells, it again."""
    settings, listener = settings_on(f"sqlite:///{path}"), _Listener()
    checker = CheckerAgent(settings)
    await mesh.host(listener)
    await mesh.host(checker)
    _unit_gone(path)
    texts = {(await _verdict(mesh)).violations for _ in range(3)}
    await eventually(lambda: listener.heard)
    assert texts == {tuple(violation.text for violation in listener.heard)}
    await checker.stop()
    another = CheckerAgent(settings)
    await mesh.host(another)
    await eventually(lambda: len(listener.heard) == 2)
    assert texts == {another._watch.verdict().violations}


async def test_it_looks_every_two_seconds_unasked(mesh: Mesh, path: Path) -> None:
    """From its start until its end, and no sooner."""
    clock = ManualClock()
    checker = CheckerAgent(settings_on(f"sqlite:///{path}"), clock=clock)
    await mesh.host(checker)

    def looks() -> int:
        return checker._watch.verdict().looks

    for count in (1, 2):
        await eventually(lambda count=count: looks() == count)  # type: ignore[misc]  # mypy sees no type for the default
        await _waits(clock)
        await clock.advance(1.9)
        assert count == looks()
        await clock.advance(0.1)
    await eventually(lambda: looks() == 3)
    await _waits(clock)
    await checker.stop()
    await clock.advance(100.0)
    assert 3 == looks()


async def _waits(clock: ManualClock) -> None:
    """Return when somebody waits for the clock."""
    await eventually(lambda: "timers=0" not in repr(clock))


async def test_an_event_that_cannot_be_stored_is_stored_later(
    mesh: Mesh, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The violation is logged at once and once, and the verdict has it meanwhile."""

    class Unheard(CheckerAgent):
        is_cut_off = True

        async def append(self, *arguments: Any, **how: Any) -> str:
            if self.is_cut_off:
                raise TransportError("cut off")
            return await super().append(*arguments, **how)

    listener, checker = _Listener(), Unheard(settings_on(f"sqlite:///{path}"))
    await mesh.host(listener)
    await mesh.host(checker)
    _unit_gone(path)
    for _ in range(2):
        assert 1 == len((await _verdict(mesh)).violations)
    assert [] == listener.heard
    checker.is_cut_off = False
    await _verdict(mesh)
    await eventually(lambda: listener.heard)
    assert 1 == len(listener.heard)
    assert 1 == caplog.text.count("what may never be: stock_not_conserved")
    assert "not in the log of events yet: cut off" in caplog.text


async def test_a_look_that_breaks_is_not_the_last(
    mesh: Mesh, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with where it broke, and there is another."""
    clock = ManualClock()
    checker = CheckerAgent(settings_on(f"sqlite:///{path}"), clock=clock)
    look: Callable[[int], None] = checker._watch.look
    monkeypatch.setattr(checker._watch, "look", lambda _: 1 / 0)
    await mesh.host(checker)
    await eventually(lambda: "a look at the shop failed" in caplog.text)
    assert "ZeroDivisionError" in caplog.text
    monkeypatch.setattr(checker._watch, "look", look)
    await _waits(clock)
    await clock.advance(2.0)
    await eventually(lambda: checker._watch.verdict().looks)


class _Turn(asyncio.Lock):
    """Counts who asks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def acquire(self) -> Literal[True]:
        self.asked += 1
        return await super().acquire()


async def test_who_asks_during_a_look_shares_the_next_one(
    mesh: Mesh, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that any number of them costs a look; each is answered by one that began after it came."""
    checker = CheckerAgent(settings_on(f"sqlite:///{path}"), clock=ManualClock())
    checker._turn = turn = _Turn()
    go_on = threading.Event()
    look: Callable[[int], None] = checker._watch.look

    def slowly(now_us: int) -> None:
        go_on.wait(10)
        look(now_us)

    monkeypatch.setattr(checker._watch, "look", slowly)
    await mesh.host(checker)
    await eventually(lambda: checker._begun == 1)
    asking = [asyncio.ensure_future(_verdict(mesh)) for _ in range(5)]
    await eventually(lambda: turn.asked == 1 + len(asking))
    go_on.set()
    assert [2] * 5 == [verdict.looks for verdict in await asyncio.gather(*asking)]


def test_the_log_is_split() -> None:
    """Violations are the checker's, each once; what others tell stays in its order."""
    said = [
        {"header": {"to_uuid": "order.received"}, "order_id": "1"},
        *2 * [{"header": {"to_uuid": VIOLATION}, "name": "a", "subject": "b", "seen": "c"}],
        {"header": {"to_uuid": "order.reserved"}, "order_id": "1"},
    ]
    messages = [json.dumps(each).encode() for each in said]
    assert ([messages[0], messages[3]], ("a (b): c",)) == split_log(messages)
