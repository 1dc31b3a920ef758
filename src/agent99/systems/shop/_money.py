"""Money: decimal pounds in the sample's fields, integer pence everywhere else (rule 5).

msgspec reads a JSON number or string into a `Decimal` by its literal, so 0.1 arrives as 0.1; what
it cannot refuse (three places, NaN, a negative price, an absurd one) is refused here.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, TypeAlias

from agent99.systems.shop._errors import MoneyError

Money: TypeAlias = Decimal
"""Pounds with at most two places, as a JSON string or number; checked by the struct around it."""

CURRENCY: Final = "GBP"
MONEY_PENCE_MAX: Final = 10**12
"""The largest sum, ten billion pounds: no sum of two fits badly into 64 bits."""

_DIGITS_BEFORE_THE_POINT_MAX = 11
_PLACES_MAX = 2
_PENNY = Decimal("0.01")  # most amounts are written with two places, and told so quickly


def to_pence(pounds: Decimal, field: str) -> int:
    """Return an amount in pence.

    Args:
        pounds: 0 to `MONEY_PENCE_MAX`, written with at most two places.
        field: Its name, for the error.

    Raises:
        MoneyError: not a number, negative, more than two places, or too large.
    """
    if not pounds.is_finite():
        raise MoneyError(field, pounds, "money is a number")
    if pounds < 0:
        raise MoneyError(field, pounds, "money is not negative")
    if not pounds.same_quantum(_PENNY) and _exponent(pounds) < -_PLACES_MAX:
        raise MoneyError(field, pounds, "money has at most two decimal places")
    # The size is looked at before any arithmetic: 1E+999999999 is a short literal.
    if pounds and pounds.adjusted() >= _DIGITS_BEFORE_THE_POINT_MAX:
        raise MoneyError(field, pounds, _too_large())
    pence = int(pounds * 100) if pounds else 0
    if pence > MONEY_PENCE_MAX:
        raise MoneyError(field, pounds, _too_large())
    return pence


def to_pounds(pence: int) -> Money:
    """Return an amount in pounds, always with two places: 1250 pence are 12.50.

    Raises:
        MoneyError: negative or too large.
    """
    if pence < 0:
        raise MoneyError("pence", pence, "money is not negative")
    if pence > MONEY_PENCE_MAX:
        raise MoneyError("pence", pence, _too_large())
    return Decimal(pence).scaleb(-2)


def _exponent(pounds: Decimal) -> int:
    exponent = pounds.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0  # a number's is; the caller saw to that


def _too_large() -> str:
    return f"the largest sum is {MONEY_PENCE_MAX // 100:,}.00"
