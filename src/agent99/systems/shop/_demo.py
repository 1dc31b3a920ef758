"""`agent99 demo shop`: seven agents, each in a process of its own, work off a file of orders."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from agent99 import Settings, named
from agent99.clock import Clock, SystemClock
from agent99.dispatch import new_event_loop
from agent99.errors import (
    Agent99Error,
    DeadlineExceededError,
    StreamNotFoundError,
)
from agent99.ids import Ids, SystemIds
from agent99.registry import Table
from agent99.systems.shop._chaos import Chaos
from agent99.systems.shop._check import CheckReport, Terms, check_shop
from agent99.systems.shop._check_sources import Databases, read_event
from agent99.systems.shop._checker_model import split_log
from agent99.systems.shop._crew import Crew, CrewError
from agent99.systems.shop._disk import full_disk_said, temporary_folder
from agent99.systems.shop._display import Bar, Display, display_for
from agent99.systems.shop._figures import (
    CacheFigures,
    ChaosFigures,
    Figures,
    Instance,
    Work,
    figures_of,
)
from agent99.systems.shop._following import follow_up
from agent99.systems.shop._ground import Ground, mesh_of_its_own, read_log
from agent99.systems.shop._guest import Guest, Till
from agent99.systems.shop._identity import order_uuid
from agent99.systems.shop._options import DemoOptions, read_options
from agent99.systems.shop._plan import BESIDE, places_of, plan_of, read_file
from agent99.systems.shop._proof import ask_rebuilt, ask_verdict
from agent99.systems.shop._replay import (
    FULL,
    GIVE_UP_S,
    Customer,
    Pace,
    Tally,
    in_time,
    replay,
)
from agent99.systems.shop._settings import ShopSettings
from agent99.systems.shop._signals import until_signal
from agent99.systems.shop._year import Invoice, Year

T = TypeVar("T")
Announce: TypeAlias = Callable[[Till], Awaitable[None]]

START_S: Final = 30.0
"""Seconds until all agents must be there."""
UNFINISHED_MAX: Final = 20
"""Orders without an answer; with more of them the demo is broken, and ends."""
STOP_S: Final = 20.0
"""Seconds until an agent that was asked to stop must be gone."""
SETTLE_S: Final = 60.0
"""Seconds that the orders' sagas have to end, once nothing is killed any more."""
CHAOS_GIVE_UP_S: Final = 300.0
"""Seconds after which an order without an answer counts as unfinished, with `--chaos`."""
_AGENTS: Final = (
    *("order-processing", "inventory", "payment", "fulfillment", "notification"),
    *("order-history", "checker", BESIDE),
)
"""In the order in which they call each other; who calls nobody and is not needed comes last."""


def run_demo(options: Mapping[str, Any] | None = None) -> int:
    """Run the shop, and return the exit code: 0 if the books close, 1 if they do not.

    Args:
        options: By name: data, decline_rate, seed, scarcity, instances, speed, json, debug, store;
            `DemoOptions` says what each means and what it is by default.

    Raises:
        UsageError: an option or the file makes no sense; polars or SQLAlchemy is not installed.
        StoreError: the database cannot be used.
        DiskFullError: the disk of the temporary folder is full.
        EmbeddedServerError, TransportError: there is no server.
        CrewError: the agents did not start, or kept dying; the database is full.
        KeyboardInterrupt: Ctrl-C, or SIGTERM; every process has ended by then.
    """
    chosen = read_options(options or {})
    display = display_for(chosen)
    figures = _play(chosen, display, None)
    display.show(figures)
    return 0 if figures.ok else 1


def play_for(guest: Guest, options: Mapping[str, Any] | None = None) -> Figures:
    """Run the shop with another system on its mesh, show and return its figures.

    The books are checked against the events as the guest has them. With `json` nothing is shown:
    who prints one document has more to put into it.

    Args:
        guest: The other system.
        options: As of `run_demo`.

    Raises:
        as `run_demo`, and what the guest raises.
    """
    chosen = read_options(options or {})
    display = display_for(chosen)
    figures = _play(chosen, display, guest)
    if not chosen.json:
        display.show(figures)
    return figures


def _play(options: DemoOptions, display: Display, guest: Guest | None) -> Figures:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(until_signal(run_shop(options, display, guest)))


async def run_shop(options: DemoOptions, display: Display, guest: Guest | None = None) -> Figures:
    """Run the shop and return its figures.

    Raises:
        as `run_demo`.
    """
    if options.chaos and not options.debug:  # what is killed on purpose is no news
        logging.getLogger("agent99").setLevel(logging.ERROR)
    with temporary_folder() as folder:
        shop = options.shop_settings(folder)
        if options.store is not None:
            await _require_empty(shop)
        year, work, log = await _work_off(options, display, folder, shop, guest)
        display.tell("checking the books against the file")
        events, violations = split_log(log)
        report = await asyncio.to_thread(_check, options, shop, events)
    return figures_of(year.counts, work, report, violations)


async def _require_empty(shop: ShopSettings) -> None:
    from agent99.systems.shop._vetting import require_empty  # noqa: PLC0415 - loads SQLAlchemy

    await require_empty(shop, SystemClock(), SystemIds())


async def _work_off(
    options: DemoOptions, display: Display, folder: Path, shop: ShopSettings, guest: Guest | None
) -> tuple[Year, Work, list[bytes]]:
    """Start the agents, replay the file, end the agents, and read what they have stored."""
    clock, ids = SystemClock(), SystemIds()
    began_s = clock.monotonic_s()
    async with (
        _reading(options, folder) as reading,
        Crew(on_news=_unheard if options.chaos else display.warn) as crew,
        mesh_of_its_own(folder, clock, ids) as ground,
        crew.ending(),  # the agents before the server that they need
    ):
        with full_disk_said(folder):  # before the agents' end clears the folder
            year = await reading
            await crew.send(plan_of(options, ground.settings, shop, year))
            display.tell(f"watch it from another terminal: cd {folder} && agent99 top")
            run = _Run(options, display, crew, ground, (clock, ids), began_s)
            if guest is None:
                work = await run.replay(year)
                return year, work, await _log(ground.settings, clock, ids)
            async with guest.joined(ground.settings, ground.mesh):
                work = await run.replay(year, guest.announce)
                return year, work, await guest.messages()


@asynccontextmanager
async def _reading(options: DemoOptions, folder: Path) -> AsyncGenerator[asyncio.Future[Year]]:
    """Give what the file holds, once it is read; a user's is read before anything else starts."""
    reading = asyncio.ensure_future(asyncio.to_thread(read_file, options, folder))
    try:
        if options.data is not None:
            await reading
        yield reading
    finally:
        reading.cancel()


class _Run:
    """One replay on a mesh whose agents are about to start."""

    def __init__(
        self,
        options: DemoOptions,
        display: Display,
        crew: Crew,
        ground: Ground,
        ports: tuple[Clock, Ids],
        began_s: float,
    ) -> None:
        self._mesh = ground.mesh
        self._server_pid = ground.server_pid
        self._options = options
        self._display = display
        self._crew = crew
        self._clock, self._ids = ports
        self._began_s = began_s
        self._first_s: float | None = None
        self._announce: Announce | None = None

    async def replay(self, year: Year, announce: Announce | None = None) -> Work:
        """Wait for the agents, replay the orders, and let the agents stop."""
        self._announce = announce
        await self._unless_lost(self._wait_for_agents())
        self._display.tell(self._greeting(year))
        tally = Tally()
        start_s = self._clock.monotonic_s()
        invoices = year.counts.orders + year.counts.cancellations
        with self._display.bar("orders and cancellations", invoices) as bar:
            chaos = await self._unless_lost(self._replay_in_chaos(year, tally, bar))
        took_s = self._clock.monotonic_s() - start_s
        await self._unless_lost(follow_up(self._mesh, self._clock, self._display))
        verdict = await self._unless_lost(ask_verdict(self._mesh, self._clock))
        rebuilt = await self._unless_lost(ask_rebuilt(self._mesh, self._clock))
        cached = await self._unless_lost(self._ask_cache())
        instances: list[Instance] = []
        await self._unless_lost(self._stop(instances))
        by_place = tuple(sorted(instances, key=lambda each: each.place))
        return Work(tally, took_s, self._first_s, by_place, chaos, verdict, rebuilt, cached)

    async def _replay_in_chaos(self, year: Year, tally: Tally, bar: Bar) -> ChaosFigures | None:
        """Replay the orders; with `--chaos` under fire, and return what came of that."""
        if not self._options.chaos:
            await self._replay(year, tally, bar)
            return None
        chaos = Chaos(
            self._crew, self._mesh, self._server_pid, clock=self._clock, seed=self._options.seed
        )
        killing = asyncio.ensure_future(chaos.run(bar))
        try:
            await self._replay(year, tally, bar)
        finally:
            killing.cancel()
            await asyncio.wait((killing,))
        await self._settle(chaos)
        self._display.tell(chaos.line())
        return chaos.figures()

    async def _settle(self, chaos: Chaos) -> None:
        """Wait until every order's saga has ended; those that have not are the check's to tell."""
        until_s = self._clock.monotonic_s() + SETTLE_S
        while self._clock.monotonic_s() < until_s:
            with suppress(Agent99Error):  # the server may be on its way back
                await chaos.catch_up()
                if not chaos.figures().open_at_last:
                    return
            await self._clock.sleep(0.2)

    async def _unless_lost(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it, unless an agent is lost for good meanwhile.

        Raises:
            CrewError
        """
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, self._crew.lost), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self._crew.lost.result()
            return await task
        finally:
            task.cancel()
            await asyncio.wait((task,))

    async def _wait_for_agents(self) -> None:
        wanted = Counter(place.agent for place in places_of(self._options))

        def missing(table: Table) -> Counter[str]:
            return wanted - Counter(d.name for d in table.everybody() if d.state == "ready")

        registry = self._mesh.registry
        try:
            await registry.wait_until(lambda table: not missing(table), timeout_s=START_S)
        except DeadlineExceededError:
            names = ", ".join(sorted(missing(registry.table)))
            message = f"not ready within {START_S:g} s: {names}"
            raise CrewError(message) from None

    def _greeting(self, year: Year) -> str:
        counts = year.counts
        mesh = self._mesh
        return (
            f"{counts.invoices:,} invoices of {len(year.customers):,} customers;"
            f" {len(mesh.peers())} agents, each a process, on mesh {mesh.name!r} at {mesh.url}"
        )

    async def _replay(self, year: Year, tally: Tally, bar: Bar) -> None:
        give_up_s = CHAOS_GIVE_UP_S if self._options.chaos else GIVE_UP_S
        regret = self._options.regret
        patience = self._options.patience
        customer = Customer(
            *(self._mesh, self._clock, self._ids),
            give_up_s=give_up_s,
            regret=regret,
            patience=patience,
        )
        clock = self._clock

        async def place(invoice: Invoice) -> None:
            if self._announce is not None and invoice.kind == "order":
                await self._announce(
                    Till(order_uuid(invoice.number), invoice.number, invoice.at, invoice.country)
                )
            start_s = clock.monotonic_s()
            outcome = await customer.place(invoice)
            now_s = clock.monotonic_s()
            tally.add(outcome, now_s - start_s)
            if outcome.reason in FULL:
                raise CrewError("the database, or the server's disk, is full", outcome.reason)
            if tally.unfinished.total() > UNFINISHED_MAX:
                raise CrewError(f"orders stay without an answer: {_counted(tally.unfinished)}")
            if self._first_s is None and outcome.fate == "confirmed":
                self._first_s = now_s - self._began_s
            if outcome.back_order_id is not None:
                tally.add_back_order(await customer.wait_for(outcome.back_order_id))
            bar.advance()

        await replay(in_time(year), place, pace=Pace(clock, self._options.speed))

    async def _stop(self, instances: list[Instance]) -> None:
        """Stop the agents in the order in which they call each other, so that none is missed.

        Each is asked what it did when nobody calls it any longer.
        """
        self._crew.expect_end()
        for name in _AGENTS:
            instances += await self._instances_of(name)
            await self._mesh.control(named(name), "shutdown")
            await self._crew.wait_gone(name, STOP_S)
        await self._crew.wait_ended(STOP_S)

    async def _ask_cache(self) -> CacheFigures | None:
        """Return what the cache was asked, by its nodes' own word; None: there is none."""
        if not self._options.beside:
            return None
        found = await self._mesh.survey("cache_node", "stats")
        counts = [answer.result["stats"] for answer in found.answers if answer.ok]
        asked = sum(each["gets"] for each in counts)
        return CacheFigures(len(counts), asked, sum(each["hits"] for each in counts))

    async def _instances_of(self, name: str) -> list[Instance]:
        found: list[Instance] = []
        pids = {peer.instance: peer.description.pid for peer in self._mesh.peers()}
        survey = await self._mesh.control(named(name), "status")
        for answer in survey.answers:
            if not answer.ok:
                continue
            pid = pids.get(answer.instance, 0)
            counts = answer.result["operations"], answer.result["events"]
            place = self._crew.pids.get(pid, name)
            found.append(
                Instance(
                    agent=name,
                    instance=answer.instance,
                    place=place,
                    pid=pid,
                    messages=sum(each["requests"] for each in counts),
                    errors=sum(each["errors"] for each in counts),
                    restarts=max(0, list(self._crew.pids.values()).count(place) - 1),
                )
            )
        return found


def _unheard(_news: str) -> None:
    """What is killed on purpose is no news."""


def _counted(codes: Counter[str]) -> str:
    return ", ".join(f"{count} with {code}" for code, count in codes.most_common())


async def _log(settings: Settings, clock: Clock, ids: Ids) -> list[bytes]:
    try:
        return [message async for message in read_log(settings, clock, ids)]
    except StreamNotFoundError:  # there was no order
        return []


def _check(options: DemoOptions, shop: ShopSettings, events: list[bytes]) -> CheckReport:
    terms = Terms(decline_rate=options.decline_rate, seed=options.seed, scarcity=options.scarcity)
    databases = Databases(
        orders_url=shop.orders_url,
        stock_url=shop.stock_url,
        payments_url=shop.payments_url,
        shipments_url=shop.shipments_url,
        messages_url=shop.messages_url,
    )
    return check_shop(options.path, databases, list(map(read_event, events)), terms=terms)
