"""The check at the end: silent on a sound run, and loud, by name, on every fault planted in one."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import polars as pl
import pytest
import sqlalchemy
from msgspec import UNSET

from agent99.clock import SystemClock
from agent99.errors import Failure, StoreUnavailableError, UsageError
from agent99.systems.shop._cancelling import Cancelling
from agent99.systems.shop._catalogue import PriceList
from agent99.systems.shop._check import (
    CheckReport,
    Terms,
    as_json,
    check_shop,
    compare,
    describe,
)
from agent99.systems.shop._check_sources import (
    Databases,
    Event,
    FileSide,
    frame_of,
    read_event,
    read_file,
    read_stores,
)
from agent99.systems.shop._data import EXTRACT, read_year
from agent99.systems.shop._declines import DeclineRule
from agent99.systems.shop._giving_back import GivingBack
from agent99.systems.shop._handover import hand_over, tell
from agent99.systems.shop._identity import order_uuid, rest_key
from agent99.systems.shop._journey import Journey
from agent99.systems.shop._model import (
    MessageType,
    OrderCancelled,
    OrderConfirmation,
    PlaceOrder,
    Restock,
)
from agent99.systems.shop._order import CANCELS_REST
from agent99.systems.shop._return_model import GivenBack
from agent99.systems.shop._returns import Returns
from agent99.systems.shop._year import Invoice, Year, give_back, place_order
from agent99.testing import SagaStage
from tests.systems.shop._faults import FAULTS
from tests.systems.shop._money_faults import MONEY_FAULTS, UNDONE
from tests.systems.shop._shop import AtOnce, Faults, OpenShop, Others, Shop

_TERMS = Terms(decline_rate=0.2, seed=3)
_FAULTS = FAULTS | MONEY_FAULTS
_AN_EVENT = Event("id", "order.received", "order", 0)


CANCELLED_OF_256 = 32
"""Of the confirmed orders, these are cancelled before they leave."""


class Instance:
    """One instance of order processing, whose sagas are each on a journal of its own.

    Where something runs out every second customer waits for it, and it is delivered.
    """

    def __init__(self, shop: Shop, prices: PriceList, *, is_scarce: bool) -> None:
        self._shop = shop
        self._is_scarce = is_scarce
        self._others = others = Others(shop, Faults())
        self._others.cancels = self._cancel
        self._journey = Journey(shop.orders, prices, others)
        returns = Returns(shop.orders._store, SystemClock())
        self._giving_back = GivingBack(returns, others)
        self._cancelling = Cancelling(shop.orders, returns, self._giving_back, others)

    async def place(self, invoice: Invoice) -> list[str]:
        """Place an order and see to what follows; returns how it, and its back-order, ended."""
        order_id = order_uuid(invoice.number)
        waits = self._is_scarce and order_id.bytes[1] % 2 == 0
        request = place_order(invoice, "split" if waits else "refuse")
        try:
            done = await self._deliver_to(request, invoice.number)
        except Failure as failure:
            await self._tell(order_id, "order_back_ordered")
            await self._tell(order_id, "order_rejected")
            return [failure.code]
        rest = [] if done.back_order_id is UNSET else await self._rest(order_id)
        if order_id.bytes[0] < CANCELLED_OF_256:
            await self._cancel(order_id)
        orders = [order_id] if done.back_order_id is UNSET else [order_id, done.back_order_id]
        for each in orders:
            await self._follow(each)
        found = [(await self._shop.orders.find(each)).state.value for each in orders]
        return found[:1] + (rest or found[1:])

    async def _rest(self, order_id: UUID) -> list[str]:
        """Have a back-order placed; returns why it was rejected, if it was."""
        order, request = await self._shop.orders.placed(order_id)
        rest = msgspec.structs.replace(request, items=order.back_ordered, if_short="wait")
        try:
            await self._deliver_to(rest, rest_key(order_id))
        except Failure as failure:
            await self._tell(order_uuid(rest_key(order_id)), "order_rejected")
            return [failure.code]
        return []

    async def _deliver_to(self, request: PlaceOrder, key: str) -> OrderConfirmation:
        """Place an order; deliver what it waits for, as often as others are faster."""
        order = partial(self._journey.place, request)
        placing = asyncio.ensure_future(SagaStage().play(order, OrderConfirmation, key=key))
        while not (await asyncio.wait((placing,), timeout=0.05))[0]:
            with suppress(Failure):  # it is not stored yet
                if (await self._shop.orders.find(order_uuid(key))).state == "back_ordered":
                    for line in request.items:
                        await self._shop.stock.restock(Restock(line.product_id, line.quantity))
        return await placing

    async def _follow(self, order_id: UUID) -> None:
        await self._tell(order_id, "order_back_ordered")
        if (await self._shop.orders.find(order_id)).state != "rejected":
            await hand_over(self._shop.orders, AtOnce(self._shop), order_id)

    async def give_back(self, invoice: Invoice) -> None:
        """Give back what a cancellation takes back."""
        back = partial(self._giving_back.give_back, give_back(invoice))
        given = await SagaStage().play(back, GivenBack, key=invoice.number)
        for order_id in given.orders:
            await self._tell(order_id, "order_refunded")

    async def _cancel(self, order_id: UUID) -> OrderCancelled:
        cancel, stage = partial(self._cancelling.cancel, order_id), SagaStage()
        key, version = str(order_id), CANCELS_REST
        answer = await stage.play(cancel, OrderCancelled, key=key, version=version)
        for kind in ("order_refunded", "order_cancelled"):
            await self._tell(order_id, kind)
        return answer

    async def _tell(self, order_id: UUID, kind: MessageType) -> None:
        await tell(self._shop.orders, AtOnce(self._shop), order_id, kind)


async def _replay(open_shop: OpenShop, year: Year, terms: Terms) -> Counter[str]:
    """Replay a year without the bus, customers concurrently; returns how its orders ended."""
    rule = DeclineRule(rate=terms.decline_rate, seed=terms.seed)
    shops = [await open_shop(rule), await open_shop(rule)]
    prices = year.price_list()
    await shops[0].stock.fill(year.opening_stock(terms.scarcity))
    await shops[0].orders.add_prices(prices)
    is_scarce = terms.scarcity < 1.0
    instances = [Instance(shop, prices, is_scarce=is_scarce) for shop in shops]
    ends: Counter[str] = Counter()
    gate = asyncio.Semaphore(32)

    async def one(number: int) -> None:
        async with gate:
            for invoice in year.customers[number]:
                if invoice.kind == "order":
                    ends.update(await instances[number % 2].place(invoice))
                elif invoice.kind == "cancellation":
                    await instances[number % 2].give_back(invoice)

    await asyncio.gather(*map(one, range(len(year.customers))))
    return ends


def _check(
    path: Path, url: str, terms: Terms = _TERMS, events: list[Event] | None = None
) -> CheckReport:
    return check_shop(path, _databases(url), events or _log_of(url), terms=terms)


def _databases(url: str) -> Databases:
    names = ("orders_url", "stock_url", "payments_url", "shipments_url", "messages_url")
    return Databases(**dict.fromkeys(names, url))


@cache
def _file_side(path: Path, terms: Terms) -> FileSide:
    """Read the file once for all that is planted in one run of it: a third of each test's time."""
    return read_file(
        path, decline_rate=terms.decline_rate, seed=terms.seed, scarcity=terms.scarcity
    )


def _log_of(url: str) -> list[Event]:
    """Return what a log would hold if a relay had sent what the transactions left."""
    engine = sqlalchemy.create_engine(
        sqlalchemy.make_url(url).set(
            drivername="sqlite" if url.startswith("sqlite") else "postgresql+psycopg"
        )
    )
    rows = "SELECT id, topic, body FROM agent99_outbox ORDER BY position"
    with engine.connect() as connection:
        left = connection.exec_driver_sql(rows).all()
    engine.dispose()
    return [
        read_event(
            msgspec.json.encode(
                {
                    "header": {"event_uuid": row.id, "to_uuid": row.topic},
                    **msgspec.json.decode(bytes(row.body)),
                }
            )
        )
        for row in left
    ]


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of some 60 orders, with cancellations and guests among them."""
    path = tmp_path_factory.mktemp("few") / "few.parquet"
    some = pl.col("Invoice").is_in(pl.col("Invoice").unique().sort().gather_every(24).implode())
    pl.read_parquet(EXTRACT).filter(some).write_parquet(path)
    return path


@pytest.mark.may_block("polars reads the file and the databases on the loop's thread")
@pytest.mark.parametrize(
    "terms",
    [
        pytest.param(Terms(decline_rate=0.0), id="all", marks=pytest.mark.slow),
        pytest.param(_TERMS, id="declines"),
        pytest.param(Terms(decline_rate=0.1, scarcity=0.7), id="scarce", marks=pytest.mark.slow),
    ],
)
async def test_a_sound_run_passes(open_shop: OpenShop, few: Path, url: str, terms: Terms) -> None:
    """On both databases, with declines and with shortages; the figures are those of the run."""
    year = read_year(few)
    ends = await _replay(open_shop, year, terms)
    report = _check(few, url, terms)
    assert [] == describe(report)
    assert report.ok
    assert 0 < ends["cancelled"]
    assert dict(ends) == {
        "confirmed": report.confirmed,
        "cancelled": report.cancelled,
        **report.rejected,
    }
    assert year.counts.orders + report.back_orders == ends.total()
    assert year.counts.orders == report.counts["orders"]
    assert (terms.scarcity < 1.0) == (report.back_orders > 0)
    assert year.counts.cancellations == report.counts["cancellations"]
    assert dict(year.counts.skipped) == report.skipped
    assert report.revenue_pence < report.captured_pence  # what was cancelled had been paid for
    if terms.decline_rate == 0.0:
        assert year.revenue_pence() == report.captured_pence


@pytest.mark.may_block("polars reads the file and the databases on the loop's thread")
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_back_order_is_of_what_was_missing(
    open_shop: OpenShop, few: Path, url: str
) -> None:
    """Of nothing else, and it is known by its order: what the shop says of it is looked up."""
    terms = Terms(decline_rate=0.1, scarcity=0.7)
    shop = await open_shop()
    await _replay(open_shop, read_year(few), terms)

    async def found_after(statement: str) -> set[str]:
        changed = await shop.store.transaction(lambda tx: tx.execute(statement).changed)
        assert changed, statement
        return {each.name for each in _check(few, url, terms).findings}

    apart = (
        "(SELECT min(order_id) FROM orders WHERE back_ordered IS NOT NULL AND state = 'confirmed')"
    )
    assert {"back_order_wrong"} == await found_after(
        f"UPDATE reservations SET wanted = NULL WHERE order_id = {apart}"
    )
    names = await found_after(f"UPDATE orders SET back_ordered = NULL WHERE order_id = {apart}")
    assert {"order_invented", "order_total_wrong", "order_lines_wrong", "payment_wrong"} <= names
    assert "back_order_wrong" not in names


class Run(NamedTuple):
    """A finished run on SQLite, to be copied and spoilt."""

    file: Path
    database: Path


@pytest.fixture(scope="session")
def finished(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a sound run of the file of 60 orders."""
    from tests.systems.shop.conftest import opened

    database = tmp_path_factory.mktemp("run") / "shop.db"

    async def run() -> None:
        async with opened(f"sqlite:///{database}") as open_shop:
            await _replay(open_shop, read_year(few), _TERMS)

    asyncio.run(run())
    return Run(few, database)


@pytest.fixture
def spoil(finished: Run, tmp_path: Path) -> Callable[..., set[str]]:
    """Give `spoil(*sql)`: the names of what the check finds on a copy so changed."""
    copy = tmp_path / "shop.db"

    def spoil_copy(*statements: str, terms: Terms = _TERMS) -> set[str]:
        shutil.copy(finished.database, copy)
        engine = sqlalchemy.create_engine(f"sqlite:///{copy}")
        with engine.begin() as connection:
            connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
            for statement in statements:
                assert connection.exec_driver_sql(statement).rowcount > 0, statement
        engine.dispose()
        url = f"sqlite:///{copy}"
        stores, events = read_stores(_databases(url)), frame_of(_log_of(url))
        report = compare(_file_side(finished.file, terms), stores, events, terms)
        assert len(report.findings) == len(describe(report))
        assert as_json(report)["ok"] is not bool(report.findings)
        return {finding.name for finding in report.findings}

    return spoil_copy


def test_the_run_that_is_spoilt_was_sound(finished: Run) -> None:
    """Without a planted fault there is nothing to find."""
    report = _check(finished.file, f"sqlite:///{finished.database}")
    assert report.ok, describe(report)
    assert {"PAYMENT_ERROR"} == set(report.rejected)


@pytest.mark.parametrize("fault", _FAULTS)
def test_a_planted_fault_is_caught(spoil: Callable[..., set[str]], fault: str) -> None:
    """Each fault is found, under exactly the names that it deserves."""
    statements, names = _FAULTS[fault]
    assert names == spoil(*statements)


@pytest.mark.parametrize("how", UNDONE)
def test_a_rejected_orders_money_may_be_undone(spoil: Callable[..., set[str]], how: str) -> None:
    """Given back in whole, or let go, it is no finding."""
    assert {"shortage_without_scarcity"} == spoil(*UNDONE[how])


def test_what_a_rejected_order_held_may_expire(spoil: Callable[..., set[str]]) -> None:
    """Time lets go as well as somebody who does so: it is no fault."""
    expired = "UPDATE reservations SET state = 'expired', expires_us = updated_us"
    assert set() == spoil(f"{expired} WHERE state = 'released'")


def test_what_a_rejected_order_was_shipped_may_come_back(spoil: Callable[..., set[str]]) -> None:
    """A saga that is undone after its commit takes all of it back: less than all is a fault."""
    order = "(SELECT min(order_id) FROM orders WHERE reason = 'PAYMENT_ERROR')"
    of = f"FROM reservation_lines AS l WHERE l.order_id = {order}"
    units = f"(SELECT quantity {of} AND l.product_id = stock.product_id)"
    undone = (
        f"UPDATE reservations SET state = 'committed' WHERE order_id = {order}",
        (
            "UPDATE reservation_lines SET shipped = quantity, returned = quantity"
            f" WHERE order_id = {order}"
        ),
        (
            f"UPDATE stock SET shipped = shipped + {units}, restocked = restocked + {units}"
            f" WHERE product_id IN (SELECT product_id {of})"
        ),
    )
    assert set() == spoil(*undone)
    one = f"(SELECT min(product_id) {of})"
    kept = f"UPDATE reservation_lines SET returned = 0 WHERE order_id = {order}"
    assert {
        "reservation_wrong",
        "shipped_without_order",
        "stock_lines_differ",
        "stock_shipped_wrong",
    } == spoil(*undone, f"{kept} AND product_id = {one}")


def test_another_seed_rate_or_scarcity_is_noticed(spoil: Callable[..., set[str]]) -> None:
    """The check recomputes who is declined and what the shelves held, from the options alone."""
    harmless = "UPDATE orders SET updated_us = updated_us"
    assert {"decline_missed", "decline_invented"} == spoil(
        harmless, terms=Terms(decline_rate=0.2, seed=4)
    )
    assert {"decline_invented"} == spoil(harmless, terms=Terms(decline_rate=0.0, seed=3))
    scarce = Terms(decline_rate=0.2, seed=3, scarcity=0.5)
    assert {"stock_opening_wrong"} == spoil(harmless, terms=scarce)


def test_a_report_is_json_and_shows_examples(finished: Run, tmp_path: Path) -> None:
    """A finding says what should hold, how often it does not, and a few ids."""
    copy = tmp_path / "shop.db"
    shutil.copy(finished.database, copy)
    engine = sqlalchemy.create_engine(f"sqlite:///{copy}")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE payments SET customer_id = 'x' WHERE state = 'captured'")
    engine.dispose()
    report = _check(finished.file, f"sqlite:///{copy}")
    (finding,) = report.findings
    paid = report.confirmed + report.cancelled
    assert (paid, 5) == (finding.count, len(finding.examples))
    found: dict[str, Any] = as_json(report)
    assert found["findings"][0]["name"] == "payment_wrong"
    assert not found["ok"]


def test_a_url_of_another_database_is_refused(finished: Run) -> None:
    """SQLite and PostgreSQL are read, nothing else."""
    with pytest.raises(UsageError, match="not mysql"):
        _check(finished.file, "mysql://localhost/shop", events=[_AN_EVENT])


def test_a_database_that_is_gone_is_an_error_of_ours(finished: Run) -> None:
    """It went away after the run: a sentence with its name, and without its credential."""
    with pytest.raises(StoreUnavailableError, match=r"nowhere/shop\.db is not available"):
        _check(finished.file, "sqlite:////nowhere/shop.db", events=[_AN_EVENT])


@pytest.mark.slow
async def test_the_whole_extract_passes(open_shop: OpenShop, extract: Year, url: str) -> None:
    """Four weeks without the bus, with declines, shortages and cancels, close to the penny."""
    terms = Terms(decline_rate=0.05, scarcity=0.9)
    ends = await _replay(open_shop, extract, terms)
    report = _check(EXTRACT, url, terms)
    assert [] == describe(report)
    assert 1_446 + report.back_orders == ends.total()
    assert report.back_orders > 0
    assert {"confirmed", "cancelled", "INVENTORY_ERROR", "PAYMENT_ERROR"} == set(ends)
    assert report.refunded_pence > 0, "what the file takes back is given back"
