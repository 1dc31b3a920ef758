"""Rule 10 written down twice: what the check expects is what the reader of the data matches."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from agent99.systems.shop._check_refunds import expected_returns
from agent99.systems.shop._check_sources import read_file
from agent99.systems.shop._data import EXTRACT, read_year
from agent99.systems.shop._identity import order_uuid
from agent99.systems.shop._year import match_cancellations


def _both(path: Path) -> tuple[Counter[tuple[str, str, int]], Counter[tuple[str, str, int]]]:
    """Return order, product and pence of what is given back when every order is confirmed."""
    year = read_year(path)
    file = read_file(path, decline_rate=0.0, seed=0, scarcity=1.0)
    every = set(file.orders["order_id"])
    pence: Counter[tuple[str, str]] = Counter()
    for refund in match_cancellations(year.customers):
        if refund.order is not None:
            key = (str(order_uuid(refund.order)), str(refund.line.product_id))
            pence[key] += refund.pence
    rows = expected_returns(file.replay, every).iter_rows()
    return (
        Counter((order, product, amount) for (order, product), amount in pence.items()),
        Counter((order, product, amount) for order, product, _, amount in rows),
    )


def test_four_weeks() -> None:
    """Both writings of the rule give back the same, order by order and product by product."""
    reader, check = _both(EXTRACT)
    assert reader == check
    assert reader


@pytest.mark.slow
def test_a_year(year_file: Path) -> None:
    """The year's refunds are those of the rule's own figure: £201,863.26."""
    reader, check = _both(year_file)
    assert reader == check
    assert 20_186_326 == sum(pence for _, _, pence in check)
