"""The job of the campaigns: tills whose sales come out of order, and what their windows must be.

What is expected is worked out by loops over all records at once (`_by_definition`), apart from the
fold.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec

from agent99.systems.analytics import (
    Count,
    CountOf,
    Hopping,
    Job,
    Pipeline,
    Session,
    Sliding,
    Source,
    Sum,
    Tumbling,
)
from agent99.systems.analytics._columns import Columns, columns_of, split_by_shard

from ._by_definition import Name, Tick, ordinals_of, windows_of

SECOND_US = 1_000_000
START_US = 1_767_225_600 * SECOND_US
SHOPS = tuple(f"shop-{number}" for number in range(12))
STEP_S = 4
"""Of the records' time, from one batch to the next."""
BATCH = 40
LATE = 0.05
"""Of the records are held back."""


class TillSale(msgspec.Struct, frozen=True):
    """A sale; `number` tells it from all others, and is its pence."""

    at_us: int
    shop: str
    number: int


TILLS = Source("tills", TillSale, time="at_us", delay_s=5.0, idle_s=60.0, shards=4, shard_by="shop")
FIGURES: dict[str, Any] = {"sales": Count(), "pence": Sum("number")}


def _pipeline(name: str, window: Any, lateness_s: float) -> Pipeline:
    return Pipeline(
        name, TILLS, key=("shop",), window=window, aggregates=FIGURES, lateness_s=lateness_s
    )


PIPELINES = (
    _pipeline("minutes", Tumbling(60), 120.0),
    _pipeline("hops", Hopping(60, 20), 30.0),
    _pipeline("slides", Sliding(10), 30.0),
    _pipeline("visits", Session(15), 30.0),
    _pipeline("dozens", CountOf(12), 0.0),
)


def till_job(version: int = 1) -> Job:
    """Return the job: all kinds of windows over the same sales."""
    return Job("tills", PIPELINES, version=version)


def switched_job(version: int) -> Job:
    """Return a version of the job of the switch: the second one counts half pence."""
    visits = replace(PIPELINES[3], window=Session(0.2))  # so short that some end all the time
    few = (*PIPELINES[:2], visits, PIPELINES[4])
    if version == 1:
        return Job("tills", few)
    halves = {"halves": lambda number: 2 * number}
    figures: dict[str, Any] = {"sales": Count(), "pence": Sum("halves")}
    newer = (replace(one, columns=halves, aggregates=figures) for one in few)
    return Job("tills", newer, version=version)


class Tills:
    """Makes the sales of some minutes, batch by batch, and knows what has been made of them."""

    def __init__(self, seed: int) -> None:
        self._luck = random.Random(seed)
        self._held: list[tuple[int, TillSale]] = []
        """Sales that come later, and in which batch."""
        self._batches = 0
        self._numbers = 0
        self.by_shard: dict[int, list[TillSale]] = {shard: [] for shard in range(TILLS.shards)}
        """All that came, in the order of each shard."""

    def __repr__(self) -> str:
        return f"Tills({self._batches} batches, {self._numbers} sales)"

    @property
    def count(self) -> int:
        """How many sales have come."""
        return sum(map(len, self.by_shard.values()))

    def next_batches(self) -> Iterator[tuple[int, Columns]]:
        """Yield the next batch of each shard."""
        now, self._batches = self._batches, self._batches + 1
        sales = [self._sale(now) for _ in range(BATCH)]
        fresh: list[TillSale] = []
        for one in sales:
            if self._luck.random() < LATE:
                self._held.append((now + self._luck.randint(2, 60), one))
            else:
                fresh.append(one)
        due = [one for at, one in self._held if at <= now]
        self._held = [(at, one) for at, one in self._held if at > now]
        yield from self._split([*fresh, *due])

    def last_batches(self) -> Iterator[tuple[int, Columns]]:
        """Yield what is held back."""
        due, self._held = [one for _, one in self._held], []
        yield from self._split(due)

    def _sale(self, batch: int) -> TillSale:
        self._numbers += 1
        at_s = batch * STEP_S + self._luck.uniform(0, 2 * STEP_S)
        at_us = START_US + round(at_s * SECOND_US)
        return TillSale(at_us, self._luck.choice(SHOPS), self._numbers)

    def _split(self, sales: list[TillSale]) -> Iterator[tuple[int, Columns]]:
        if not sales:
            return
        for shard, columns in split_by_shard(TILLS, columns_of(TILLS, sales)):
            numbers = set(columns["number"])
            self.by_shard[shard] += [one for one in sales if one.number in numbers]
            yield shard, columns


class Expected(msgspec.Struct):
    """What a pipeline must have."""

    windows: dict[Name, tuple[int, int]]
    """Sales and pence, of each window that is not empty."""
    counts: tuple[int, int, int]
    """On time, late, dropped."""


def expected_of(pipeline: Pipeline, tills: Tills) -> Expected:
    """Work out what a pipeline must have: which sales it takes, by the rule; then by definition."""
    taken: list[Tick] = []
    on_time = late = dropped = 0
    is_timeless = isinstance(pipeline.window, CountOf)
    for sales in tills.by_shard.values():
        latest_us = 0
        for one in sales:
            latest_us = max(latest_us, one.at_us)
            behind_us = latest_us - TILLS.delay_us - one.at_us
            if is_timeless or behind_us <= 0:
                on_time += 1
            elif behind_us <= pipeline.lateness_us:
                late += 1
            else:
                dropped += 1
                continue
            taken.append(Tick(one.at_us, one.shop, one.number))
    windows = windows_of(pipeline.window, taken, ordinals_of(taken))
    return Expected(
        {
            name: (len(numbers), sum(numbers))
            for name, numbers in windows.items()
            if not is_timeless or len(numbers) == 12
        },
        (on_time, late, dropped),
    )
