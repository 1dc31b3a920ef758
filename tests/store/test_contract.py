"""The contract, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from agent99.testing.store import STORE_CHECKS, MakeStore, check_store


@pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.__name__)
async def test_contract(check: Callable[[MakeStore], Awaitable[None]], make: MakeStore) -> None:
    """Every check of the contract holds on an empty database."""
    await check(make)


@pytest.mark.slow
async def test_whole_contract_on_one_database(make: MakeStore) -> None:
    """The checks do not disturb one another."""
    await check_store(make)
