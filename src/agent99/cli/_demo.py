"""`agent99 demo`: whole systems to look at."""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import msgspec
import typer

from agent99.cli._exits import Exit, RefusalError
from agent99.cli._scope import Output
from agent99.cli._show import print_json, print_table, tell
from agent99.errors import how_to_install

DEMOS = {
    "shop": "an order pipeline replays some weeks of a real shop, to the penny",
    "events": "a bus, an audit log and projections keep and count every event of that shop",
    "cache": "nodes of the cache join, leave and die under that shop's load, and nothing is lost",
    "analytics": "that shop's tills as a live stream: windows by event time, compared with polars",
}


CACHE_NODE = "agent99.systems.cache:CacheNodeAgent"
"""Runs beside the shop, which reads its prices through the cache."""


class ShopOptions(Output, frozen=True):
    """The options of `agent99 demo shop`."""

    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="A Parquet file of order lines to replay; else the packaged extract.",
        ),
    ] = None
    decline_rate: Annotated[
        float | None,
        typer.Option(
            "--decline-rate",
            min=0.0,
            max=1.0,
            help="Share of payments that the bank declines; else 0.05.",
        ),
    ] = None
    seed: Annotated[
        int | None, typer.Option("--seed", help="Which payments those are; else 0.", min=0)
    ] = None
    scarcity: Annotated[
        float | None,
        typer.Option(
            "--scarcity",
            min=0.0,
            max=100.0,
            help="Opening stock as a share of what is sold; else 1: enough.",
        ),
    ] = None
    cancel_rate: Annotated[
        float | None,
        typer.Option(
            "--cancel-rate",
            min=0.0,
            max=1.0,
            help="Share of orders that their customers cancel; else 0.",
        ),
    ] = None
    back_order_rate: Annotated[
        float | None,
        typer.Option(
            "--back-order-rate",
            min=0.0,
            max=1.0,
            help="Share of customers who wait for what is not in stock; else 0.",
        ),
    ] = None
    instances: Annotated[
        int | None,
        typer.Option(
            "--instances",
            min=1,
            max=32,
            help="Processes of order processing, inventory and payment; else 2.",
        ),
    ] = None
    speed: Annotated[
        float | None,
        typer.Option(
            "--speed",
            min=0.0,
            max=1_000_000.0,
            help="Days of the file in one second; else 0: no limit.",
        ),
    ] = None
    chaos: Annotated[
        bool,
        typer.Option("--chaos", help="Kill agents and the server while the orders run."),
    ] = False
    cache: Annotated[
        bool,
        typer.Option("--cache", help="Read prices through two nodes of the mesh's cache."),
    ] = False
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="URL",
            envvar="AGENT99_SHOP_STORE",
            help="An empty database for all agents; else SQLite files.",
        ),
    ] = None


def list_demos(output: Output) -> int:
    r"""List the demos.

    \b
    agent99 demo list
    """
    if output.json:
        print_json({"demos": DEMOS})
    else:
        print_table(("demo", "what it shows"), DEMOS.items())
    return Exit.OK


def shop(options: ShopOptions) -> int:
    r"""Run the order pipeline: five agents, a real broker, some weeks of a real shop.

    \b
    agent99 demo shop
    agent99 demo shop --decline-rate 0 --json
    agent99 demo shop --data year.parquet --speed 30
    agent99 demo shop --chaos

    A FILE has the columns Invoice, StockCode, Quantity, InvoiceDate, Price, CustomerID and Country.
    Exit code 1 if the books do not close.
    """
    from agent99.cli._host import set_up_log

    run = _entry("agent99.systems.shop", "run_demo", extra="shop")
    set_up_log(debug=options.debug)
    return int(run(_given(options)))


def _given(options: ShopOptions) -> dict[str, Any]:
    """Return what was chosen, by the names that the shop has for it."""
    given = {field: getattr(options, field) for field in options.__struct_fields__}
    if given.pop("cache"):
        given["beside"] = (CACHE_NODE,)
    return {name: value for name, value in given.items() if value is not None}


def events(options: ShopOptions) -> int:
    r"""Run the shop with an event bus, an audit log and two projections on its mesh.

    \b
    agent99 demo events
    agent99 demo events --decline-rate 0 --json
    agent99 demo events --data year.parquet

    The options are those of the shop. While it works, the projections are built anew once; at the
    end the books are checked against the events as the audit log has them, the log is verified, and
    the revenue by the projection compared with the books.
    Exit code 1 if anything differs.
    """
    from agent99.cli._host import set_up_log

    play = _entry("agent99.systems.shop", "play_for", extra="shop")
    system = importlib.import_module("agent99.systems.events")
    set_up_log(debug=options.debug)
    guest = system.ShopGuest(is_quiet=options.chaos and not options.debug)
    shop = play(guest, _given(options))
    figures = guest.figures(books_pence=shop.revenue_pence, is_closed=shop.ok)
    if options.json:
        print_json({**msgspec.to_builtins(figures), "shop": msgspec.to_builtins(shop)})
    else:
        print_table(("", ""), system.rows_of(figures))
        for finding in figures.findings:
            tell(f"FAULT {finding}")
        tell(system.verdict_of(figures))
    return Exit.OK if figures.ok else Exit.FAILED


class CacheOptions(Output, frozen=True):
    """The options of `agent99 demo cache`."""

    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="A Parquet file of order lines; else the packaged extract.",
        ),
    ] = None
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", min=1.0, max=3600.0, help="How long there is a load; else 15."),
    ] = None
    nodes: Annotated[
        int | None,
        typer.Option("--nodes", min=2, max=16, help="Nodes at the beginning; else 3."),
    ] = None


def cache(options: CacheOptions) -> int:
    r"""Run the cache under a shop's load, while its nodes join, leave, and are killed.

    \b
    agent99 demo cache
    agent99 demo cache --seconds 60 --nodes 5
    agent99 demo cache --json | jq .lost

    The keys are the products of a real shop, asked for as often as its customers bought them. Every
    acknowledged write and addition is remembered, and read back at the end.
    Exit code 1 if one is lost, a read was stale, or a counter is wrong.
    """
    from agent99.cli._host import set_up_log

    read_year = _entry("agent99.systems.shop", "read_year", extra="shop")
    system = importlib.import_module("agent99.systems.cache")
    set_up_log(debug=options.debug)
    year = read_year() if options.data is None else read_year(options.data)
    prices: dict[str, list[int]] = {}
    for product, pence in year.price_list():
        prices.setdefault(str(product), []).append(pence)
    asked = [str(line.product_id) for order in year.orders() for line in order.lines]
    goods = system.DemoGoods(prices, asked)
    given = {field: getattr(options, field) for field in options.__struct_fields__}
    given.pop("data")
    return int(
        system.run_demo(goods, {key: value for key, value in given.items() if value is not None})
    )


class AnalyticsOptions(Output, frozen=True):
    """The options of `agent99 demo analytics`."""

    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="A Parquet file of order lines; else the packaged extract.",
        ),
    ] = None
    speed: Annotated[
        float | None,
        typer.Option(
            "--speed",
            min=0.0,
            max=1_000_000.0,
            help="Days of the file in one second, 0: no limit; else the whole file in 20 s.",
        ),
    ] = None
    late: Annotated[
        float | None,
        typer.Option(
            "--late",
            min=0.0,
            max=1.0,
            help="Share of the records held back beyond the watermark; else 0.05.",
        ),
    ] = None
    seed: Annotated[
        int | None, typer.Option("--seed", help="Which records those are; else 0.", min=0)
    ] = None
    processors: Annotated[
        int | None,
        typer.Option("--processors", min=1, max=8, help="Processors at the beginning; else 2."),
    ] = None
    kills: Annotated[
        int | None,
        typer.Option(
            "--kills",
            min=1,
            max=1000,
            help="Processors killed at random, while they become 4, then 2; else one is.",
        ),
    ] = None


def analytics(options: AnalyticsOptions) -> int:
    r"""Run eight pipelines over a shop's tills as a live stream, while processors come and die.

    \b
    agent99 demo analytics
    agent99 demo analytics --speed 0 --late 0.2
    agent99 demo analytics --processors 1 --kills 20
    agent99 demo analytics --data year.parquet --json | jq .pipelines

    An ingestion and the processors are a process each: one joins, one is killed, one comes in its
    place, one leaves. At the end polars computes every window from the file, by itself.
    Exit code 1 if a window differs, or a record is in no count.
    """
    from agent99.cli._host import set_up_log

    run = _entry("agent99.systems.analytics", "run_demo", extra="analytics")
    path = options.data or _entry("agent99.systems.shop", "EXTRACT", extra="shop")
    set_up_log(debug=options.debug)
    given = {field: getattr(options, field) for field in options.__struct_fields__}
    given.pop("data")
    return int(run(path, {key: value for key, value in given.items() if value is not None}))


def _entry(module_name: str, function: str, *, extra: str) -> Any:
    """Return a system's function; its libraries are an extra and load late."""
    try:
        module = importlib.import_module(module_name)
        return getattr(module, function)
    except ModuleNotFoundError as error:
        message = f"this demo needs {error.name}: {how_to_install(extra)}"
        raise RefusalError(message, Exit.USAGE) from error
    except AttributeError as error:
        raise RefusalError("this demo is not in this release", Exit.USAGE) from error


def build_app() -> typer.Typer:
    """Return the group of commands."""
    from agent99.cli._command import add_command

    app = typer.Typer(
        help="Run whole systems on a mesh of their own.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    add_command(app, "list", list_demos)
    add_command(app, "shop", shop)
    add_command(app, "events", events)
    add_command(app, "cache", cache)
    add_command(app, "analytics", analytics)
    return app
