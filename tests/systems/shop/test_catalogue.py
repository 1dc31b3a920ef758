"""The price list: a client chooses a tier and never invents a price."""

from __future__ import annotations

from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.errors import Failure
from agent99.systems.shop._catalogue import PriceList
from agent99.systems.shop._identity import NAMESPACE
from agent99.systems.shop._model import OrderLine
from agent99.systems.shop._money import to_pounds

_PRODUCTS = [uuid5(NAMESPACE, str(number)) for number in range(6)]
_PAIRS = st.lists(st.tuples(st.sampled_from(_PRODUCTS), st.integers(1, 20)))


def _line(product_id: UUID, price_pence: int) -> OrderLine:
    return OrderLine(product_id=product_id, quantity=1, unit_price=to_pounds(price_pence))


@given(_PAIRS, st.lists(st.tuples(st.sampled_from(_PRODUCTS), st.integers(0, 21)), min_size=1))
def test_exactly_the_pairs_of_the_list_are_accepted(
    pairs: list[tuple[UUID, int]], quoted: list[tuple[UUID, int]]
) -> None:
    """An order is refused if and only if a line is no pair of the list; the first such is named."""
    prices = PriceList.of(pairs)
    invented = [index for index, pair in enumerate(quoted) if pair not in set(pairs)]
    lines = [_line(*pair) for pair in quoted]
    if not invented:
        prices.refuse_invented(lines)
        return
    with pytest.raises(Failure) as caught:
        prices.refuse_invented(lines)
    assert "PRICE_MISMATCH" == caught.value.code
    assert f"$.items[{invented[0]}].unit_price" == caught.value.details["path"]
    assert str(quoted[invented[0]][0]) == caught.value.details["product_id"]


@given(_PAIRS)
def test_a_list_gives_back_its_pairs_in_order(pairs: list[tuple[UUID, int]]) -> None:
    """Iterating yields every pair once, sorted, and makes an equal list."""
    prices = PriceList.of(pairs)
    assert sorted(set(pairs)) == list(prices)
    assert len(set(pairs)) == prices.pairs()
    assert prices == PriceList.of(prices)
    assert len({product for product, _ in pairs}) == len(prices)


def test_the_refusal_tells_the_prices_there_are() -> None:
    """A client that quotes a wrong price sees the right ones, in pounds, cheapest first."""
    prices = PriceList.of([(_PRODUCTS[0], 210), (_PRODUCTS[0], 85)])
    with pytest.raises(Failure) as caught:
        prices.refuse_invented([_line(_PRODUCTS[0], 1)])
    assert ["0.85", "2.10"] == caught.value.details["prices"]
    assert "0.01" == caught.value.details["unit_price"]


def test_an_unknown_product_has_no_price() -> None:
    """A product that is not sold is refused whatever it quotes."""
    with pytest.raises(Failure, match="not sold"):
        PriceList.of([]).refuse_invented([_line(_PRODUCTS[0], 85)])
    assert _PRODUCTS[0] not in PriceList.of([])


@pytest.mark.parametrize("prices", [frozenset[int](), frozenset({0, 5})])
def test_a_product_costs_at_least_a_penny(prices: frozenset[int]) -> None:
    """A list with a product of no price, or a free one, is not made."""
    with pytest.raises(ValueError, match="no price"):
        PriceList({_PRODUCTS[0]: prices})


def test_a_list_says_its_size() -> None:
    """The representation has the counts, not thousands of prices."""
    assert "PriceList(products=1, prices=2)" == repr(
        PriceList.of([(_PRODUCTS[0], 1), (_PRODUCTS[0], 2)])
    )
