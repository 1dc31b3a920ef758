"""What the tests of payments share: a till on one database, and what lies in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from agent99.clock import SystemClock
from agent99.errors import Failure
from agent99.ids import SystemIds
from agent99.store import Store, open_store
from agent99.systems.shop._declines import DeclineRule
from agent99.systems.shop._identity import derived_uuid
from agent99.systems.shop._model import Charge
from agent99.systems.shop._payment_model import Authorise, Capture, Refund
from agent99.systems.shop._payments import Payments
from agent99.systems.shop._tables import PAYMENTS_MIGRATIONS, PAYMENTS_SCHEMA
from tests.systems.shop._shop import an_id

SOMEONE = an_id("someone")


class Till(NamedTuple):
    """One process's payments."""

    payments: Payments
    store: Store

    async def entries(self, order_id: UUID) -> dict[str, list[tuple[str, int]]]:
        """Return what the ledger has of an order, by transaction."""
        of = {"payment_id": str(derived_uuid("payment", order_id))}
        rows = await self.rows(
            "SELECT transaction_id, account, pence FROM ledger WHERE payment_id = :payment_id"
            " ORDER BY account",
            of,
        )
        found: dict[str, list[tuple[str, int]]] = {}
        for transaction_id, account, pence in rows:
            found.setdefault(transaction_id, []).append((account, pence))
        return found

    async def cash(self, order_id: UUID) -> int:
        """Return the money that there is of an order; its ledger balances."""
        entries = await self.entries(order_id)
        for transaction in entries.values():
            assert ["cash", "sales"] == [account for account, _ in transaction]
            assert 0 == sum(pence for _, pence in transaction)
        return sum(dict(transaction)["cash"] for transaction in entries.values())

    async def rows(self, sql: str, values: dict[str, Any] | None = None) -> list[Any]:
        """Return what a query gives."""
        return await self.store.read(lambda tx: list(tx.execute(sql, values)))


class OpenTill(Protocol):
    """Opens one more process's till on the same database."""

    def __call__(self, declines: DeclineRule | None = None) -> Awaitable[Till]: ...


@asynccontextmanager
async def tills(url: str) -> AsyncIterator[OpenTill]:
    """Give what opens tills on one database, and close them in the end."""
    async with AsyncExitStack() as stack:

        async def open_one(declines: DeclineRule | None = None) -> Till:
            store = await stack.enter_async_context(
                open_store(url, migrations=PAYMENTS_MIGRATIONS, schema=PAYMENTS_SCHEMA)
            )
            rule = declines or DeclineRule(rate=0.0)
            return Till(Payments(store, SystemClock(), SystemIds(), rule), store)

        yield open_one


def hold(order_id: UUID, pounds: str = "12.50", customer_id: UUID = SOMEONE) -> Authorise:
    """Return a request to hold money."""
    return Authorise(customer_id=customer_id, amount=Decimal(pounds), order_id=order_id)


def charge(order_id: UUID, pounds: str = "12.50") -> Charge:
    """Return a request to hold and take money at once."""
    return Charge(customer_id=SOMEONE, amount=Decimal(pounds), order_id=order_id)


def back(order_id: UUID, name: object, pence: int, reason: str | None = None) -> Refund:
    """Return a request to give money back; the same name for the same order is the same refund."""
    return Refund(order_id, an_id(f"refund:{order_id}:{name}"), pence, reason)


async def paid(till: Till, order_id: UUID, pence: int | None = None) -> None:
    """Hold 12.50 and take it, or a part of it."""
    await till.payments.authorise(hold(order_id))
    await till.payments.capture(Capture(order_id, pence))


async def refused(attempt: Awaitable[Any]) -> tuple[str, dict[str, Any]]:
    """Return the code and the details with which an attempt is refused."""
    try:
        answer = await attempt
    except Failure as failure:
        return failure.code, dict(failure.details)
    message = f"it was not refused: {answer}"
    raise AssertionError(message)
