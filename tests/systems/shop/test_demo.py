"""The demo with real processes: its figures, its exit codes, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, uuid5

import polars as pl
import pytest

from agent99.clock import SystemClock
from agent99.errors import UsageError
from agent99.ids import SystemIds
from agent99.store import open_store
from agent99.systems.shop import _following, run_demo
from agent99.systems.shop._crew import Crew, CrewError
from agent99.systems.shop._data import EXTRACT, read_year
from agent99.systems.shop._ground import BUCKETS
from agent99.systems.shop._settings import settings_in, settings_on
from agent99.systems.shop._tables import ORDERS_MIGRATIONS, ORDERS_SCHEMA
from agent99.systems.shop._worker import Place, Plan
from agent99.wire import open_wire
from tests._nats_server import NatsServer
from tests._wait import eventually, wait_until
from tests.systems.shop._programme import READY, Programme, is_alive, write_tiny

PROMISED = (
    "ok",
    "invoices",
    "orders",
    "confirmed",
    "rejected",
    "skipped",
    "cancellations",
    "revenue_pence",
    "orders_per_s",
    "p50_ms",
    "p99_ms",
)
Start = Callable[..., Programme]


@pytest.fixture
def start() -> Iterator[Start]:
    """Give `start(*arguments)`: the demo as a process, gone with the test."""
    started: list[Programme] = []

    def one(*arguments: str, **how: Any) -> Programme:
        started.append(Programme(*arguments, **how))
        return started[-1]

    yield one
    for programme in started:
        programme.close()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of sixty invoices."""
    return write_tiny(tmp_path_factory.mktemp("data") / "tiny.parquet", 60)


def test_one_object_and_nothing_else(start: Start, tiny: Path) -> None:
    """`--json`: the promised figures first, each agent in its own process, books that close."""
    demo = start("--data", str(tiny), "--json")
    assert 0 == demo.wait(), demo.text
    assert "" == demo.text
    found = demo.document
    assert PROMISED == tuple(found)[: len(PROMISED)]
    year = read_year(tiny)
    assert (True, 60, year.counts.orders) == (found["ok"], found["invoices"], found["orders"])
    assert year.counts.orders == found["confirmed"] + sum(found["rejected"].values())
    assert {"PAYMENT_ERROR"} >= set(found["rejected"])
    assert dict(year.counts.skipped) == found["skipped"]
    parts = ("orders", "cancellations", "adjustments", "unsellable")
    assert found["invoices"] == sum(found[part] for part in parts)
    assert 0 < found["p50_ms"] <= found["p99_ms"]
    instances = found["instances"]
    assert {"inventory/1", "inventory/2", "checker/1"} <= {i["place"] for i in instances}
    assert 10 == len({each["pid"] for each in instances}) == len(instances)
    messages: Counter[str] = Counter()
    for each in instances:
        messages[each["agent"]] += each["messages"]
    confirmed, rejected = found["confirmed"], sum(found["rejected"].values())
    # Each order's money is held, a confirmed one's taken, and what is given back comes as well.
    refunds = messages["payment"] - found["orders"] - confirmed
    assert 0 <= refunds <= found["lines_refunded"]
    # Orders, and of each confirmed one: to hand it over, what came of both halves of that, and
    # that it was told of the second.
    assert found["orders"] + 4 * confirmed < messages["order-processing"]
    assert confirmed == messages["fulfillment"] == found["shipped"] == found["notified"]
    assert 2 * confirmed + rejected + refunds == messages["notification"] == found["messages"]
    assert 8 * confirmed + 4 * rejected + 2 * refunds == found["events"]
    history = found["history"]
    assert (True, found["orders"]) == (history["identical"], history["orders"])
    states = {"confirmed": confirmed, "rejected": rejected}
    assert {state: count for state, count in states.items() if count} == history["by_state"]


@pytest.mark.slow
def test_customers_may_cancel(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever each of them wanted, and when, the books close."""
    assert 0 == run_demo({"data": str(tiny), "cancel_rate": 0.5, "instances": 1, "json": True})
    found = json.loads(capsys.readouterr().out)
    assert 0 < found["cancelled"]
    assert 0 < found["cancelled_pence"], "nobody cancelled what was paid for"
    ended = found["confirmed"] + found["cancelled"] + sum(found["rejected"].values())
    assert found["orders"] == ended == sum(found["history"]["by_state"].values())


@pytest.mark.slow
def test_without_declines_the_money_is_the_files(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything is confirmed, to the penny; the table is for people."""
    assert 0 == run_demo({"data": str(tiny), "decline_rate": 0.0, "instances": 1})
    shown = capsys.readouterr().out
    pounds = f"£{read_year(tiny).revenue_pence() / 100:,.2f}"
    assert pounds in shown
    assert READY in shown
    for part in ("invoices read", "orders per second", "AGENT", "payment/1", "The books close"):
        assert part in shown


@pytest.mark.slow
def test_files_of_the_current_folder_are_not_ours(start: Start, tiny: Path, tmp_path: Path) -> None:
    """A user's file may be called like a module of Python's: no process of the demo loads it."""
    for name in ("queue", "json", "select", "msgspec"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong file was loaded')\n")
    demo = start("--data", str(tiny), cwd=tmp_path)
    assert 0 == demo.wait(), demo.text
    assert "the wrong file" not in demo.text


async def test_a_nursery_that_dies_at_once_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whichever of the two ways the closed pipe shows: no traceback of ours."""
    monkeypatch.setattr("sys.executable", "/bin/false")
    shop = settings_in(tmp_path)
    plan = Plan(folder="", url="", mesh="", shop=shop, catalogue="", places=(), stream_bytes_max=0)
    async with Crew(on_news=lambda _: None) as crew:
        await eventually(crew.lost.done)
        with pytest.raises(CrewError, match="ended at once"):
            await crew.send(plan)


async def test_what_would_fail_again_is_not_started_again(tmp_path: Path) -> None:
    """A place that ended for a reason that stays: the demo is told it once, and ends."""
    catalogue = tmp_path / "catalogue.json"
    catalogue.write_text('{"prices": [], "stock": {}}')
    plan = Plan(
        folder=str(tmp_path),
        url="nats://127.0.0.1:1",
        mesh="shop-test",
        shop=settings_on("mysql://x"),
        catalogue=str(catalogue),
        places=(Place("inventory", 1),),
        stream_bytes_max=1024**2,
    )
    news: list[str] = []
    async with Crew(on_news=news.append) as crew:
        await crew.send(plan)
        await eventually(crew.lost.done)
        with pytest.raises(CrewError, match=r"inventory/1 did not run: .* not mysql"):
            crew.lost.result()
        assert 1 == len(crew.pids)
    assert [] == news


@pytest.mark.parametrize(
    ("url", "code", "part"),
    [
        ("foo", 2, "no database URL"),
        ("mysql://x", 2, "not mysql"),
        ("sqlite:////nowhere/at/all.db", 1, "does not exist"),
    ],
)
def test_a_database_that_cannot_be_is_one_sentence(
    start: Start, tiny: Path, url: str, code: int, part: str
) -> None:
    """It is opened before anything starts, and nothing is tried again."""
    demo = start("--data", str(tiny), "--store", url)
    assert code == demo.wait()
    (line,) = demo.lines
    assert part in line


async def _make_tables(url: str) -> None:
    async with open_store(url, migrations=ORDERS_MIGRATIONS, schema=ORDERS_SCHEMA):
        pass


async def _plant(url: str) -> None:
    """Put an order into the database that no file has."""
    async with open_store(url, migrations=ORDERS_MIGRATIONS, schema=ORDERS_SCHEMA) as store:
        await store.transaction(
            lambda tx: (
                tx.execute(
                    "INSERT INTO orders (order_id, customer_id, state, total_pence, address,"
                    " fingerprint, steps, received_us, updated_us)"
                    " VALUES ('invented', 'x', 'rejected', 1, '', '', 0, 0, 0)"
                ).changed
            )
        )


@pytest.mark.slow
def test_a_fault_is_found_and_is_exit_code_1(start: Start, tiny: Path, tmp_path: Path) -> None:
    """An order that is in the database and not in the file: the check says so (rule 11)."""
    url = f"sqlite:///{tmp_path}/shop.db"
    demo = start("--data", str(tiny), "--store", url, "--speed", "2")
    demo.wait_line(READY)
    asyncio.run(_plant(url))
    assert 1 == demo.wait(), demo.text
    assert any(line.startswith("FAULT order_invented") for line in demo.lines)


@pytest.mark.slow
def test_a_shipment_that_does_not_come_is_not_waited_for(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not for ever: it is told, and the check says which orders have none in their history."""
    monkeypatch.setattr(_following, "STANDSTILL_S", 1.0)
    path = tmp_path / "shop.db"
    asyncio.run(_make_tables(f"sqlite:///{path}"))
    with closing(sqlite3.connect(path)) as link:
        link.execute(
            "CREATE TRIGGER forgetful BEFORE INSERT ON order_history WHEN NEW.event = 'ship'"
            " BEGIN SELECT RAISE(IGNORE); END"
        )
    assert 1 == run_demo({"data": str(tiny), "store": f"sqlite:///{path}", "instances": 1})
    shown = capsys.readouterr().out
    assert "nothing moves any more: shipments, messages and events that are left: " in shown
    assert "FAULT shipment_not_noted" in shown


def test_a_database_that_was_used_is_refused(tiny: Path, url: str) -> None:
    """Old orders would be answered as they were then, and the books mean nothing."""
    asyncio.run(_plant(url))
    with pytest.raises(UsageError, match="has orders in it already"):
        run_demo({"data": str(tiny), "store": url})


def test_a_database_of_others_is_refused(tiny: Path, tmp_path: Path) -> None:
    """Tables of the shop's names that are not the shop's."""
    path = tmp_path / "others.db"
    with closing(sqlite3.connect(path)) as link:
        link.execute("CREATE TABLE stock (name TEXT)")
    with pytest.raises(UsageError, match="not an empty one"):
        run_demo({"data": str(tiny), "store": f"sqlite:///{path}"})


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_ctrl_c_leaves_nothing(start: Start, tiny: Path, number: signal.Signals) -> None:
    """One sentence, exit code 130, and no process of it is left."""
    demo = start("--data", str(tiny), "--speed", "0.01")
    demo.wait_line(READY)
    family = demo.family()
    assert 12 == len(family)
    demo.process.send_signal(number)
    assert 130 == demo.wait()
    assert demo.lines[-1] == "agent99: interrupted"
    assert not [pid for pid in family if is_alive(pid)]


@pytest.mark.slow
def test_it_can_be_watched_from_another_terminal(start: Start, tiny: Path) -> None:
    """Its folder, which only its owner can enter, is a project of its mesh."""
    demo = start("--data", str(tiny), "--speed", "0.01")
    demo.wait_line(READY)
    found = re.search(r"watch it from another terminal: cd (\S+) && agent99 top", demo.text)
    assert found, demo.text
    assert 0o700 == stat.S_IMODE(Path(found[1]).stat().st_mode)
    assert "@" not in demo.text
    environ = {k: v for k, v in os.environ.items() if not k.startswith("AGENT99_")}
    command = [sys.executable, "-P", "-m", "agent99", "top", "--once", "--json"]
    seen = subprocess.run(
        command, cwd=found[1], env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert 10 == json.loads(seen.stdout)["total"]["instances"]


@pytest.mark.slow
def test_kill_of_the_demo_leaves_nothing(start: Start, tiny: Path, tmp_path: Path) -> None:
    """Its processes see the pipe close, and end within seconds; so does the server."""
    environ = {"TMPDIR": str(tmp_path)}
    demo = start("--data", str(tiny), "--speed", "0.01", environ=environ)
    demo.wait_line(READY)
    family = demo.family()
    assert list(tmp_path.glob("agent99-*"))
    demo.kill()
    wait_until(lambda: not any(map(is_alive, family[1:])))
    wait_until(lambda: not list(tmp_path.glob("agent99-*")))


@pytest.mark.slow
def test_agents_that_are_killed_are_started_again(start: Start, tmp_path: Path) -> None:
    """Each of the five, one after the other: the books close, and nothing is left undone."""
    data = write_tiny(tmp_path / "more.parquet", 600)
    demo = start("--data", str(data), "--speed", "2")
    demo.wait_line(READY)
    for _ in range(5):
        before = demo.lines.copy()
        os.kill(demo.family()[2], signal.SIGKILL)  # the oldest of the agents
        wait_until(
            lambda before=before: (
                sum("was killed by SIGKILL" in line for line in demo.lines)  # type: ignore[misc]  # mypy sees no type for the default
                > sum("was killed by SIGKILL" in line for line in before)
            ),
            timeout_s=20.0,
        )
    assert 0 == demo.wait(), demo.text
    assert "The books close" in demo.text
    for name in ("order-processing", "fulfillment", "notification", "inventory", "payment"):
        assert any(line.startswith(f"{name}/1 * ") for line in demo.lines)


@pytest.mark.slow
def test_one_of_two_inventories_is_killed(start: Start, tmp_path: Path) -> None:
    """In the middle of a run: the other goes on, the books close, and the table says so."""
    data = write_tiny(tmp_path / "more.parquet", 300)
    demo = start("--data", str(data), "--speed", "2")
    demo.wait_line(READY)
    inventory = demo.family()[5]  # after the demo, the nursery, and three of the others
    os.kill(inventory, signal.SIGKILL)
    demo.wait_line(f"inventory/1 (process {inventory}) was killed by SIGKILL")
    assert 0 == demo.wait(), demo.text
    assert "The books close" in demo.text
    assert any(line.startswith("inventory/1 * ") for line in demo.lines)


@pytest.mark.slow
def test_an_agent_that_hangs_is_told_and_checked(start: Start, tmp_path: Path) -> None:
    """What is waited for, then a verdict: the files of the agents are there until it is given."""
    data = write_tiny(tmp_path / "more.parquet", 300)
    demo = start("--data", str(data), "--speed", "2")
    demo.wait_line(READY)
    os.kill(demo.family()[2], signal.SIGSTOP)  # fulfilment
    demo.wait_line("what a killed process had in hand takes 30 s")
    demo.process.wait(120)
    assert 1 == demo.wait(), demo.text
    assert "nothing moves any more" in demo.text
    assert any(line.startswith("FAULT shipment_missing") for line in demo.lines)


@pytest.mark.slow
def test_the_first_order_is_confirmed_soon(start: Start) -> None:
    """Within 3 s of the start of the demo, its processes and its server, on the extract."""
    demo = start("--json")
    assert 0 == demo.wait(), demo.text
    assert 0 < demo.document["first_confirmed_s"] <= 3


@pytest.mark.slow
def test_where_nothing_is_confirmed_there_is_no_first(
    tiny: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Every payment is declined: the books close all the same."""
    options = {"data": str(tiny), "decline_rate": 1.0, "instances": 1, "json": True}
    assert 0 == run_demo(options)
    found = json.loads(capfdbinary.readouterr().out)
    assert (0, None, 0) == (found["confirmed"], found["first_confirmed_s"], found["revenue_pence"])


@pytest.mark.slow
def test_a_nursery_that_is_killed_ends_the_demo(start: Start, tiny: Path) -> None:
    """The demo does not wait for ever; one sentence, exit code 1, no process."""
    demo = start("--data", str(tiny), "--speed", "0.01")
    demo.wait_line(READY)
    family = demo.family()
    os.kill(family[1], signal.SIGKILL)
    assert 1 == demo.wait()
    assert "the process that starts the agents ended" in demo.text
    wait_until(lambda: not any(map(is_alive, family)))


@pytest.mark.slow
def test_customers_may_wait(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not in stock is delivered to those who wait for it; nobody is refused."""
    options = {"scarcity": 0.5, "back_order_rate": 1.0, "cancel_rate": 0.2, "decline_rate": 0.0}
    assert 0 == run_demo({"data": str(tiny), "instances": 1, "json": True, **options})
    found = json.loads(capsys.readouterr().out)
    assert 0 < found["back_orders"]
    assert {} == found["rejected"]
    ended = found["confirmed"] + found["cancelled"]
    assert found["orders"] + found["back_orders"] == ended
    assert ended == sum(found["history"]["by_state"].values())


@pytest.mark.slow
def test_with_scarce_stock_the_books_close(start: Start) -> None:
    """The extract with a tenth too little: orders are refused for want of stock, and no more."""
    demo = start("--scarcity", "0.9", "--json")
    assert 0 == demo.wait(), demo.document["findings"]
    assert {"INVENTORY_ERROR", "PAYMENT_ERROR"} == set(demo.document["rejected"])


async def _streams(url: str) -> list[str]:
    clock = SystemClock()
    wire = await open_wire([url], sender=b"look", clock=clock, ids=SystemIds())
    try:
        deadline_s = clock.monotonic_s() + 5
        answer = await wire.request(b"$JS.API.STREAM.NAMES", b"{}", deadline_s=deadline_s)
        names: list[str] = json.loads(answer.payload).get("streams") or []
    finally:
        await wire.aclose()
    return names


@pytest.mark.slow
def test_on_a_server_that_is_there(start: Start, tiny: Path, nats_server: NatsServer) -> None:
    """AGENT99_URL: nothing is started, and nothing of the demo's mesh stays on the server."""
    demo = start("--data", str(tiny), environ={"AGENT99_URL": nats_server.url})
    assert 0 == demo.wait(), demo.text
    assert f"at {nats_server.url}" in demo.text
    ours = (BUCKETS[0].format("shop-").removesuffix("_registry"), "A99_shop-")
    streams = asyncio.run(_streams(nats_server.url))
    assert [] == [name for name in streams if name.startswith(ours)]


def test_a_server_that_is_not_there_is_one_sentence(start: Start, tiny: Path) -> None:
    """Nothing was left on it, so nothing is said of what is; with --json stdout is one document."""
    environ = {"AGENT99_URL": "nats://127.0.0.1:1"}
    demo = start("--data", str(tiny), environ=environ)
    assert 5 == demo.wait()
    (line,) = demo.lines
    assert "still on the server" not in line
    demo = start("--data", str(tiny), "--json", environ=environ)
    assert 5 == demo.wait()
    assert "SERVER_UNAVAILABLE" == demo.document["error"]["code"]
    assert 1 == len(demo.lines)


@pytest.mark.slow
def test_a_link_that_breaks_is_told_as_by_run(start: Start, tiny: Path, tmp_path: Path) -> None:
    """With the time and the level; and who says that it is lost says that it is back."""
    with closing(NatsServer(tmp_path / "nats")) as server:
        environ = {"AGENT99_URL": server.url}
        demo = start("--data", str(tiny), "--speed", "0.1", "--json", environ=environ)
        wait_until(lambda: len(demo.family()) == 10)
        server.restart()
        demo.wait_line("the link to the server is back")
        assert 0 == demo.wait(), demo.text
    assert demo.document["ok"]
    told = [line for line in demo.lines if "the link to the server is" in line]
    form = re.compile(r"\d\d:\d\d:\d\d (WARNING|INFO   ) (\[[a-z-]+/\d\] )?the link to")
    assert [] == [line for line in told if not form.match(line)]
    assert {"lost", "back"} == {line.split(" is ")[1][:4] for line in told if "[" not in line}


@pytest.mark.slow
def test_the_second_run_is_as_the_first(start: Start, tiny: Path) -> None:
    """The same orders are declined, however many instances serve."""
    figures: list[Any] = []
    for instances in ("1", "3"):
        demo = start(
            "--data", str(tiny), "--decline-rate", "0.5", "--instances", instances, "--json"
        )
        assert 0 == demo.wait(), demo.text
        found = demo.document
        figures.append((found["confirmed"], found["rejected"], found["revenue_pence"]))
    assert figures[0] == figures[1]


class Expected(NamedTuple):
    """What a file must come to, by the rules alone."""

    declined: set[str]
    confirmed: int
    revenue_pence: int


def _expected(path: Path, rate: float, seed: int) -> Expected:
    """Compute it without the shop: ids and declines by the rules in `data/README.md`."""
    sold = pl.read_parquet(path).filter(
        pl.col("Invoice").str.contains("^[0-9]"),
        pl.col("StockCode").str.strip_chars().str.contains("^[0-9]{5}"),
        pl.col("Quantity") > 0,
        pl.col("Price") >= 0.01,
    )
    pence = (pl.col("Price") * 100).round().cast(pl.Int64) * pl.col("Quantity")
    totals = dict(sold.group_by("Invoice").agg(pence.sum()).iter_rows())
    namespace = uuid5(NAMESPACE_URL, "https://doi.org/10.24432/C5CG6D")
    declined: set[str] = set()
    revenue_pence = 0
    for number, total in totals.items():
        order_id = str(uuid5(namespace, number))
        digest = hashlib.sha256(f"{seed}:{order_id}".encode()).digest()
        if int.from_bytes(digest[:8], "big") < rate * 2**64:
            declined.add(order_id)
        else:
            revenue_pence += total
    return Expected(declined, len(totals) - len(declined), revenue_pence)


def _check_declines(start: Start, data: Path, store: Path, rate: float) -> Any:
    """Run the demo on a file; exactly the hashed orders are declined, and the rest is revenue."""
    options = ("--decline-rate", str(rate), "--seed", "7", "--store", f"sqlite:///{store}")
    demo = start("--data", str(data), *options, "--json")
    demo.process.wait(1_200)
    assert 0 == demo.wait(), demo.text
    with closing(sqlite3.connect(store)) as link:
        rows = link.execute("SELECT order_id, reason FROM orders WHERE state = 'rejected'")
        rejected = dict(rows.fetchall())
    expected = _expected(data, rate, 7)
    assert dict.fromkeys(expected.declined, "PAYMENT_ERROR") == rejected
    found = demo.document
    assert expected.confirmed == found["confirmed"]
    assert expected.revenue_pence == found["revenue_pence"]
    return found


@pytest.mark.slow
def test_exactly_the_hashed_orders_are_declined(start: Start, tmp_path: Path) -> None:
    """Of the extract: the set is that of the rule, and the revenue that of the others."""
    found = _check_declines(start, EXTRACT, tmp_path / "shop.db", 0.1)
    assert (1_984, 1_446) == (found["invoices"], found["orders"])
    assert found["rejected"]["PAYMENT_ERROR"] > 100


@pytest.mark.chaos
@pytest.mark.parametrize("rate", [0.0, 0.05])
def test_the_whole_year(start: Start, year_file: Path, tmp_path: Path, rate: float) -> None:
    """28,816 invoices, and 9,837,960.79 pounds when nothing is declined."""
    found = _check_declines(start, year_file, tmp_path / "shop.db", rate)
    assert (28_816, 20_573) == (found["invoices"], found["orders"])
    assert (4_592, 3, 3_648) == (
        found["cancellations"],
        found["adjustments"],
        found["unsellable"],
    )
    if not rate:
        assert (20_573, 983_796_079) == (found["confirmed"], found["revenue_pence"])
