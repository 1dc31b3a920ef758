"""What the store's checks share: a table of accounts, and functions on it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from agent99.store import Migration, Store, StoreOptions, Transaction

CALLERS = 64

MIGRATIONS: Final = (
    Migration(
        1,
        "accounts",
        ("CREATE TABLE account (id TEXT PRIMARY KEY, pence BIGINT NOT NULL CHECK (pence >= 0))",),
    ),
)


class MakeStore(Protocol):
    """Makes a store that is not open yet; each call gives one on the same database."""

    def __call__(
        self,
        migrations: Sequence[Migration] = (),
        options: StoreOptions | None = None,
        schema: str = "main",
    ) -> Store:
        """Return it."""
        ...


def clear(transaction: Transaction) -> None:
    """Remove every account."""
    transaction.execute("DELETE FROM account")


def put(name: str, pence: int) -> Callable[[Transaction], None]:
    """Return a function that makes an account."""

    def work(transaction: Transaction) -> None:
        transaction.execute(
            "INSERT INTO account (id, pence) VALUES (:id, :pence)", {"id": name, "pence": pence}
        )

    return work


def pence_of(name: str) -> Callable[[Transaction], int | None]:
    """Return a function that reads an account; it gives None where there is none."""

    def work(transaction: Transaction) -> int | None:
        found = transaction.execute("SELECT pence FROM account WHERE id = :id", {"id": name})
        value: int | None = found.scalar()
        return value

    return work


async def error_of(answer: Awaitable[Any]) -> BaseException | None:
    """Return what it raises, or None."""
    try:
        await answer
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is asked for
        return error
    return None
