"""Closes the windows of one pipeline: merges deltas, and writes rows as the watermark passes.

All that it remembers can be made again from the database. So where a transaction fails, or its
outcome is unknown, it forgets everything and reads it anew: what it had shown is shown as it was.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from agent99.clock import wait_done
from agent99.errors import Agent99Error, LeaseLostError
from agent99.systems.analytics._board import Board
from agent99.systems.analytics._board_cells import NEVER_US
from agent99.systems.analytics._closed_rows import (
    Closing,
    Delta,
    News,
    Place,
    State,
    Turn,
    read_news,
    read_settled,
    read_state,
    write_turn,
)
from agent99.systems.analytics._results import SHOWN_ROWS_MAX, Turned
from agent99.systems.analytics._slices import make, merge
from agent99.systems.analytics._stock import Stock
from agent99.systems.analytics._watermark import Watermark

if TYPE_CHECKING:
    from agent99.systems.analytics._backlogs import Backlogs
    from agent99.systems.analytics._delta import Key, WindowRow
    from agent99.systems.analytics._ground import Ground
    from agent99.systems.analytics._pipeline import Pipeline

LOOK_S: Final = 0.25
"""Between two looks while nobody says that something was folded."""
TURN_S: Final = 0.05
"""Between two turns at least: what was folded meanwhile is merged at once."""
NOTE_S: Final = 1.0
"""Seconds after which it is noted how far it is, also where no window has closed."""
AGAIN_S: Final = 1.0
"""Before the next try where the database, or the server, is away."""
WRITTEN_ROWS: Final = 2_000
"""After so many no further window is closed in the same turn: while rows are written nobody else
can write. A turn takes them up to an end, so the windows that end together are written together."""

_log = logging.getLogger("agent99.systems.analytics")


class Closer:
    """Closes the windows of one pipeline, for as long as this processor holds the lease.

    Invariant: what it has shown is what the board was when it last closed windows: all deltas up to
    the cursors, at the watermark.

    Args:
        ground: What it stands on.
        pipeline: Whose windows.
        epoch: Of the lease.
        backlogs: Who knows whether a silent shard is idle.
    """

    def __init__(self, ground: Ground, pipeline: Pipeline, epoch: int, backlogs: Backlogs) -> None:
        self._ground: Final = ground
        self._closing: Final = Closing(ground.job, pipeline, ground.reader, epoch)
        self._backlogs: Final = backlogs
        self._bell: Final = asyncio.Event()
        self._stock = Stock(self._closing)
        self._places: dict[int, Place] = {}
        self._written: State | None = None
        """As it stands in the database; None: nothing is loaded."""
        self._written_s = 0.0
        self._is_whole = False
        """Whether all that there was has been merged, at some moment since it was loaded."""
        self._is_closing = False
        """Whether rows are made: their windows are open no more, and not all are in `_writing`."""
        self._writing: list[WindowRow] = []
        """Rows of windows that are closed on the board, and not yet in the database."""
        self._watermark = Watermark(pipeline.source)
        self.board = Board(pipeline)
        """What has been merged; to be read while `is_ready`."""
        self.watermark_us: int | None = None
        """Up to where windows have been closed."""

    def __repr__(self) -> str:
        which = self._closing
        return f"Closer({which.pipeline.name!r}, epoch={which.epoch}, at={self.watermark_us})"

    @property
    def epoch(self) -> int:
        """Of the lease."""
        return self._closing.epoch

    @property
    def is_ready(self) -> bool:
        """Whether the board has what there is, at this moment."""
        return self._written is not None and self._is_whole and not self._is_closing

    def open_rows(self, key: Key | None, from_us: int | None, to_us: int | None) -> list[WindowRow]:
        """Return what windows say that are open; see `Board.open_rows`.

        One that closes at this moment is open until its row is in the database: who would write it
        instead, if this one died, might have merged more.
        """
        closing = [
            msgspec.structs.replace(row, state="open", revision=0)
            for row in self._writing
            if row.revision == 1
            and not row.is_retracted
            and (key is None or row.key == key)
            and (from_us is None or row.end_us > from_us)
            and (to_us is None or row.start_us < to_us)
        ]
        return closing + self.board.open_rows(key, from_us=from_us, to_us=to_us)

    def wake(self) -> None:
        """Look soon: something was folded."""
        self._bell.set()

    async def run(self) -> None:
        """Close windows until the lease is lost, or this is cancelled."""
        while True:
            self._bell.clear()
            pause_s = LOOK_S
            try:
                if self._written is None:
                    await self._load()
                pause_s = await self._turn()
            except LeaseLostError as error:
                _log.warning("%r: %s", self, error)
                return
            except Agent99Error as error:
                _log.warning("%r begins anew: %s", self, error)
                self._written = None
                await self._ground.clock.sleep(AGAIN_S)
            except BaseException:
                self._written = None
                raise
            await self._ground.clock.sleep(min(TURN_S, pause_s))
            if pause_s:
                bell = asyncio.ensure_future(self._bell.wait())
                try:
                    await wait_done(self._ground.clock, bell, pause_s)
                finally:
                    bell.cancel()

    # --- from the database ------------------------------------------------------------------------

    async def _load(self) -> None:
        """Make the board that the closer before had when it last wrote.

        Raises:
            LeaseLostError, StoreError or one of its kinds.
        """
        closing, store = self._closing, self._ground.store
        state, changed = await store.transaction(partial(read_state, closing=closing))
        self.board = board = Board(closing.pipeline)
        self._stock = Stock(closing)
        self._places = {}
        self._is_whole = is_whole = False
        while not is_whole:
            read = partial(read_settled, closing=closing, after=self._places, upto=state.cursors)
            deltas, places, is_whole = await store.read(read)
            await self._merge(deltas)
            self._places |= places
        await self._close(state.watermark_us, state.forgotten_us)  # these were shown
        board.recall(changed)
        self._watermark = Watermark(closing.pipeline.source, state.watermark_us)
        self.watermark_us = state.watermark_us
        self._written = state

    async def _merge(self, deltas: list[Delta]) -> None:
        for delta in deltas:
            self._stock.add(delta)
        await merge(self.board, deltas)

    async def _close(self, watermark_us: int | None, horizon_us: int | None) -> list[WindowRow]:
        at_us, forgotten_us = _or_never(watermark_us), _or_never(horizon_us)
        self._is_closing = True
        try:
            return await make(self.board.closing(at_us, horizon_us=forgotten_us))
        finally:
            self._is_closing = False

    # --- one turn ---------------------------------------------------------------------------------

    async def _turn(self) -> float:
        """Merge what is new, close what can be closed; returns for how long to wait.

        Where much can be, it closes windows up to an earlier watermark, and the next turn goes on:
        each leaves in the database what a closer would have that knows of no later one.

        Raises:
            LeaseLostError, StoreError or one of its kinds.
        """
        closing, written = self._closing, self._written
        lateness_us = closing.pipeline.lateness_us
        assert written is not None
        here_us = self._ground.clock.wall_us()
        read = partial(read_news, closing=closing, places=self._places, here_us=here_us)
        news: News = await self._ground.store.read(read)
        await self._merge(news.deltas)
        self._places |= news.places
        if not news.is_whole:
            return 0.0
        self._is_whole = True
        goal_us = await self._watermark_of(news)
        watermark_us = None if goal_us is None else self.board.step(goal_us, WRITTEN_ROWS)
        # What was folded before the horizon was written is merged by now, and nothing more comes.
        horizon_us = written.horizon_us
        rows = await self._close(watermark_us, horizon_us)
        if self.board.unwanted_rows:
            _log.error("%r: %d records are in no window", self, self.board.unwanted_rows)
            self.board.unwanted_rows = 0
        self._stock.finish(self.board.done_chunks())
        state = State(
            turn=written.turn + bool(rows),
            watermark_us=watermark_us,
            horizon_us=None if watermark_us is None else watermark_us - lateness_us,
            forgotten_us=horizon_us,
            cursors=news.positions,
        )
        now_s = self._ground.clock.monotonic_s()
        is_due = now_s - self._written_s >= NOTE_S
        if rows or (is_due and state != written):
            await self._write(state, rows)
            self._written_s, written = now_s, state
        # Also behind rows: where windows close all the time there is no turn without.
        await self._stock.compact(self._ground.store, written.cursors)
        self.watermark_us = watermark_us
        return LOOK_S if watermark_us == goal_us else 0.0

    async def _watermark_of(self, news: News) -> int | None:
        source, now_us = self._closing.pipeline.source, news.now_us
        seen = {one.shard: one for one in news.shards}
        silent = [
            shard
            for shard in range(source.shards)
            if shard not in seen
            or (not seen[shard].is_final and now_us - seen[shard].seen_us >= source.idle_us)
        ]
        behind = await self._backlogs.behind(source, silent, news.positions)
        for shard, max_us, seen_us, is_final in news.shards:
            self._watermark.note(shard, max_us, seen_us, is_final=is_final)
        for shard in behind:
            self._watermark.note(shard, None, now_us)
        return self._watermark.at(now_us)

    async def _write(self, state: State, rows: list[WindowRow]) -> None:
        done = self._stock.done()
        self._writing = rows
        try:
            await self._ground.store.transaction(
                partial(write_turn, closing=self._closing, turn=Turn(state, rows, done))
            )
        finally:
            self._writing = []
        self._stock.forget(done)
        self._written = state
        if rows:
            shown = rows if len(rows) <= SHOWN_ROWS_MAX else None
            hint = Turned(turn=state.turn, watermark_us=state.watermark_us, rows=shown)
            topic = turned_topic(self._ground.group, self._closing.pipeline.name)
            await self._ground.tell(topic, hint)


def _or_never(time_us: int | None) -> int:
    """Return a watermark or a horizon; None, as it is at first: before every time."""
    return NEVER_US if time_us is None else time_us


def turned_topic(group: str, pipeline: str) -> str:
    """Return the topic of the hints that windows of a pipeline have closed, or changed."""
    return f"analytics.turned.{group}.{pipeline}"
