"""What a check finds: kinds of difference, by name, with examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from agent99.systems.shop._check_sources import Frame, load_polars

EXAMPLES_MAX: Final = 5


class Finding(msgspec.Struct, frozen=True):
    """One kind of difference."""

    name: str
    """Stable: `order_missing`, `stock_not_conserved` and so on."""
    message: str
    """What should hold and does not."""
    count: int
    """How often."""
    examples: tuple[str, ...]
    """The first few, sorted: ids, mostly."""


def found(name: str, message: str, wrong: Frame, key: str = "order_id") -> Iterator[Finding]:
    """Yield a finding if there are rows that are wrong; none without."""
    if wrong.height:
        examples = tuple(str(each) for each in wrong[key].sort().head(EXAMPLES_MAX))
        yield Finding(name, message, wrong.height, examples)


def differ(left: Frame, right: Frame, on: list[str], columns: list[str]) -> Frame:
    """Return the rows, of either side, for which the other has none or has other values."""
    pl = load_polars()
    both = left.join(right, on=on, how="full", coalesce=True, suffix="_right")
    different = [pl.col(each).ne_missing(pl.col(f"{each}_right")) for each in columns]
    return both.filter(pl.any_horizontal(different))
