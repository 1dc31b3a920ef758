"""The rule of declines: by a hash of the order, whoever asks and however often."""

from __future__ import annotations

from hashlib import sha256
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.errors import UsageError
from agent99.systems.shop._declines import DeclineRule
from tests.systems.shop._shop import an_id


@given(st.uuids(), st.integers(0, 99), st.floats(0.0, 1.0))
def test_the_rule_is_the_written_one(order_id: UUID, seed: int, rate: float) -> None:
    """The first eight bytes of the hash, big-endian, are below rate times 2**64 (rule 9)."""
    drawn = int(sha256(f"{seed}:{order_id}".encode()).hexdigest()[:16], 16)
    assert (drawn < rate * 2**64) is DeclineRule(rate=rate, seed=seed).declines(order_id)


def test_the_ends_decline_nothing_and_everything() -> None:
    """A rate of 0 declines no order, a rate of 1 every order."""
    orders = [an_id(number) for number in range(500)]
    assert not any(DeclineRule(rate=0.0).declines(order) for order in orders)
    assert all(DeclineRule(rate=1.0).declines(order) for order in orders)


def test_the_share_is_about_the_rate() -> None:
    """Of many orders the rate's share is declined, and another seed declines others."""
    orders = [an_id(number) for number in range(4_000)]
    first, second = (
        {order for order in orders if DeclineRule(rate=0.05, seed=seed).declines(order)}
        for seed in (0, 1)
    )
    assert 150 <= len(first) <= 250
    assert first != second


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_is_a_share(rate: float) -> None:
    """A rate below 0, above 1 or of no number is refused."""
    with pytest.raises(UsageError, match="between 0 and 1"):
        DeclineRule(rate=rate)
