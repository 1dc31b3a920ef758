"""Money: pounds outside, pence inside, nothing lost between."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.systems.shop._errors import MoneyError
from agent99.systems.shop._money import MONEY_PENCE_MAX, Money, to_pence, to_pounds


class _Priced(msgspec.Struct):
    price: Money

    def __post_init__(self) -> None:
        to_pence(self.price, "price")


class _Basket(msgspec.Struct):
    items: tuple[_Priced, ...]


def _decode(literal: str) -> Decimal:
    body = b'{"items":[{"price":%b}]}' % literal.encode()
    return msgspec.json.decode(body, type=_Basket).items[0].price


@given(st.integers(0, MONEY_PENCE_MAX))
def test_pence_to_pounds_and_back_changes_nothing(pence: int) -> None:
    """Every sum survives the way to pounds, to JSON as a string or number, and back."""
    pounds = to_pounds(pence)
    assert pence == to_pence(pounds, "x")
    assert pence == to_pence(_decode(f'"{pounds}"'), "x")
    assert pence == to_pence(_decode(str(pounds)), "x")


@given(st.decimals(allow_nan=True, allow_infinity=True) | st.decimals(0, 10**11, places=3))
def test_pence_are_exact_or_refused(pounds: Decimal) -> None:
    """Against a model in whole numbers: the exact hundredfold, or a refusal for a rule broken."""
    try:
        pence = to_pence(pounds, "x")
    except MoneyError:
        assert (
            not pounds.is_finite()
            or pounds < 0
            or int(pounds.as_tuple().exponent) < -2
            or pounds > MONEY_PENCE_MAX // 100
        )
    else:
        assert Decimal(pence) == Decimal(pounds) * 100
        assert 0 <= pence <= MONEY_PENCE_MAX


@pytest.mark.parametrize(
    ("literal", "pence"),
    [("0.1", 10), ("12", 1200), ("1e2", 10_000), ('"12.50"', 1250), ("-0.0", 0), ("0e999999", 0)],
)
def test_a_json_literal_is_taken_exactly(literal: str, pence: int) -> None:
    """A number is read by its digits, never through a float."""
    assert pence == to_pence(_decode(literal), "x")


@pytest.mark.parametrize(
    ("literal", "rule"),
    [
        ("0.125", "two decimal places"),
        ("0.30000000000000004", "two decimal places"),
        ('"NaN"', "a number"),
        ('"sNaN"', "a number"),
        ('"-Infinity"', "a number"),
        ("-0.01", "not negative"),
        ("1e999999999", "largest sum"),
        ("10000000000.01", "largest sum"),
        ("99999999999999999999999", "largest sum"),
    ],
)
def test_what_is_no_money_is_refused_with_its_path(literal: str, rule: str) -> None:
    """The decode names the rule, the field, and the path of the struct that holds it."""
    with pytest.raises(msgspec.ValidationError, match=rule) as caught:
        _decode(literal)
    assert "`price`" in str(caught.value)
    assert "$.items[0]" in str(caught.value)


@pytest.mark.parametrize("literal", ["true", "null", "[]", '"twelve"', '""'])
def test_another_type_is_refused(literal: str) -> None:
    """What is neither number nor a number's text is a type error with the exact path."""
    with pytest.raises(msgspec.ValidationError, match=r"\$\.items\[0\]\.price"):
        _decode(literal)


@pytest.mark.parametrize("pence", [-1, MONEY_PENCE_MAX + 1])
def test_pounds_of_what_is_no_sum_are_refused(pence: int) -> None:
    """A sum that could not be read back is not written."""
    with pytest.raises(MoneyError):
        to_pounds(pence)


def test_an_error_of_money_carries_what_is_wrong() -> None:
    """The attributes name the field and the rule; a very long value is shortened in the text."""
    value: Any = Decimal("1" * 60 + ".001")
    with pytest.raises(MoneyError) as caught:
        to_pence(value, "amount")
    assert ("amount", value) == (caught.value.field, caught.value.value)
    assert len(str(caught.value)) < 150
