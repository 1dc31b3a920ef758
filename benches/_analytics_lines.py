"""The load of the bench of the analytics: lines of orders of a shop, nearly in the order of time.

As dense as the year of a real shop: some 7 invoices an hour, 25 lines each, nine tenths from one
country. The same numbers make the same lines.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

import msgspec

ARRAY: Final = 1_000
"""Rows that are sent at once."""
IN_FLIGHT: Final = 16
"""Arrays that are under way at once, unacknowledged: some two megabytes."""
DELAY_S: Final = 60.0
"""How far lines may be out of order, of every stack's windows."""
HOUR_S: Final = 3_600
_DISORDER_S: Final = 5.0
_BEGIN: Final = datetime(2010, 1, 4, tzinfo=UTC)
_INVOICE_EVERY_S: Final = HOUR_S / 7
_LINES_MAX: Final = 49
_PRODUCTS: Final = 4_000
_COUNTRIES: Final = tuple(f"Country {number:02}" for number in range(40))
_SHARES: Final = (0.92, *(0.08 / (len(_COUNTRIES) - 1) for _ in _COUNTRIES[1:]))


class Line(msgspec.Struct):
    """A line of an order."""

    sold_at: datetime
    invoice: str
    product: str
    quantity: int
    price_pence: int
    customer: int | None
    country: str


Windows = dict[tuple[int, str], list[int]]
"""By the hour since the epoch and the country: how many lines, and their pence."""


def make_lines(count: int, seed: int = 0) -> list[Line]:
    """Return so many lines; more of them begin with the same ones."""
    draw = random.Random(seed)
    lines: list[Line] = []
    moment, number = _BEGIN, 0
    while len(lines) < count:
        number += 1
        moment += timedelta(seconds=draw.expovariate(1 / _INVOICE_EVERY_S))
        lines += _invoice(draw, number, moment)
    return lines[:count]


def _invoice(draw: random.Random, number: int, moment: datetime) -> list[Line]:
    country = draw.choices(_COUNTRIES, _SHARES)[0]
    customer = draw.randrange(12_000, 18_000) if draw.random() < 0.8 else None
    return [
        Line(
            sold_at=moment + timedelta(seconds=draw.uniform(0, _DISORDER_S)),
            invoice=str(489_433 + number),
            product=f"{20_000 + draw.randrange(_PRODUCTS)}A",
            quantity=draw.randint(1, 24),
            price_pence=draw.randint(1, 2_000),
            customer=customer,
            country=country,
        )
        for _ in range(draw.randint(1, _LINES_MAX))
    ]


def in_arrays(lines: list[Line]) -> list[list[Line]]:
    """Return the lines as they are sent."""
    return [lines[first : first + ARRAY] for first in range(0, len(lines), ARRAY)]


def add_lines(windows: Windows, lines: Iterable[Line]) -> None:
    """Add lines to hourly windows by country: the plain loop that a stream engine stands for."""
    for line in lines:
        place = (int(line.sold_at.timestamp()) // HOUR_S, line.country)
        window = windows.get(place)
        if window is None:
            windows[place] = window = [0, 0]
        window[0] += 1
        window[1] += line.quantity * line.price_pence


def check(windows: Windows, lines: list[Line]) -> None:
    """End this programme when its windows are not those of the lines."""
    expected: Windows = {}
    add_lines(expected, lines)
    if windows != expected:
        wrong = {place for place in expected | windows if expected.get(place) != windows.get(place)}
        few = list(islice(sorted(wrong), 3))
        raise SystemExit(f"{len(wrong)} of {len(expected)} windows are wrong: {few}")
