"""The board shows every window as it is by definition, however its records come."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st

from agent99.systems.analytics import (
    CountOf,
    Hopping,
    Pipeline,
    Session,
    Sliding,
    Source,
    Tumbling,
)
from agent99.systems.analytics._board import Board
from agent99.systems.analytics._delta import Panes, WindowRow
from agent99.systems.analytics._watermark import FOREVER_US
from agent99.systems.analytics._windows import Window

from ._naive import Bag, Name, Tick, delta_of, name_of, ordinals_of, windows_of

TICKS = Source("ticks", Tick, time="at_us", delay_s=0.0)
US = 1e-6
TIME_US_MAX = 60

windows = st.one_of(
    st.builds(Tumbling, st.integers(1, 20).map(lambda us: us * US)),
    st.tuples(st.integers(1, 20), st.integers(1, 20)).map(
        lambda both: Hopping(max(both) * US, min(both) * US)
    ),
    st.builds(Sliding, st.integers(1, 20).map(lambda us: us * US)),
    st.builds(Session, st.integers(1, 20).map(lambda us: us * US)),
    st.builds(CountOf, st.integers(1, 4)),
)
Step = tuple[Literal["add", "close", "reload", "compact"], Any]
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"),
            st.lists(
                st.tuples(st.integers(-5, TIME_US_MAX), st.sampled_from("ab")),
                min_size=1,
                max_size=6,
            ),
        ),
        st.tuples(st.just("close"), st.integers(0, 15)),
        st.tuples(st.sampled_from(("reload", "compact")), st.none()),
    ),
    max_size=20,
)


def pipeline_of(window: Window, lateness_us: int = 0) -> Pipeline:
    return Pipeline(
        "figures",
        TICKS,
        key=("who",),
        window=window,
        aggregates={"numbers": Bag()},
        lateness_s=lateness_us * US,
    )


class Desk:
    """A board with what is kept beside it when it runs for real: the deltas and the rows."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.board = Board(pipeline)
        self.stored: list[tuple[int, Panes]] = []
        """The parts of deltas, with their chunks."""
        self.latest: dict[Name, WindowRow] = {}
        self.taken: list[Tick] = []

    def __repr__(self) -> str:
        return f"Desk({self.board!r})"

    def add(self, ticks: Iterable[Tick], ordinals: dict[int, int]) -> None:
        """Merge those records that are not too late."""
        horizon_us = self.board.horizon_us
        is_timeless = isinstance(self.pipeline.window, CountOf)
        fit = [
            tick for tick in ticks if is_timeless or horizon_us is None or tick.at_us >= horizon_us
        ]
        self.taken += fit
        panes = delta_of(self.pipeline, fit, ordinals)
        self._store(panes)
        self.board.merge(panes)

    def _store(self, panes: Panes) -> None:
        self.stored += [
            (self.board.chunk_of(pane), {pane: deepcopy(cells)}) for pane, cells in panes.items()
        ]

    def close(self, watermark_us: int) -> None:
        """Close windows, keep their rows, and delete what nobody needs."""
        for row in self.board.close(watermark_us):
            before = self.latest.get(name_of(row))
            assert row.revision == (before.revision if before else 0) + 1
            assert (row.state, row.pipeline) == ("closed", "figures")
            self.latest[name_of(row)] = row
        done = set(self.board.done_chunks())
        self.stored = [(chunk, panes) for chunk, panes in self.stored if chunk not in done]

    def reload(self) -> None:
        """Go on with another board, made of what is kept."""
        watermark_us = self.board.watermark_us
        if watermark_us is None:
            return
        self.close(watermark_us)  # a board is left between two closings: with nothing to show
        horizon_us = self.board.horizon_us
        assert horizon_us is not None
        self.board = Board(self.pipeline)
        for _, panes in self.stored:
            self.board.merge(deepcopy(panes))
        self.board.settle(
            watermark_us, [row for row in self.latest.values() if row.end_us > horizon_us]
        )

    def compact(self) -> None:
        """Keep one delta instead of all."""
        self.stored = []
        self._store(self.board.panes())

    def shown(self) -> dict[Name, list[int]]:
        """Return what the closed windows have, by their latest rows."""
        return {
            name: row.values["numbers"] for name, row in self.latest.items() if not row.is_retracted
        }

    def opened(self) -> dict[Name, list[int]]:
        """Return what the open windows have."""
        return {name_of(row): row.values["numbers"] for row in self.board.open_rows()}


def run(pipeline: Pipeline, program: list[Step]) -> Desk:
    """Run a programme; after each closing, check that each window is what it is by definition."""
    desk, watermark_us = Desk(pipeline), -5
    drawn = [at for verb, several in program if verb == "add" for at in several]
    ticks = iter([Tick(at_us, who, number) for number, (at_us, who) in enumerate(drawn)])
    ordinals = ordinals_of(Tick(*at, number) for number, at in enumerate(drawn))
    for verb, argument in program:
        match verb:
            case "add":
                desk.add([next(ticks) for _ in argument], ordinals)
            case "close":
                watermark_us += argument
                desk.close(watermark_us)
                check(desk, ordinals)
            case "reload":
                desk.reload()
            case "compact":
                desk.compact()
    return desk


def check(desk: Desk, ordinals: dict[int, int]) -> None:
    """Compare closed and open windows with what they are by definition."""
    window = desk.pipeline.window
    expected = windows_of(window, desk.taken, ordinals)
    watermark_us = desk.board.watermark_us
    assert watermark_us is not None
    closed = {
        name
        for name, numbers in expected.items()
        if (
            len(numbers) == window.records
            if isinstance(window, CountOf)
            else name.end_us <= watermark_us
        )
    }
    assert {name: expected[name] for name in closed} == desk.shown()
    assert {name: expected[name] for name in expected.keys() - closed} == desk.opened()
    assert desk.board.unwanted_rows == 0


@given(windows, st.integers(0, 30), steps)
def test_windows_by_definition(window: Window, lateness_us: int, program: list[Step]) -> None:
    """At every watermark, closed and open windows have the records that they have by definition.

    Revisions go up by one, and a board made again of the chunks that are not done goes on alike.
    """
    desk = run(pipeline_of(window, lateness_us), [*program, ("close", TIME_US_MAX + 50)])
    if not isinstance(window, CountOf):
        assert desk.opened() == {}
        desk.close(FOREVER_US)
        assert desk.stored == []
