"""Records that lack something, for the tests of enrichment, and who knows it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from agent99.systems.analytics import Enrichment, Source
from tests.systems.analytics._sales import START_US


class Bought(msgspec.Struct, frozen=True):
    """A record whose category, and points, are known by its code."""

    at_us: int
    number: int
    code: str | None
    category: str | None = None
    points: int = 0


GOODS = Source("goods", Bought, time="at_us", delay_s=60.0)
CATEGORIES = {"tea": "drink", "cup": "china", "pot": "china"}


def bought(number: int, code: str | None = "tea", /, **more: Any) -> dict[str, Any]:
    """Return a record as its sender has it."""
    return {"at_us": START_US + number, "number": number, "code": code} | more


class Knowing:
    """A look-up that keeps what it was asked for, and answers as it is told."""

    def __init__(self, found: Mapping[Any, Any] = CATEGORIES) -> None:
        self.found = dict(found)
        self.asked: list[list[Any]] = []
        self.fails = 0
        """So many look-ups more fail."""
        self.ended = 0
        """Look-ups that were cancelled."""
        self.is_open = asyncio.Event()
        """While it is not set, nothing is answered."""
        self.is_open.set()

    async def __call__(self, keys: Sequence[Any]) -> Mapping[Any, Any]:
        """Return what there is of some keys."""
        self.asked.append(list(keys))
        try:
            await self.is_open.wait()
        except asyncio.CancelledError:
            self.ended += 1
            raise
        if self.fails:
            self.fails -= 1
            raise RuntimeError("nobody knows")
        return {key: self.found[key] for key in keys if key in self.found}


def category(lookup: Any, *columns: str, of: Source[Bought] = GOODS, **how: Any) -> Enrichment:
    """Return an enrichment of the category, or of other columns, by the code."""
    return Enrichment(of, "code", columns or ("category",), lookup, **how)


def by_number(batches: Sequence[Any], column: str = "category") -> dict[int, Any]:
    """Return what a column has in each record that is stored; no record is there twice."""
    found: dict[int, Any] = {}
    for batch in batches:
        for number, value in zip(batch.columns["number"], batch.columns[column], strict=True):
            assert number not in found
            found[number] = value
    return found
