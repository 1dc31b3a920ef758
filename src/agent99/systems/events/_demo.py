"""The guest of the shop's demo: a bus, an audit log and two views, on the life of a whole shop.

It knows the shop by its events alone.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID

import msgspec

from agent99 import Mesh, Settings
from agent99.clock import Clock, SystemClock
from agent99.errors import Agent99Error, DeadlineExceededError
from agent99.groups import GroupState, inspect_group, list_groups
from agent99.systems.events._anchors import Anchors
from agent99.systems.events._audit import reader_of
from agent99.systems.events._demo_figures import EventsFigures
from agent99.systems.events._demo_plan import Plan, audit_url_in
from agent99.systems.events._log import AuditLog
from agent99.systems.events._order_views import INVOICE
from agent99.systems.events._verify import Proof
from agent99.systems.events._views_agent import History, Revenue, Views

START_S: Final = 30.0
"""Seconds until the agents must be there."""
SETTLE_S: Final = 120.0
"""Seconds that they have at the end to catch up with what the shop has stored."""
LOOK_S: Final = 0.1
END_S: Final = 15.0
PUBLISH_S: Final = 60.0
"""Seconds that the bus has to store an event: its server may be away meanwhile."""
AGENTS: Final = ("event-bus", "audit", "order-views")
_MODULE: Final = "agent99.systems.events._demo_agents"


class Till(Protocol):
    """What the shop's till says of an order that is about to be placed."""

    @property
    def order_id(self) -> UUID:
        """The order's id."""
        ...

    @property
    def invoice(self) -> str:
        """The invoice's number."""
        ...

    @property
    def at(self) -> datetime:
        """When it was written."""
        ...

    @property
    def country(self) -> str:
        """Where the customer is."""
        ...


class ShopGuest:
    """Looks on while the shop works: hears of each order, keeps all events, and counts.

    Args:
        is_quiet: What is killed on purpose is no news.
    """

    def __init__(self, *, is_quiet: bool = False, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._is_quiet = is_quiet
        self._mesh: Mesh | None = None
        self._folder = Path()
        self._announced = 0
        self._rebuilding: asyncio.Task[object] | None = None
        self._last = ""
        self._findings: list[str] = []
        self._log: tuple[int, int, Proof, int] | None = None
        self._views: tuple[Revenue, Views, History | None, tuple[GroupState, ...]] | None = None

    def __repr__(self) -> str:
        return f"ShopGuest({self._announced} orders)"

    @asynccontextmanager
    async def joined(self, settings: Settings, mesh: Mesh) -> AsyncGenerator[None]:
        """Run the agents while the shop works.

        Raises:
            DeadlineExceededError: they did not start.
        """
        self._mesh, self._folder = mesh, settings.project
        plan = Plan(str(settings.project), settings.url or "", settings.mesh, self._is_quiet)
        command = (sys.executable, "-P", "-m", _MODULE)
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, start_new_session=True)
        try:
            assert process.stdin is not None
            process.stdin.write(msgspec.json.encode(plan) + b"\n")
            await process.stdin.drain()
            await mesh.registry.wait_until(
                lambda table: {d.name for d in table.everybody()} >= set(AGENTS), timeout_s=START_S
            )
            yield
        finally:
            if self._rebuilding is not None:
                self._rebuilding.cancel()
            await _end(process)

    async def announce(self, till: Till) -> None:
        """Publish what the till says of an order, by the bus.

        Raises:
            RequestError: the bus did not store it.
        """
        mesh = self._here()
        order_id, event_id = str(till.order_id), f"till-{till.invoice}"
        event = {
            "type": INVOICE,
            "subject": order_id,
            "id": event_id,
            "data": {
                "order_id": order_id,
                "invoice": till.invoice,
                "at": till.at.isoformat(),
                "country": till.country,
            },
        }
        await mesh.request(
            "event_bus",
            "publish",
            event,
            timeout_s=PUBLISH_S,
            idempotency_key=f"till-{till.invoice}",
        )
        self._announced += 1
        self._last = order_id
        if self._rebuilding is None:  # while the shop works: nobody may notice
            self._rebuilding = asyncio.ensure_future(
                mesh.request("order_views", "rebuild", timeout_s=SETTLE_S)
            )

    async def messages(self) -> list[bytes]:
        """Wait until all was kept and counted; return the shop's events as the audit log has them.

        Raises:
            DeadlineExceededError: the agents did not catch up.
        """
        mesh = self._here()
        await self._settle()
        if self._rebuilding is not None:
            await self._finish_rebuild(self._rebuilding)
        before = await mesh.request("order_views", "views", returns=Views, timeout_s=SETTLE_S)
        after = await mesh.request("order_views", "rebuild", returns=Views, timeout_s=SETTLE_S)
        for old, new in zip(before.views, after.views, strict=True):
            if old.digest != new.digest:
                self._findings.append(f"{new.name} differs when it is built anew")
            if new.set_aside:
                self._findings.append(f"{new.name} has left out {new.set_aside} events")
        revenue = await mesh.request("order_views", "daily_revenue", returns=Revenue)
        history = None
        if self._last:
            query = {"order_id": self._last}
            history = await mesh.request("order_views", "order_history", query, returns=History)
        names = await list_groups(mesh)
        groups = [await inspect_group(mesh, name) for name in names]
        self._views = revenue, after, history, tuple(groups)
        return await self._read_audit(mesh)

    def figures(self, *, books_pence: int, is_closed: bool) -> EventsFigures:
        """Return what came of it, once the shop is closed.

        Args:
            books_pence: The revenue by the shop's books.
            is_closed: Whether these closed, by the events of the audit log.
        """
        assert self._log is not None
        assert self._views is not None
        events, repeats, proof, anchors = self._log
        revenue, views, history, groups = self._views
        findings = list(self._findings)
        if not proof.is_sound:
            findings.append(f"the audit log is not sound: {proof.breach}")
        if revenue.pence != books_pence:
            findings.append(
                f"revenue is {revenue.pence} pence by the projection, {books_pence} by the books"
            )
        if not is_closed:
            findings.append("the shop's books do not close")
        best = max(revenue.days, key=lambda day: day.pence, default=None)
        return EventsFigures(
            ok=not findings,
            events=events,
            repeats=repeats,
            audit_entries=events + repeats,
            audit_sound=proof.is_sound,
            audit_head=proof.head,
            anchors=anchors,
            days=len(revenue.days),
            orders=revenue.orders,
            revenue_pence=revenue.pence,
            books_pence=books_pence,
            rebuilt=not any("built anew" in each for each in findings),
            generations=max(view.generation for view in views.views),
            best_day=best.day if best is not None else "",
            best_day_pence=best.pence if best is not None else 0,
            an_order=tuple(step.topic for step in history.steps) if history is not None else (),
            groups=groups,
            findings=tuple(findings),
        )

    # --- inside -----------------------------------------------------------------------------------

    def _here(self) -> Mesh:
        assert self._mesh is not None, "it has joined"
        return self._mesh

    async def _settle(self) -> None:
        """Wait until nobody is behind the log any more."""
        mesh = self._here()
        until_s = self._clock.monotonic_s() + SETTLE_S
        behind: list[str] = ["nobody is there"]
        while self._clock.monotonic_s() < until_s:
            with suppress(Agent99Error):  # the server may have been killed just now
                states = [await inspect_group(mesh, name) for name in await list_groups(mesh)]
                behind = [f"{each.name} by {each.lag:,}" for each in states if each.lag]
                if states and not behind:
                    return
            await self._clock.sleep(LOOK_S)
        raise DeadlineExceededError(f"behind after {SETTLE_S:g} s: {', '.join(behind)}")

    async def _finish_rebuild(self, rebuilding: asyncio.Task[object]) -> None:
        try:
            await rebuilding
        except Agent99Error as error:
            self._findings.append(f"the projections were not built anew while it worked: {error}")

    async def _read_audit(self, mesh: Mesh) -> list[bytes]:
        """Return the shop's messages, once the whole chain was looked at."""
        kept: list[tuple[int, bytes]] = []
        events = repeats = 0
        async with AuditLog.opened(audit_url_in(self._folder)) as log:
            anchors = await Anchors(mesh).read(await log.chain())
            proof = await log.verify(reader_of(mesh.name), anchors)
            async for page in log.pages():
                repeats += sum(entry.is_repeat for entry in page)
                events += sum(not entry.is_repeat for entry in page)
                kept += [
                    (entry.sequence, entry.event)
                    for entry in page
                    if not entry.is_repeat and entry.type != INVOICE
                ]
        self._log = events, repeats, proof, len(anchors)
        return [message for _, message in sorted(kept)]


async def _end(process: Process) -> None:
    """End the agents' process; one that does not end in time is killed."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(END_S):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
