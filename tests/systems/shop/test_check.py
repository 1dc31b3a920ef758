"""The check at the end: silent on a sound run, and loud, by name, on every fault planted in one."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest
import sqlalchemy

from agent99.errors import Failure, StoreUnavailableError, UsageError
from agent99.systems.shop._check import CheckReport, Terms, as_json, check_shop, describe
from agent99.systems.shop._checkout import Checkout
from agent99.systems.shop._data import EXTRACT, read_year
from agent99.systems.shop._declines import DeclineRule
from agent99.systems.shop._year import Year, place_order
from tests.systems.shop._faults import FAULTS
from tests.systems.shop._shop import Local, OpenShop

_TERMS = Terms(decline_rate=0.2, seed=3)


async def _replay(open_shop: OpenShop, year: Year, terms: Terms) -> Counter[str]:
    """Replay a year without the bus, customers concurrently; returns how its orders ended."""
    rule = DeclineRule(rate=terms.decline_rate, seed=terms.seed)
    shops = [await open_shop(rule), await open_shop(rule)]
    prices = year.price_list()
    await shops[0].stock.fill(year.opening_stock(terms.scarcity))
    await shops[0].orders.add_prices(prices)
    counters = [Checkout(shop.orders, prices, Local(shop.stock, shop.payments)) for shop in shops]
    ends: Counter[str] = Counter()
    gate = asyncio.Semaphore(32)

    async def one(number: int) -> None:
        async with gate:
            for invoice in year.customers[number]:
                if invoice.kind != "order":
                    continue
                try:
                    await counters[number % 2].place(place_order(invoice), invoice.number)
                    ends["confirmed"] += 1
                except Failure as failure:
                    ends[failure.code] += 1

    await asyncio.gather(*map(one, range(len(year.customers))))
    return ends


def _check(path: Path, url: str, terms: Terms = _TERMS) -> CheckReport:
    return check_shop(path, orders_url=url, stock_url=url, payments_url=url, terms=terms)


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
    [Terms(decline_rate=0.0), _TERMS, Terms(decline_rate=0.1, scarcity=0.7)],
    ids=["all", "declines", "scarce"],
)
async def test_a_sound_run_passes(open_shop: OpenShop, few: Path, url: str, terms: Terms) -> None:
    """On both databases, with declines and with shortages; the figures are those of the run."""
    year = read_year(few)
    ends = await _replay(open_shop, year, terms)
    report = _check(few, url, terms)
    assert [] == describe(report)
    assert report.ok
    assert dict(ends) == {"confirmed": report.confirmed, **report.rejected}
    assert year.counts.orders == ends.total() == report.counts["orders"]
    assert year.counts.cancellations == report.counts["cancellations"]
    assert dict(year.counts.skipped) == report.skipped
    assert report.revenue_pence == report.captured_pence
    if terms.decline_rate == 0.0:
        assert year.revenue_pence() == report.revenue_pence


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
        report = _check(finished.file, f"sqlite:///{copy}", terms)
        assert len(report.findings) == len(describe(report))
        assert as_json(report)["ok"] is not bool(report.findings)
        return {finding.name for finding in report.findings}

    return spoil_copy


def test_the_run_that_is_spoilt_was_sound(finished: Run) -> None:
    """Without a planted fault there is nothing to find."""
    report = _check(finished.file, f"sqlite:///{finished.database}")
    assert report.ok, describe(report)
    assert {"PAYMENT_ERROR"} == set(report.rejected)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(spoil: Callable[..., set[str]], fault: str) -> None:
    """Each fault is found, under exactly the names that it deserves."""
    statements, names = FAULTS[fault]
    assert names == spoil(*statements)


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
        connection.exec_driver_sql("UPDATE orders SET customer_id = 'x'")
    engine.dispose()
    report = _check(finished.file, f"sqlite:///{copy}")
    (finding,) = report.findings
    assert (report.counts["orders"], 5) == (finding.count, len(finding.examples))
    found: dict[str, Any] = as_json(report)
    assert found["findings"][0]["name"] == "order_customer_wrong"
    assert not found["ok"]


def test_a_url_of_another_database_is_refused(finished: Run) -> None:
    """SQLite and PostgreSQL are read, nothing else."""
    with pytest.raises(UsageError, match="not mysql"):
        _check(finished.file, "mysql://localhost/shop")


def test_a_database_that_is_gone_is_an_error_of_ours(finished: Run) -> None:
    """It went away after the run: a sentence with its name, and without its credential."""
    with pytest.raises(StoreUnavailableError, match=r"nowhere/shop\.db is not available"):
        _check(finished.file, "sqlite:////nowhere/shop.db")


@pytest.mark.slow
async def test_the_whole_extract_passes(open_shop: OpenShop, extract: Year, url: str) -> None:
    """Four weeks without the bus, with declines and shortages, close to the penny."""
    terms = Terms(decline_rate=0.05, scarcity=0.9)
    ends = await _replay(open_shop, extract, terms)
    report = _check(EXTRACT, url, terms)
    assert [] == describe(report)
    assert 1_446 == ends.total()
    assert {"confirmed", "INVENTORY_ERROR", "PAYMENT_ERROR"} == set(ends)
