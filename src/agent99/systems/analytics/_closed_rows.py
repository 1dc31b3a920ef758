"""What a closer reads and writes: new deltas and marks, rows, and how far it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from agent99.systems.analytics._board_cells import Cells
from agent99.systems.analytics._delta import Panes, WindowRow, key_of, key_text
from agent99.systems.analytics._fold import pack_panes, unpack_panes
from agent99.systems.analytics._horizons import own_horizon
from agent99.systems.analytics._lease import check_epoch, hold
from agent99.systems.analytics._reached import (
    Cursors,
    Reached,
    decode_cursors,
    encode_cursors,
)
from agent99.systems.analytics._results import put_events
from agent99.systems.analytics._told import untold
from agent99.systems.analytics._wall import common_us

if TYPE_CHECKING:
    from agent99.store import Transaction
    from agent99.systems.analytics._pipeline import Job, Pipeline

DELTAS_MAX: Final = 500
"""Read at once."""
SETTLED_PART: Final = -1
"""The part of deltas that a closer has made one of several: they count as shown."""
_LAST_CHUNK: Final = 2**63 - 1

Place = tuple[int, int]
"""A sequence and a chunk: up to where the deltas of a part have been merged."""

_READ_MARKS: Final = (
    "SELECT shard, max_us, seen_us, is_final FROM analytics_mark"
    " WHERE reader = :reader AND source = :source"
)
_READ_STATE: Final = (
    "SELECT turn, watermark_us, horizon_us, forgotten_us, cursors FROM analytics_closer"
    " WHERE reader = :reader AND pipeline = :pipeline"
)
_READ_DELTAS: Final = (
    "SELECT sequence, chunk, states FROM analytics_delta"
    " WHERE reader = :reader AND pipeline = :pipeline AND part = :part"
    " AND (sequence, chunk) > (:sequence, :chunk) AND sequence <= :upto"
    " ORDER BY sequence, chunk LIMIT :count"
)
_READ_CHANGED: Final = (
    "SELECT start_us, end_us, key, number, revision FROM analytics_row"
    " WHERE reader = :reader AND pipeline = :pipeline AND end_us > :forgotten_us"
    " AND revision > 1 AND is_retracted = 0"
)
_SET_STATE: Final = (
    "UPDATE analytics_closer SET turn = :turn, watermark_us = :watermark_us,"
    " horizon_us = :horizon_us, forgotten_us = :forgotten_us, cursors = :cursors,"
    " row_count = row_count + :more_rows"
    " WHERE reader = :reader AND pipeline = :pipeline"
)
_SET_ROW: Final = (
    "INSERT INTO analytics_row (reader, pipeline, end_us, start_us, key, number, figures, records,"
    " revision, is_retracted, turn) VALUES (:reader, :pipeline, :end_us, :start_us, :key, :number,"
    " :figures, :records, :revision, :is_retracted, :turn)"
    " ON CONFLICT (reader, pipeline, end_us, start_us, key, number) DO UPDATE SET"
    " figures = excluded.figures, records = excluded.records, revision = excluded.revision,"
    " is_retracted = excluded.is_retracted, turn = excluded.turn"
)
_READ_ONE: Final = (
    "SELECT states FROM analytics_delta WHERE reader = :reader AND pipeline = :pipeline"
    " AND part = :part AND sequence = :sequence AND chunk = :chunk"
)
_DELETE: Final = (
    "DELETE FROM analytics_delta WHERE reader = :reader AND pipeline = :pipeline"
    " AND part = :part AND sequence = :sequence AND chunk = :chunk"
)
ADD_DELTA: Final = (
    "INSERT INTO analytics_delta (reader, pipeline, part, sequence, chunk, states)"
    " VALUES (:reader, :pipeline, :part, :sequence, :chunk, :states)"
)
encode_json = msgspec.json.Encoder().encode


class Closing(msgspec.Struct, frozen=True):
    """Whose windows are closed: a pipeline of a reader, by an owner of this epoch."""

    job: Job
    pipeline: Pipeline
    reader: str
    epoch: int

    @property
    def which(self) -> dict[str, Any]:
        """The values that every statement is given."""
        return {"reader": self.reader, "pipeline": self.pipeline.name}


class Delta(NamedTuple):
    """What one transaction has added to a chunk."""

    part: int
    sequence: int
    chunk: int
    size_bytes: int
    panes: Panes


class ShardState(NamedTuple):
    """How far a shard is, and when it was last seen."""

    shard: int
    max_us: int | None
    seen_us: int
    is_final: bool


class News(NamedTuple):
    """What is new since a closer has last looked: of one snapshot of the database."""

    deltas: list[Delta]
    places: dict[int, Place]
    """Of the parts that were read: up to where."""
    is_whole: bool
    """Whether these are all that there are."""
    shards: list[ShardState]
    positions: Cursors
    """By part of the log: up to where it has been folded."""
    now_us: int
    """When that was, by the clock by which shards are seen."""


class State(msgspec.Struct, frozen=True):
    """How far a closer was when it last wrote."""

    turn: int
    """Grows by 1 with each change of rows."""
    watermark_us: int | None
    horizon_us: int | None
    """Before it nothing more is folded."""
    forgotten_us: int | None
    """Windows that end at or before it have been forgotten."""
    cursors: Cursors


def read_state(transaction: Transaction, closing: Closing) -> tuple[State, list[WindowRow]]:
    """Return how far the closer before was, and the rows of windows that it has changed.

    Whatever an owner until now had under way has its effect by then, or none: so deltas can be read
    in several transactions, and none is moved from where one still is to read to where one has.

    Raises:
        LeaseLostError: another processor closes them by now.
        as `Transaction.execute`.
    """
    hold(transaction, closing.reader, closing.pipeline.name, closing.epoch)
    turn, watermark_us, horizon_us, forgotten_us, cursors = transaction.execute(
        _READ_STATE, closing.which
    ).one()
    state = State(turn, watermark_us, horizon_us, forgotten_us, decode_cursors(cursors))
    values = {"forgotten_us": -(2**63) if forgotten_us is None else forgotten_us}
    changed = [
        WindowRow(
            pipeline=closing.pipeline.name,
            start_us=row.start_us,
            end_us=row.end_us,
            key=key_of(row.key),
            values={},
            rows=0,
            state="closed",
            revision=row.revision,
            number=row.number,
        )
        for row in transaction.execute(_READ_CHANGED, closing.which | values)
    ]
    return state, changed


def read_settled(
    transaction: Transaction, closing: Closing, after: Mapping[int, Place], upto: Cursors
) -> tuple[list[Delta], dict[int, Place], bool]:
    """Return deltas that the closer before has merged, some at a time; and whether that is all."""
    wanted = {SETTLED_PART: _LAST_CHUNK, **upto}
    return _read_deltas(transaction, closing, after, wanted)


def read_news(
    transaction: Transaction, closing: Closing, places: Mapping[int, Place], here_us: int
) -> News:
    """Return what is new since the places.

    Args:
        here_us: By the wall clock of this machine.

    Raises:
        LeaseLostError: another processor closes them by now.
        as `Transaction.execute`.
    """
    from agent99.store import read_positions  # noqa: PLC0415 - loads SQLAlchemy

    check_epoch(transaction, closing.reader, closing.pipeline.name, closing.epoch)
    found = read_positions(transaction, closing.reader)
    positions = {part: position for part, (_, position) in found.items()}
    moved = {
        part: position
        for part, position in positions.items()
        if part not in places or places[part] < (position, _LAST_CHUNK)
    }
    deltas, read, is_whole = _read_deltas(transaction, closing, places, moved)
    values = {"reader": closing.reader, "source": closing.pipeline.source.name}
    shards = [
        ShardState(shard, max_us, seen_us, bool(is_final))
        for shard, max_us, seen_us, is_final in transaction.tuples(_READ_MARKS, values)
    ]
    now_us = common_us(transaction, here_us)
    return News(deltas, read, is_whole, shards, positions, now_us)


def _read_deltas(
    transaction: Transaction, closing: Closing, after: Mapping[int, Place], upto: Cursors
) -> tuple[list[Delta], dict[int, Place], bool]:
    """Return deltas of some parts, and up to where they go in each, until there are enough."""
    deltas: list[Delta] = []
    places: dict[int, Place] = {}
    for part, last in sorted(upto.items()):
        count = DELTAS_MAX - len(deltas)
        if count <= 0:
            return deltas, places, False
        sequence, chunk = after.get(part, (-1, _LAST_CHUNK))
        values = {"part": part, "sequence": sequence, "chunk": chunk, "upto": last, "count": count}
        rows = transaction.tuples(_READ_DELTAS, closing.which | values)
        deltas += [
            Delta(part, number, which, len(states), unpack_panes(closing.pipeline, bytes(states)))
            for number, which, states in rows
        ]
        places[part] = (last, _LAST_CHUNK) if len(rows) < count else tuple(rows[-1][:2])
        if len(rows) == count:
            return deltas, places, False
    return deltas, places, True


class Turn(msgspec.Struct, frozen=True):
    """What a closer writes at once."""

    state: State
    rows: Sequence[WindowRow]
    done: Iterable[tuple[int, int, int]]
    """Deltas that nobody needs: by part, sequence and chunk."""


def write_turn(transaction: Transaction, closing: Closing, turn: Turn) -> None:
    """Write rows, their events if this version is the current one, and how far the closer is.

    Delivery: each row once, in the order of the turns; none that the version before has told.

    Raises:
        LeaseLostError: another processor closes them by now.
        as `Transaction.execute`.
    """
    state = turn.state
    hold(transaction, closing.reader, closing.pipeline.name, closing.epoch)
    if turn.rows:
        transaction.execute(_SET_ROW, [_row(closing, state.turn, row) for row in turn.rows])
    # The lease is held, and who switches takes the locks of all leases, too: what is read here
    # stays so until this transaction has ended.
    reached = Reached(state.watermark_us, state.cursors)
    which = closing.pipeline, closing.reader
    rows = untold(transaction, *which, reached, state.turn, turn.rows)
    if rows:
        at = (state.turn, state.watermark_us)
        put_events(transaction, closing.job, closing.pipeline, at, rows)
    _delete(transaction, closing, turn.done)
    # Last: for as long nobody folds.
    own_horizon(transaction, closing.reader, closing.pipeline.name)
    values = {
        "turn": state.turn,
        "watermark_us": state.watermark_us,
        "horizon_us": state.horizon_us,
        "forgotten_us": state.forgotten_us,
        "cursors": encode_cursors(state.cursors),
        "more_rows": sum(map(_more, turn.rows)),
    }
    transaction.execute(_SET_STATE, closing.which | values)


def read_states(
    transaction: Transaction, closing: Closing, deltas: Sequence[tuple[int, int, int]]
) -> bytes:
    """Return the states of some deltas as those of one."""
    pipeline = closing.pipeline
    parts: list[Panes] = []
    for part, sequence, chunk in deltas:
        values = {"part": part, "sequence": sequence, "chunk": chunk}
        states = transaction.execute(_READ_ONE, closing.which | values).one().states
        parts.append(unpack_panes(pipeline, bytes(states)))
    return pack_panes(pipeline, Cells(pipeline).join(parts))


def compact(
    transaction: Transaction,
    closing: Closing,
    into: tuple[int, int, bytes],
    parts: Sequence[tuple[int, int, int]],
) -> None:
    """Put one delta in the place of several that have been merged and shown.

    Args:
        into: Its sequence, higher than that of those before; the chunk; the states.
        parts: What it is of: parts, sequences and chunks.

    Raises:
        LeaseLostError: another processor closes them by now.
        as `Transaction.execute`.
    """
    hold(transaction, closing.reader, closing.pipeline.name, closing.epoch)
    _delete(transaction, closing, parts)
    sequence, chunk, states = into
    values = {"part": SETTLED_PART, "sequence": sequence, "chunk": chunk, "states": states}
    transaction.execute(ADD_DELTA, closing.which | values)


def _delete(
    transaction: Transaction, closing: Closing, deltas: Iterable[tuple[int, int, int]]
) -> None:
    values = [
        closing.which | {"part": part, "sequence": sequence, "chunk": chunk}
        for part, sequence, chunk in deltas
    ]
    if values:
        transaction.execute(_DELETE, values)


def _more(row: WindowRow) -> int:
    """Return how many windows have a row more by this one."""
    return -1 if row.is_retracted else int(row.revision == 1)


def _row(closing: Closing, turn: int, row: WindowRow) -> dict[str, Any]:
    return {
        **closing.which,
        "end_us": row.end_us,
        "start_us": row.start_us,
        "key": key_text(row.key),
        "number": row.number,
        "figures": encode_json(row.values).decode(),
        "records": row.rows,
        "revision": row.revision,
        "is_retracted": int(row.is_retracted),
        "turn": turn,
    }
