"""A board whose horizon lags, as it does where others fold: they have to hear of it first."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.systems.analytics._board import Board
from agent99.systems.analytics._board_cells import NEVER_US
from agent99.systems.analytics._delta import Panes
from agent99.systems.analytics._pipeline import Pipeline
from agent99.systems.analytics._windows import CountOf

from ._by_definition import Tick, delta_of, name_of
from .test_board import WINDOWS, Desk, Step, pipeline_of, run, steps


class LaggingDesk(Desk):
    """A desk at which records are taken by the horizon of the closing before."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(pipeline)
        self.told_us = NEVER_US
        """The horizon that those who fold know of."""
        self.forgotten_us = NEVER_US
        self.waiting: list[Panes] = []
        """Stored, and not merged yet."""

    def add(self, ticks: Iterable[Tick], ordinals: dict[int, int]) -> None:
        """Store those records that are not too late, as far as one knows."""
        is_timeless = isinstance(self.pipeline.window, CountOf)
        fit = [tick for tick in ticks if is_timeless or tick.at_us >= self.told_us]
        self.taken += fit
        self.waiting.append(delta_of(self.pipeline, fit, ordinals))

    def close(self, watermark_us: int) -> None:
        """Merge what is stored, close by it, and only then tell of the horizon."""
        for panes in self.waiting:
            self._store(panes)
            self.board.merge(panes)
        self.waiting = []
        self.forgotten_us = self.told_us
        for row in self.board.close(watermark_us, horizon_us=self.told_us):
            before = self.latest.get(name_of(row))
            assert row.revision == (before.revision if before else 0) + 1
            self.latest[name_of(row)] = row
        assert self.board.watermark_us is not None
        self.told_us = self.board.watermark_us - self.pipeline.lateness_us

    def again(self) -> Board:
        """Return a board that is made of what was merged when windows were closed last."""
        board, watermark_us = Board(self.pipeline), self.board.watermark_us
        for _, panes in self.stored:
            board.merge(deepcopy(panes))
        if watermark_us is not None:
            shown = [row for row in self.latest.values() if row.end_us > self.forgotten_us]
            board.settle(watermark_us, shown, horizon_us=self.forgotten_us)
        return board

    def reload(self) -> None:
        """Go on with another board, which merges what waits as this one would have."""
        if self.board.watermark_us is not None:
            self.board = self.again()


@pytest.mark.parametrize("kind", WINDOWS)
@given(st.data(), st.integers(0, 8), steps)
def test_what_is_taken_is_in_its_windows(
    kind: str, data: st.DataObject, lateness_us: int, program: list[Step]
) -> None:
    """Records that were taken before one heard of a horizon are in all windows that they are of."""
    window = data.draw(WINDOWS[kind])
    run(LaggingDesk(pipeline_of(window, lateness_us)), program)
