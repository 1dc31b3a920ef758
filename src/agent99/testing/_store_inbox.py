"""A store's promises: of a message that comes often, one transaction sees the first time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent99.errors import InvalidNameError
from agent99.store import Store, Transaction
from agent99.testing._store_accounts import (
    CALLERS,
    MIGRATIONS,
    MakeStore,
    clear,
    error_of,
    pence_of,
    put,
)


def _receive(message_id: str, name: str, reader: str = "") -> Callable[[Transaction], bool]:
    """Return a function that makes an account if the message is new."""

    def work(transaction: Transaction) -> bool:
        is_new = transaction.first_time(message_id, reader=reader)
        if is_new:
            put(name, 1)(transaction)
        return is_new

    return work


async def check_first_time(make: MakeStore) -> None:
    """However often a message comes, from several processes at once, one has the first time."""
    async with make(MIGRATIONS) as one, make(MIGRATIONS) as other:
        await one.transaction(clear)

        async def receive(store: Store, number: int) -> bool:
            return await store.transaction(_receive(f"m-{number}", f"n{number}"))

        for number in range(4):
            seen = await asyncio.gather(
                *(receive((one, other)[index % 2], number) for index in range(CALLERS))
            )
            assert sum(seen) == 1
            assert not await receive(other, number)
        count = await one.read(lambda t: t.execute("SELECT count(*) FROM account").scalar())
        assert count == 4
        assert await one.transaction(_receive("m-0", "other", reader="another"))
        assert not await one.transaction(_receive("m-0", "other", reader="another"))
        assert [True, False] == await one.transaction(
            lambda t: [t.first_time("m-twice") for _ in range(2)]
        )


async def check_first_time_of_a_failure(make: MakeStore) -> None:
    """A message whose transaction failed is as new, whoever waited for it."""

    def fails(transaction: Transaction) -> None:
        _receive("m-failed", "failed")(transaction)
        raise LookupError("half way")

    async with make(MIGRATIONS) as store:
        await store.transaction(clear)
        assert isinstance(await error_of(store.transaction(fails)), LookupError)
        assert await store.read(pence_of("failed")) is None
        ended = await asyncio.gather(
            error_of(store.transaction(fails)),
            *(store.transaction(_receive("m-failed", "failed")) for _ in range(3)),
        )
        assert isinstance(ended[0], LookupError)
        assert sum(end is True for end in ended) == 1
        for message_id, reader in (("", ""), ("x" * 257, ""), ("nul\0", ""), ("a", "x" * 257)):
            work = _receive(message_id, "bad", reader)
            assert isinstance(await error_of(store.transaction(work)), InvalidNameError)
