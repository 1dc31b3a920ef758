"""The board shows every window as it is by definition, however its records come."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.systems.analytics import (
    Count,
    CountOf,
    Hopping,
    Pipeline,
    Session,
    Sliding,
    Source,
    Tumbling,
)
from agent99.systems.analytics._board import Board, key_order, row_order
from agent99.systems.analytics._board_cells import Chunks
from agent99.systems.analytics._delta import Panes, WindowRow
from agent99.systems.analytics._watermark import FOREVER_US
from agent99.systems.analytics._windows import Window

from ._by_definition import Bag, Name, Tick, delta_of, name_of, ordinals_of, windows_of

TICKS = Source("ticks", Tick, time="at_us", delay_s=0.0)
US = 1e-6
TIME_US_MAX = 30

LENGTHS = st.integers(1, 8)
WINDOWS: dict[str, st.SearchStrategy[Window]] = {
    "tumbling": LENGTHS.map(lambda us: Tumbling(us * US)),
    "hopping": st.tuples(LENGTHS, LENGTHS).map(lambda us: Hopping(max(us) * US, min(us) * US)),
    "sliding": LENGTHS.map(lambda us: Sliding(us * US)),
    "session": LENGTHS.map(lambda us: Session(us * US)),
    "count": st.integers(1, 4).map(CountOf),
}
Step = tuple[Literal["add", "close", "prune", "reload", "compact"], Any]
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
        st.tuples(st.sampled_from(("prune", "reload", "compact")), st.none()),
    ),
    max_size=25,
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

    def __init__(self, pipeline: Pipeline, rows_max: int = 1_000) -> None:
        self.pipeline = pipeline
        self.rows_max = rows_max
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
        deltas = [delta_of(self.pipeline, part, ordinals) for part in (fit[::2], fit[1::2])]
        for panes in deltas:
            self._store(panes)
        self.board.merge_several(deltas)

    def _store(self, panes: Panes) -> None:
        self.stored += [
            (self.board.chunk_of(pane), {pane: deepcopy(cells)}) for pane, cells in panes.items()
        ]

    def close(self, watermark_us: int) -> None:
        """Close windows, in steps, and keep their rows."""
        step_us = None
        while step_us != watermark_us:
            step_us = self.board.step(watermark_us, self.rows_max)
            self._close(step_us)

    def _close(self, watermark_us: int) -> None:
        for row in self.board.close(watermark_us):
            before = self.latest.get(name_of(row))
            assert row.revision == (before.revision if before else 0) + 1
            assert (row.state, row.pipeline) == ("closed", "figures")
            self.latest[name_of(row)] = row

    def prune(self) -> None:
        """Delete what nobody needs."""
        done = set(self.board.done_chunks())
        self.stored = [(chunk, panes) for chunk, panes in self.stored if chunk not in done]
        assert self.board.open_rows() == self.again().open_rows()

    def again(self) -> Board:
        """Return a board that is made of what is kept."""
        board, watermark_us = Board(self.pipeline), self.board.watermark_us
        for _, panes in self.stored:
            board.merge(deepcopy(panes))
        if watermark_us is not None:
            horizon_us = watermark_us - self.pipeline.lateness_us
            kept = [row for row in self.latest.values() if row.end_us > horizon_us]
            board.settle(watermark_us, kept)
        return board

    def reload(self) -> None:
        """Go on with another board, which was not there when this one was left."""
        if self.board.watermark_us is not None:
            self.close(self.board.watermark_us)  # a board is left with nothing to show
            self.board = self.again()

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


def run(desk: Desk, program: list[Step]) -> Desk:
    """Run a programme; after each closing, check that each window is what it is by definition."""
    watermark_us = -5
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
            case "prune":
                desk.prune()
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


@pytest.mark.parametrize("kind", WINDOWS)
@given(st.data(), st.integers(0, 40), steps)
def test_windows_by_definition(
    kind: str, data: st.DataObject, lateness_us: int, program: list[Step]
) -> None:
    """At every watermark, closed and open windows have the records that they have by definition.

    Revisions go up by one, in whatever steps windows close, and a board made again of the chunks
    that are not done goes on alike.
    """
    window = data.draw(WINDOWS[kind])
    desk = Desk(pipeline_of(window, lateness_us), data.draw(st.sampled_from((1, 2, 1_000))))
    run(desk, [*program, ("close", TIME_US_MAX + 50)])
    if not isinstance(window, CountOf):
        assert desk.opened() == {}
        desk.close(FOREVER_US)
        desk.prune()
        assert desk.stored == []


def test_too_late_for_the_board() -> None:
    """Records of forgotten windows are in none, and counted; what is needed is kept beside them."""
    desk = Desk(pipeline_of(Session(2 * US)))
    ticks = [Tick(0, "a", 0), Tick(20, "a", 1)]
    desk.add(ticks, {})
    desk.close(10)
    desk.prune()
    desk.board.merge(delta_of(desk.pipeline, [Tick(5, "a", 2), Tick(5, "b", 3)], {}))
    desk.close(10)
    desk.prune()
    assert desk.board.unwanted_rows == 2
    assert [0] == [row.values["numbers"][0] for row in desk.latest.values()]
    assert [(0, 1)] == [(chunk, len(panes)) for chunk, panes in desk.stored if 20 in panes]


def test_order_of_rows() -> None:
    """Rows come by their ends, then by their keys; None before numbers before text."""
    keys = [("b",), (None,), (2,), ("a",), (True,)]
    assert sorted(keys, key=key_order) == [(None,), (True,), (2,), ("a",), ("b",)]
    board = Board(pipeline_of(Sliding(5 * US)))
    ticks = [Tick(1, "b", 0), Tick(1, "a", 1), Tick(0, "b", 2)]
    board.merge(delta_of(pipeline_of(Sliding(5 * US)), ticks, {}))
    assert [(1, "b"), (2, "a"), (2, "b")] == [(row.end_us, *row.key) for row in board.close(9)]


def test_steps() -> None:
    """200,000 rows come in steps of at most so many, in the order in which all at once would."""
    ticks, numbers = Tumbling(US), {"ticks": Count()}
    pipeline = Pipeline("figures", TICKS, key=("who",), window=ticks, aggregates=numbers)
    panes: Panes = {at: {(str(n),): [1, 1] for n in range(1_000)} for at in range(200)}
    board, rows, steps = Board(pipeline), list[WindowRow](), 0
    board.merge(panes)
    while board.watermark_us != 500:
        made = board.close(board.step(500, 2_000))
        assert len(made) <= 2_000
        rows += made
        steps += 1
    assert (200_000, 101) == (len(rows), steps)
    assert rows == sorted(rows, key=row_order)
    board.merge({500: {(str(n),): [1, 1] for n in range(5_000)}})
    assert 501 == board.step(600, 2_000)  # what ends together closes together


def test_joined_sessions() -> None:
    """A late record that joins two closed sessions takes both back, and shows the one they are."""
    desk = Desk(pipeline_of(Session(10 * US), lateness_us=100))
    desk.add([Tick(0, "a", 0), Tick(15, "a", 1)], {})
    desk.close(30)
    desk.add([Tick(8, "a", 2)], {})
    rows = desk.board.close(30)
    assert [
        (0, 10, 2, True, []),
        (15, 25, 2, True, []),
        (0, 25, 1, False, [0, 1, 2]),
    ] == [
        (row.start_us, row.end_us, row.revision, row.is_retracted, row.values.get("numbers", []))
        for row in rows
    ]


def test_session_opened_again() -> None:
    """A closed session that a late record makes longer is open again, if its end is to come."""
    desk = Desk(pipeline_of(Session(10 * US), lateness_us=100))
    desk.add([Tick(0, "a", 0)], {})
    desk.close(12)
    desk.add([Tick(9, "a", 1)], {})
    assert [(0, 10, True)] == [
        (one.start_us, one.end_us, one.is_retracted) for one in desk.board.close(12)
    ]
    assert [(0, 19, 2)] == [(one.start_us, one.end_us, one.rows) for one in desk.board.open_rows()]
    assert [(0, 19, 1)] == [
        (one.start_us, one.end_us, one.revision) for one in desk.board.close(19)
    ]


def test_open_rows_of_a_key_and_time() -> None:
    """Open windows can be asked for by key, and by the time that they are to touch."""
    pipeline = pipeline_of(Hopping(10 * US, 5 * US))
    board = Board(pipeline)
    board.merge(delta_of(pipeline, [Tick(7, "a", 0), Tick(12, "b", 1)], {}))
    assert [(0, "a"), (5, "a"), (5, "b"), (10, "b")] == [
        (row.start_us, *row.key) for row in board.open_rows()
    ]
    assert [0, 5] == [row.start_us for row in board.open_rows(("a",))]
    assert [10] == [row.start_us for row in board.open_rows(from_us=15)]
    assert [0] == [row.start_us for row in board.open_rows(to_us=5)]


def test_watermark_does_not_go_back() -> None:
    """A watermark before the last one counts as the last one."""
    board = Board(pipeline_of(Tumbling(10 * US), lateness_us=3))
    assert (board.watermark_us, board.horizon_us) == (None, None)
    board.close(50)
    board.close(20)
    assert (board.watermark_us, board.horizon_us) == (50, 47)


def test_chunk_needed_again() -> None:
    """A chunk of which something came after all else was done is not done."""
    chunks = Chunks()
    chunks.hold(1)
    chunks.release(1)
    chunks.hold(1)
    assert chunks.take_done() == []
    chunks.release(1)
    chunks.pass_by(2)
    assert chunks.take_done() == [1, 2]
    assert chunks.take_done() == []
