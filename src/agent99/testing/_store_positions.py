"""A store's promises: a position moves with its effects, and one owner at a time can move it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from agent99.errors import InvalidNameError, LeaseLostError, UsageError
from agent99.store import Transaction, advance_position, claim_position, read_positions
from agent99.testing._store_accounts import MIGRATIONS, MakeStore, clear, error_of, put


def _owns(epoch: int, *, reader: str = "r", part: int = 0, start: int = 0) -> Callable[..., int]:
    return partial(claim_position, reader=reader, part=part, epoch=epoch, start=start)


def _does(epoch: int, position: int, name: str = "") -> Callable[[Transaction], int]:
    """Return an effect at a position: an account is made, if it is new."""

    def work(transaction: Transaction) -> int:
        before = advance_position(transaction, "r", 0, epoch, position)
        if position > before:
            put(name or f"{position:06}", epoch)(transaction)
        return before

    return work


def _accounts(transaction: Transaction) -> int:
    return int(transaction.execute("SELECT count(*) FROM account").scalar() or 0)


async def check_positions(make: MakeStore) -> None:
    """A position begins where its first owner says, and goes on, never back; each has its own."""
    async with make(MIGRATIONS) as store:
        await store.transaction(clear)
        assert await store.transaction(_owns(1, start=7)) == 7
        assert await store.transaction(_does(1, 9)) == 7
        assert await store.transaction(_does(1, 8)) == 9
        assert await store.transaction(_does(1, 9)) == 9
        assert await store.transaction(_owns(1, start=7)) == 9
        assert await store.transaction(_owns(2)) == 9
        assert await store.transaction(_owns(1, part=1)) == 0
        assert await store.transaction(_owns(1, reader="s", start=3)) == 3
        assert await store.read(partial(read_positions, reader="r")) == {
            0: (7, 9),
            1: (0, 0),
        }
        assert await store.read(partial(read_positions, reader="nobody")) == {}
        assert await store.transaction(_does(2, 12)) == 9
        for wrong in (_owns(0), _owns(1, part=-1), _owns(1, start=-1)):
            assert isinstance(await error_of(store.transaction(wrong)), UsageError)
        for name in ("", "x" * 257):
            wrong = _owns(1, reader=name)
            assert isinstance(await error_of(store.transaction(wrong)), InvalidNameError)


async def check_stale_owners(make: MakeStore) -> None:
    """Once an owner with a higher epoch was there, nothing of one before takes effect."""
    async with make(MIGRATIONS) as one, make(MIGRATIONS) as other:
        await one.transaction(clear)
        await one.transaction(_owns(4, reader="r2"))
        assert await one.transaction(_owns(11)) >= 0
        await one.transaction(_does(11, 101, "by the first"))
        assert await other.transaction(_owns(12)) == 101
        for stale in (_owns(11), _does(11, 102, "late"), _does(11, 50, "late")):
            assert isinstance(await error_of(one.transaction(stale)), LeaseLostError)
        await other.transaction(_does(12, 102, "by the second"))
        names = await one.read(lambda t: t.execute("SELECT id FROM account").scalars())
        assert sorted(names) == ["by the first", "by the second"]


async def check_owners_that_race(make: MakeStore) -> None:
    """However two owners race, the effects of the first end where those of the second begin."""
    async with make(MIGRATIONS) as one, make(MIGRATIONS) as other:
        await one.transaction(clear)
        begin = await one.transaction(_owns(21))

        async def first() -> int:
            position = begin + 1
            while not isinstance(
                await error_of(one.transaction(_does(21, position))), LeaseLostError
            ):
                position += 1
                await one.read(_accounts)  # a moment in which the other finds the database free
            return position

        refused = asyncio.ensure_future(first())
        while not await one.read(_accounts):
            pass
        at = await other.transaction(_owns(22))
        for position in range(at + 1, at + 6):
            assert await other.transaction(_does(22, position)) == position - 1
        assert await refused == at + 1
        rows = await one.read(lambda t: t.execute("SELECT id, pence FROM account ORDER BY id"))
        assert [tuple(row) for row in rows] == [
            (f"{position:06}", 21 if position <= at else 22)
            for position in range(begin + 1, at + 6)
        ]
