"""Batches become deltas, which merge to the same state in whatever order they come. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from operator import itemgetter, le
from typing import Any, Final, NamedTuple

import msgspec

from agent99.errors import BadRequestError, UsageError
from agent99.systems.analytics._columns import refusal
from agent99.systems.analytics._compute import Table, add_columns, plan_of, taken_rows
from agent99.systems.analytics._delta import Cell, Counts, Key, Panes
from agent99.systems.analytics._grouping import Group, are_parted, groups_of
from agent99.systems.analytics._pipeline import Pipeline
from agent99.systems.analytics._windows import CountOf

KEY_BYTES_MAX: Final = 1_024
"""Of a key as JSON: what an index takes beside the other columns of a row."""
_encode_key = msgspec.json.Encoder().encode


class ShardMark(msgspec.Struct):
    """How far the records of a shard are."""

    max_us: int | None = None
    """The latest time in it so far; None: there is none."""


class Folded(NamedTuple):
    """What a batch adds to a pipeline."""

    panes: Panes
    counts: Counts
    dropped: list[int]
    """The rows that came too late, from 0 on: they are for the side stream."""
    earliest_us: int | None = None
    """The earliest time of those that were taken; None: there is none, or windows are by count, for
    which no time is too early."""


def fold(
    pipeline: Pipeline,
    columns: Table,
    rows: int,
    *,
    max_us: int | None,
    horizon_us: int | None,
    ordinals: dict[Key, int] | None,
) -> Folded:
    """Return what a batch of records of one shard adds to a pipeline.

    Records are taken in their order. One is **late** if it is before the watermark: the latest time
    in its shard so far, also of records that `where` leaves out, less the source's delay; or that
    of the source, if that is later, since it goes on without a shard that is idle. It is taken if
    it is late by at most the pipeline's lateness, and **dropped** otherwise. Of windows by count
    none is late.

    Args:
        pipeline: Whose windows, key and figures.
        columns: By the names of the source's fields, checked.
        rows: How many records there are.
        max_us: The latest time in the shard before them, microseconds. None: they are the first.
        horizon_us: The source's watermark less the pipeline's lateness: windows that end up to it
            are forgotten. None: there is none yet.
        ordinals: How many records each key had before them; those of the batch are added. Only
            windows by count need it.

    Raises:
        BadRequestError: a function of the pipeline raised, a value is none that it may be, or a key
            is too long; names the pipeline, the column and, if it is known, the row.
        UsageError: a computed column has a type that a figure cannot take.
    """
    counts = Counts(records=rows)
    if rows == 0:
        return Folded({}, counts, [])
    table: dict[str, Sequence[Any]] = dict(columns)
    taken = taken_rows(pipeline, table, rows)
    counts.skipped = rows - len(taken)
    times = columns[pipeline.source.time]
    in_order = all(map(le, times, islice(times, 1, None)))
    watermark_us = _watermark(pipeline, max_us, horizon_us)
    late, dropped = _behind(pipeline, times, watermark_us, in_order=in_order)
    if late or dropped:
        late, dropped = late.intersection(taken), dropped.intersection(taken)
    if dropped:
        taken = [row for row in taken if row not in dropped]
    counts.late, counts.dropped = len(late), len(dropped)
    counts.on_time = len(taken) - len(late)
    if not taken:
        return Folded({}, counts, sorted(dropped))
    plan, taken = plan_of(pipeline), _arranged(pipeline, times, taken, in_order=in_order)
    if not isinstance(taken, range):
        choose = _choice(taken)
        table = {name: choose(table[name]) for name in plan.wanted}
    add_columns(pipeline, plan.then, table, taken)
    panes = _panes(pipeline, table, len(taken), ordinals or {})
    if ordinals is not None:
        _count_on(ordinals, panes)
    return Folded(panes, counts, sorted(dropped), _earliest(pipeline, table))


def merge_cells(pipeline: Pipeline, cells: Iterable[Cell]) -> Cell:
    """Return the cell of the records of all; at least one, of which none is changed."""
    by_measure = zip(*cells, strict=True)
    return [
        measure.merge(states) for measure, states in zip(pipeline.measures, by_measure, strict=True)
    ]


def merge_panes(pipeline: Pipeline, into: Panes, other: Panes) -> None:
    """Add what records add to a pipeline to what others have added; `other` is not changed."""
    for pane, added in other.items():
        cells = into.setdefault(pane, {})
        for key, cell in added.items():
            known = cells.get(key)
            cells[key] = list(cell) if known is None else merge_cells(pipeline, (known, cell))


def _watermark(pipeline: Pipeline, max_us: int | None, horizon_us: int | None) -> int | None:
    """Return before which time no record is expected when a batch begins; None: there is none."""
    of_shard = None if max_us is None else max_us - pipeline.source.delay_us
    of_source = None if horizon_us is None else horizon_us + pipeline.lateness_us
    return max((one for one in (of_shard, of_source) if one is not None), default=None)


def _behind(
    pipeline: Pipeline, times: Sequence[int], watermark_us: int | None, *, in_order: bool
) -> tuple[set[int], set[int]]:
    """Return which rows are late, and which are too late."""
    late: set[int] = set()
    dropped: set[int] = set()
    delay_us, lateness_us = pipeline.source.delay_us, pipeline.lateness_us
    if watermark_us is None:
        watermark_us = times[0] - delay_us
    if isinstance(pipeline.window, CountOf) or (in_order and times[0] >= watermark_us):
        return late, dropped
    latest_us = watermark_us + delay_us
    for row, time in enumerate(times):
        if time > latest_us:
            latest_us, watermark_us = time, time - delay_us
        elif time < watermark_us:
            (late if time >= watermark_us - lateness_us else dropped).add(row)
    return late, dropped


def _arranged(
    pipeline: Pipeline, times: Sequence[int], taken: Sequence[int], *, in_order: bool
) -> Sequence[int]:
    """Return the rows that are taken, at least one, in an order in which they can be grouped."""
    window = pipeline.window
    if in_order or isinstance(window, CountOf):
        return taken
    of_taken = times if isinstance(taken, range) else _choice(taken)(times)
    return taken if are_parted(window, of_taken) else sorted(taken, key=times.__getitem__)


def _earliest(pipeline: Pipeline, table: Table) -> int | None:
    """Return the first time of a table; windows by count ask for none."""
    return None if isinstance(pipeline.window, CountOf) else min(table[pipeline.source.time])


def _count_on(ordinals: dict[Key, int], panes: Panes) -> None:
    for cells in panes.values():
        for key, cell in cells.items():
            ordinals[key] = ordinals.get(key, 0) + cell[0]


def _panes(pipeline: Pipeline, table: Table, rows: int, ordinals: Mapping[Key, int]) -> Panes:
    """Return the cells of all groups: by measure, not by group, since groups may be many."""
    groups = list(groups_of(pipeline, table, rows, ordinals))
    _check_keys(pipeline, groups)
    sizes = [len(places) for _, _, places in groups]
    choices = [_choice(places) for _, _, places in groups]
    chosen = {
        name: [choose(table[name]) for choose in choices] for name in plan_of(pipeline).inputs
    }
    try:
        states = [
            map(measure.fold, sizes, *[chosen[name] for name in measure.columns])
            for measure in pipeline.measures
        ]
        panes: Panes = {}
        for (pane, key, _), cell in zip(groups, zip(*states, strict=True), strict=True):
            panes.setdefault(pane, {})[key] = list(cell)
    except BadRequestError as error:
        raise refusal(error.path, f"pipeline {pipeline.name!r}: {error.rule}") from error
    return panes


def _check_keys(pipeline: Pipeline, groups: Iterable[Group]) -> None:
    """Refuse keys that an index of the database does not take."""
    for _, key, _ in groups:
        try:
            size = len(_encode_key(key))
        except UnicodeEncodeError as error:
            rule = f"pipeline {pipeline.name!r}: the key {key!r} is not UTF-8"
            raise refusal("$", rule) from error
        if size > KEY_BYTES_MAX:
            rule = f"a key of {size:,} bytes as JSON, {str(key)[:80]}…; at most {KEY_BYTES_MAX:,}"
            raise refusal("$", f"pipeline {pipeline.name!r}: {rule}")


def _choice(places: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Return what takes the values at some places, at least one, from a column."""
    if isinstance(places, range) or len(places) == 1:
        return itemgetter(slice(places[0], places[-1] + 1))
    return itemgetter(*places)


# --- as bytes -------------------------------------------------------------------------------------

_INTEGER: Final = 1
"""The MessagePack extension for an integer of more than 64 bits: its bytes, signed, big-endian."""
_Flat = tuple[list[int], list[tuple[Any, ...]], list[list[Any]]]
"""Panes and keys of all cells, and for each measure their states."""
_Packable = int | float | str | bytes | list["_Packable"] | dict[Any, "_Packable"] | None


def pack_panes(pipeline: Pipeline, panes: Panes) -> bytes:
    """Return panes as bytes: MessagePack, by columns.

    Raises:
        UsageError: a key or a state holds what MessagePack cannot carry; says what.
    """
    found = [(pane, key, cell) for pane, cells in panes.items() for key, cell in cells.items()]
    by_measure = zip(*[cell for _, _, cell in found], strict=True)
    states = [list(column) for column in by_measure] or [[] for _ in pipeline.measures]
    flat = ([pane for pane, _, _ in found], [key for _, key, _ in found], states)
    try:
        return _packed(flat)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(
            f"pipeline {pipeline.name!r}: its panes cannot be stored: {error}"
        ) from error


def unpack_panes(pipeline: Pipeline, blob: bytes) -> Panes:
    """Return the panes that were packed.

    Raises:
        BadRequestError: these are no panes of the pipeline; says why.
    """
    try:
        where, keys, states = _unpack(blob)
        panes: Panes = {}
        if len(states) != len(pipeline.measures):
            raise ValueError(f"{len(states)} measures, not {len(pipeline.measures)}")
        cells = zip(*states, strict=True) if where else ()
        for pane, key, cell in zip(where, keys, cells, strict=True):
            panes.setdefault(pane, {})[key] = list(cell)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise refusal("$", f"these are no panes of {pipeline.name!r}: {error}") from error
    return panes


def _packed(flat: _Flat) -> bytes:
    try:
        return _pack(flat)
    except OverflowError:  # seldom, so that looking for it each time would cost more
        where, keys, states = flat
        return _pack((where, keys, [_narrowed(column) for column in states]))


def _narrowed(state: _Packable) -> Any:
    """Return a state without integers that MessagePack itself lacks."""
    if isinstance(state, list):
        return [_narrowed(one) for one in state]
    if isinstance(state, dict):
        return {name: _narrowed(one) for name, one in state.items()}
    if isinstance(state, int) and not -(2**63) <= state < 2**64:
        size = state.bit_length() // 8 + 1
        return msgspec.msgpack.Ext(_INTEGER, state.to_bytes(size, signed=True))
    return state


def _extension(code: int, data: memoryview) -> int:
    if code != _INTEGER:
        raise ValueError(f"unknown extension {code}")
    return int.from_bytes(data, signed=True)


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Flat, ext_hook=_extension).decode
