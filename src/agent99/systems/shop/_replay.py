"""Replaying a year: orders of different customers at once, those of one customer in their order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Final, Literal, TypeAlias
from uuid import UUID

import msgspec
from msgspec import UNSET

from agent99 import Mesh
from agent99.clock import Clock
from agent99.errors import (
    DeadlineExceededError,
    Failure,
    RequestCancelledError,
    RequestError,
    StoreFullError,
    StreamFullError,
    TransportError,
)
from agent99.ids import Ids
from agent99.saga import PENDING
from agent99.systems.shop._declines import Patience, Regret
from agent99.systems.shop._identity import order_uuid
from agent99.systems.shop._model import (
    IfShort,
    OrderCancelled,
    OrderConfirmation,
    OrderQuery,
    OrderView,
    PlaceOrder,
)
from agent99.systems.shop._return_model import GiveBack, GivenBack
from agent99.systems.shop._states import ENDS, OrderState
from agent99.systems.shop._supplier import Supplier
from agent99.systems.shop._year import Invoice, Year, give_back, place_order

AT_ONCE: Final = 48
"""Orders under way at once."""
TIMEOUT_S: Final = 5.0
"""Seconds of one try; an order that brought no answer is asked for again, by the same key."""
GIVE_UP_S: Final = 60.0
"""Seconds after which an order without an answer counts as unfinished."""
BROKEN_MAX: Final = 5
"""Times that the agent may break over one order; then it counts as unfinished."""
PAUSE_S_MIN: Final = 0.02
PAUSE_S_MAX: Final = 1.0
FULL: Final = frozenset({StoreFullError.code, StreamFullError.code})
"""What says that there is no room, for orders or for the journals of their sagas."""

Fate: TypeAlias = Literal["confirmed", "rejected", "cancelled", "given_back", "unfinished"]


class Outcome(msgspec.Struct, frozen=True):
    """How one invoice ended: an order, or a cancellation that was given back."""

    fate: Fate
    reason: str = ""
    """Why it was rejected or is unfinished: an error code."""
    total_pence: int = 0
    """Of the order, or what was refunded."""
    lines: int = 0
    """Of a cancellation, those that fit what was bought."""
    back_order_id: UUID | None = None
    """The order of what was not in stock, if it has one."""


Place: TypeAlias = Callable[[Invoice], Awaitable[Outcome]]


class Tally:
    """The outcomes so far, and how long they took.

    Invariant: there is one latency for each outcome of an order of the file, and none for a
    back-order.
    """

    def __init__(self) -> None:
        self.confirmed = 0
        self.revenue_pence = 0
        self.rejected: Counter[str] = Counter()
        self.unfinished: Counter[str] = Counter()
        self.cancelled = 0
        self.cancelled_pence = 0
        """What was paid for them, and given back."""
        self.back_orders = 0
        """Of all these orders, those that were the rest of another."""
        self.given_back = 0
        """Cancellations that were answered."""
        self.lines_refunded = 0
        self.refunded_pence = 0
        self.latencies_s: list[float] = []

    def __repr__(self) -> str:
        return f"Tally(orders={len(self.latencies_s)}, confirmed={self.confirmed})"

    def add(self, outcome: Outcome, latency_s: float) -> None:
        """Count the outcome of an invoice."""
        if outcome.fate == "given_back":
            self.given_back += 1
            self.lines_refunded += outcome.lines
            self.refunded_pence += outcome.total_pence
            return
        self.latencies_s.append(latency_s)
        self._count(outcome)

    def add_back_order(self, outcome: Outcome) -> None:
        """Count the outcome of the rest of an order."""
        self.back_orders += 1
        self._count(outcome)

    def _count(self, outcome: Outcome) -> None:
        if outcome.fate == "confirmed":
            self.confirmed += 1
            self.revenue_pence += outcome.total_pence
        elif outcome.fate == "cancelled":
            self.cancelled += 1
            self.cancelled_pence += outcome.total_pence
        elif outcome.fate == "rejected":
            self.rejected[outcome.reason] += 1
        else:
            self.unfinished[outcome.reason] += 1

    def latency_ms(self, share: float) -> float:
        """Return the latency that a share of all orders kept, in milliseconds; 0 without orders."""
        if not self.latencies_s:
            return 0.0
        ordered = sorted(self.latencies_s)
        return round(ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1000, 1)


class Customer:
    """Places orders on the mesh, and asks again until each is answered.

    Args:
        mesh: Where the shop is.
        clock: The source of time.
        ids: The source of randomness.
        give_up_s: Seconds after which what brought no answer counts as unfinished.
        regret: Which orders are cancelled.
        patience: Which may be sent in two.
    """

    def __init__(
        self,
        mesh: Mesh,
        clock: Clock,
        ids: Ids,
        *,
        give_up_s: float = GIVE_UP_S,
        regret: Regret | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._mesh = mesh
        self._clock = clock
        self._ids = ids
        self._give_up_s = give_up_s
        self._regret = regret or Regret()
        self._patience = patience or Patience()
        self._supplier = Supplier(mesh)

    def __repr__(self) -> str:
        return f"Customer({self._mesh!r})"

    async def place(self, invoice: Invoice) -> Outcome:
        """Place an order, or give goods back, by the invoice's number; return how that ended."""
        if invoice.kind != "order":
            return await self._until_answered(
                partial(self._give_back, give_back(invoice), invoice.number)
            )
        order_id = order_uuid(invoice.number)
        if_short: IfShort = "split" if self._patience.waits(order_id) else "refuse"
        request = place_order(invoice, if_short)
        placing = self._until_answered(partial(self._order, request, invoice.number))
        if not self._regret.cancels(order_id):
            return await placing
        return await self._think_better(order_id, asyncio.ensure_future(placing))

    async def wait_for(self, order_id: UUID) -> Outcome:
        """Return how an order ended that waits for its stock, which is delivered to it."""
        give_up_s = self._clock.monotonic_s() + self._give_up_s
        pause_s = PAUSE_S_MIN
        while True:
            try:
                view = await self._supplier.deliver(order_id)
            except (RequestError, TransportError) as error:
                reason = error.code  # it has not begun, or nobody is there
            else:
                reason = view.state
                if view.state in ENDS:
                    return ended(view)
            if self._clock.monotonic_s() > give_up_s:
                return Outcome("unfinished", reason)
            await self._clock.sleep(pause_s * (0.5 + self._ids.fraction() / 2))
            pause_s = min(2 * pause_s, PAUSE_S_MAX)

    async def _think_better(self, order_id: UUID, placing: asyncio.Future[Outcome]) -> Outcome:
        """Cancel an order, and return how it ended: it may be too late for that."""
        try:
            if not self._regret.is_hasty(order_id):
                await asyncio.wait((placing,))
            cancelled = await self._cancelled(order_id, placing.done)
            placed = await placing
        finally:
            placing.cancel()
        if cancelled.fate == "rejected":
            return placed
        return msgspec.structs.replace(cancelled, back_order_id=placed.back_order_id)

    async def _cancelled(self, order_id: UUID, is_placed: Callable[[], bool]) -> Outcome:
        """Cancel an order, once it is there to be cancelled."""
        while not is_placed() and not await self._is_there(order_id):
            await self._clock.sleep(PAUSE_S_MIN)
        return await self._until_answered(partial(self._cancel, order_id, f"{order_id}:cancel"))

    async def _is_there(self, order_id: UUID) -> bool:
        try:
            await self._mesh.request("order_processing", "query", OrderQuery(order_id))
        except (RequestError, TransportError):
            return False
        return True

    async def _until_answered(self, ask: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Ask, and again by the same key, until there is an answer or patience is at its end."""
        give_up_s = self._clock.monotonic_s() + self._give_up_s
        broken = 0
        pause_s = PAUSE_S_MIN
        while True:
            try:
                return await ask()
            except (RequestError, TransportError) as error:
                # Refused at the door, or not known yet: the same key goes on from there.
                if isinstance(error, Failure) and not error.retryable:
                    return Outcome("rejected", error.code)
                if error.code in FULL:  # waiting makes no room
                    return Outcome("unfinished", error.code)
                broken += not may_ask_again(error)
                if broken > BROKEN_MAX or self._clock.monotonic_s() > give_up_s:
                    return Outcome("unfinished", error.code)
            await self._clock.sleep(pause_s * (0.5 + self._ids.fraction() / 2))
            pause_s = min(2 * pause_s, PAUSE_S_MAX)

    async def _give_back(self, request: GiveBack, key: str) -> Outcome:
        answer = await self._mesh.request(
            *("order_processing", "give_back", request),
            returns=GivenBack,
            timeout_s=TIMEOUT_S,
            idempotency_key=key,
        )
        return Outcome("given_back", total_pence=answer.refunded_pence, lines=answer.matched)

    async def _cancel(self, order_id: UUID, key: str) -> Outcome:
        answer = await self._mesh.request(
            *("order_processing", "cancel", OrderQuery(order_id)),
            returns=OrderCancelled,
            timeout_s=TIMEOUT_S,
            idempotency_key=key,
        )
        return Outcome("cancelled", total_pence=answer.refunded_pence)

    async def _order(self, request: PlaceOrder, key: str) -> Outcome:
        try:
            answer = await self._mesh.request(
                "order_processing",
                payload=request,
                returns=OrderConfirmation,
                timeout_s=TIMEOUT_S,
                idempotency_key=key,
            )
        except RequestError as error:
            if error.code == PENDING and request.if_short != "refuse":
                with suppress(RequestError, TransportError):  # it goes on, whatever they say
                    await self._supplier.deliver(order_uuid(key))
            raise
        back_order_id = None if answer.back_order_id is UNSET else answer.back_order_id
        return Outcome("confirmed", total_pence=answer.total_pence, back_order_id=back_order_id)


def ended(view: OrderView) -> Outcome:
    """Return how an order ended; what was given back for one that was cancelled is not known."""
    if view.state == OrderState.CONFIRMED:
        return Outcome("confirmed", total_pence=view.total_pence)
    if view.state == OrderState.CANCELLED:
        return Outcome("cancelled")
    return Outcome("rejected", view.reason or "")


def may_ask_again(error: RequestError | TransportError) -> bool:
    """Tell whether the same request may be answered if it is made again.

    A request that did not run says so (`retryable`); one whose outcome is unknown may be made again
    because its key names it.
    """
    return error.retryable or isinstance(error, (DeadlineExceededError, RequestCancelledError))


class Pace:
    """Lets time pass between orders as it passed in the file, faster.

    Args:
        clock: The source of time.
        days_per_s: Days of the file in one second; 0: no order waits.
    """

    def __init__(self, clock: Clock, days_per_s: float) -> None:
        self._clock = clock
        self._days_per_s = days_per_s
        self._first: tuple[datetime, float] | None = None

    def __repr__(self) -> str:
        return f"Pace(days_per_s={self._days_per_s})"

    async def wait(self, at: datetime) -> None:
        """Wait until it is time for what happened then."""
        if self._days_per_s <= 0:
            return
        now_s = self._clock.monotonic_s()
        if self._first is None:
            self._first = (at, now_s)
        first, began_s = self._first
        due_s = began_s + (at - first).total_seconds() / 86_400 / self._days_per_s
        if due_s > now_s:
            await self._clock.sleep(due_s - now_s)


def in_time(year: Year) -> list[Invoice]:
    """Return orders and cancellations by time; a customer's keep the order of their replay."""
    every = (each for invoices in year.customers for each in invoices)
    return sorted(every, key=lambda invoice: invoice.at)


async def replay(
    orders: Iterable[Invoice],
    place: Callable[[Invoice], Awaitable[None]],
    *,
    pace: Pace,
    at_once: int = AT_ONCE,
) -> None:
    """Place orders: `at_once` at the most, and one of a customer only after the one before it.

    Raises:
        what `place` raises, the first of it; the others are cancelled.
    """
    slots = asyncio.Semaphore(at_once)
    window = asyncio.Semaphore(4 * at_once)  # of customers who wait for themselves
    last: dict[UUID, asyncio.Task[None]] = {}

    async def run(order: Invoice, before: asyncio.Task[None] | None) -> None:
        try:
            if before is not None:
                await asyncio.wait((before,))
            async with slots:
                await place(order)
        finally:
            window.release()

    try:
        async with asyncio.TaskGroup() as group:
            for order in orders:
                await pace.wait(order.at)
                await window.acquire()
                before = last.get(order.customer_id)
                last[order.customer_id] = group.create_task(run(order, before))
    except ExceptionGroup as several:
        raise several.exceptions[0] from several
