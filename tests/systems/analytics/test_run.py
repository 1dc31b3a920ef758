"""A run by hand shows what the mesh would: windows in virtual time, with every record counted."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.errors import BadRequestError, UsageError
from agent99.systems.analytics import (
    Count,
    CountOf,
    Hopping,
    Pipeline,
    Run,
    Session,
    Sliding,
    Source,
    Sum,
    Tumbling,
    run,
)
from agent99.systems.analytics._watermark import FOREVER_US
from agent99.systems.analytics._windows import Window

from ._by_definition import Bag, Name, Tick, name_of, ordinals_of, windows_of

S = 1_000_000
US = 1e-6
WINDOWS = {
    "tumbling": Tumbling(7 * US),
    "hopping": Hopping(9 * US, 6 * US),
    "sliding": Sliding(5 * US),
    "session": Session(4 * US),
    "count": CountOf(3),
}


def source_of(shards: int = 1, **options: float) -> Source[Tick]:
    return Source("ticks", Tick, time="at_us", shards=shards, shard_by="who", **options)


def pipeline_of(source: Source[Tick], window: Window, lateness_s: float = 0.0) -> Pipeline:
    return Pipeline(
        "figures",
        source,
        key=("who",),
        window=window,
        aggregates={"numbers": Bag()},
        lateness_s=lateness_s,
    )


def test_idle_source_closes() -> None:
    """When nothing comes, windows close by the wall clock, once their end is the delay ago."""
    made = Run(pipeline_of(source_of(delay_s=2.0, idle_s=5.0), Tumbling(10)))
    assert made.feed([Tick(3 * S, "a", 0)]) == []
    assert made.pass_time(8.9) == []
    assert [(0, 10 * S, 1)] == [(row.start_us, row.end_us, row.rows) for row in made.pass_time(0.1)]
    assert made.watermark_us == 10 * S


def test_late_records() -> None:
    """A late record corrects its window; one that is too late is in the side stream, counted."""
    made = Run(pipeline_of(source_of(delay_s=0.0), Tumbling(10), lateness_s=20.0))
    made.feed([Tick(3 * S, "a", 0), Tick(25 * S, "a", 1)])
    (row,) = made.feed([Tick(5 * S, "a", 2)])
    assert (row.values["numbers"], row.revision) == ([0, 2], 2)
    assert made.feed([Tick(4 * S, "a", 3)]) == []
    assert made.late == [{"at_us": 4 * S, "who": "a", "number": 3}]
    assert [([0, 2], 2)] == [(row.values["numbers"], row.revision) for row in made.result]
    counts = made.counts
    assert (counts.records, counts.on_time, counts.late, counts.dropped) == (4, 2, 1, 1)
    assert counts.is_closed


def test_finish() -> None:
    """When all shards have ended every window closes, but those by count that are not full."""
    made = Run(pipeline_of(source_of(shards=2), Tumbling(10)))
    made.feed([Tick(3 * S, "a", 0)], shard=1)
    assert made.finish(1) == []
    assert [1] == [row.rows for row in made.finish()]
    assert made.watermark_us == FOREVER_US
    counted = run(pipeline_of(source_of(), CountOf(2)), [Tick(n, "a", n) for n in range(3)])
    assert [[0, 1]] == [row.values["numbers"] for row in counted.result]
    assert [[2]] == [row.values["numbers"] for row in counted.open_rows()]


def test_windows_by_count_need_no_watermark() -> None:
    """A window by count closes when it is full, also while a shard is waited for."""
    made = Run(pipeline_of(source_of(shards=2), CountOf(1)))
    assert [1] == [row.rows for row in made.feed([Tick(0, "a", 0)])]


def test_columns() -> None:
    """Columns are fed like the records that they hold."""
    made = Run(pipeline_of(source_of(), Tumbling(10)))
    made.feed({"at_us": [1, 2], "who": ["a", "a"], "number": [0, 1]})
    made.finish()
    assert made.result == run(made.pipeline, [Tick(1, "a", 0), Tick(2, "a", 1)]).result


def test_misuse() -> None:
    """What cannot be fed is refused with a reason, and adds nothing."""
    made = Run(pipeline_of(source_of(), Tumbling(10)))
    with pytest.raises(BadRequestError, match="number"):
        made.feed({"at_us": [1, 2], "who": ["a", "a"]})
    with pytest.raises(BadRequestError, match="Tick"):
        made.feed([Source])  # type: ignore[list-item]  # what no type checker would let pass
    with pytest.raises(UsageError, match="no shard 1"):
        made.feed([Tick(1, "a", 0)], shard=1)
    with pytest.raises(UsageError, match="0 seconds or more"):
        made.pass_time(-1)
    made.finish()
    with pytest.raises(UsageError, match="has ended"):
        made.feed([Tick(1, "a", 0)])
    with pytest.raises(UsageError, match="has ended"):
        made.finish(0)
    assert made.counts.records == 0


@pytest.mark.parametrize("kind", WINDOWS)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.integers(0, 2), st.lists(st.integers(0, 60), max_size=5)),
            st.integers(0, 9),
        ),
        max_size=15,
    ),
    st.integers(0, 10),
    st.integers(0, 10),
)
def test_every_interleaving(
    kind: str, program: list[tuple[int, list[int]] | int], delay_us: int, lateness_us: int
) -> None:
    """However shards, batches and idle times interleave, windows have the records not dropped."""
    shards = 1 if kind == "count" else 3
    source = source_of(shards, delay_s=delay_us * US, idle_s=5 * US)
    made, fed = Run(pipeline_of(source, WINDOWS[kind], lateness_us * US)), list[Tick]()
    watermark_us: int | None = None
    for step in program:
        if isinstance(step, int):
            made.pass_time(step * US)
        else:
            shard, times = step
            ticks = [Tick(at, "ab"[at % 2], len(fed) + n) for n, at in enumerate(times)]
            fed += ticks
            made.feed(ticks, shard=shard % shards)
        assert watermark_us is None or (made.watermark_us or 0) >= watermark_us
        watermark_us = made.watermark_us
    made.finish()
    late = {record["number"] for record in made.late}
    assert (len(late), len(fed)) == (made.counts.dropped, made.counts.records)
    assert made.counts.is_closed
    kept = [tick for tick in fed if tick.number not in late]
    expected = windows_of(WINDOWS[kind], kept, ordinals_of(kept))
    found = {name_of(row): row.values["numbers"] for row in [*made.result, *made.open_rows()]}
    assert expected == found
    revisions: dict[Name, int] = {}
    for row in made.rows:
        assert row.revision == revisions.get(name_of(row), 0) + 1
        revisions[name_of(row)] = row.revision


@pytest.mark.parametrize(("lines", "seconds"), [(1_400, 1.0), (100_000, 10.0)])
def test_a_day_in_less_than_a_second(lines: int, seconds: float) -> None:
    """A day of retail runs in less than a second of test time; a hundred thousand lines in ten."""
    source = source_of(delay_s=60.0)
    pipeline = Pipeline(
        "day",
        source,
        key=("who",),
        window=Hopping(3_600, 600),
        aggregates={"lines": Count(), "sum": Sum("number")},
    )
    step_us = 86_400 * S // lines
    ticks = [Tick(n * step_us, f"country {n * 7 % 40}", n) for n in range(lines)]
    began = time.perf_counter()
    made = Run(pipeline)
    for first in range(0, lines, 1_000):
        made.feed(ticks[first : first + 1_000])
    made.finish()
    assert time.perf_counter() - began < seconds
    assert made.counts.on_time == lines
    assert sum(row.values["lines"] for row in made.result) == 6 * lines
