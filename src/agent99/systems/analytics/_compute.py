"""Columns that a pipeline computes, and which records it takes. Pure.

What a user's function does wrong is named: the pipeline, the column, the row. A row is the number
of a record in its batch, from 0 on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import compress
from math import isfinite
from types import NoneType
from typing import Any, Final, NamedTuple

from agent99.errors import UsageError, text_of
from agent99.systems.analytics._bounds import INT_MAX, INT_MIN
from agent99.systems.analytics._columns import floats_of, refusal
from agent99.systems.analytics._pipeline import Computed, Pipeline

Table = Mapping[str, Sequence[Any]]
"""Columns by name, those of the records and the computed ones."""

_COMPUTED_KINDS: Final = frozenset({int, float, str, bool})


class Plan(NamedTuple):
    """In which order columns are computed: nothing is of records that are left out, if possible."""

    first: tuple[Computed, ...]
    """What the condition needs: of all records."""
    then: tuple[Computed, ...]
    """The others: of the records that are taken."""
    wanted: tuple[str, ...]
    """The columns that are needed when the condition is known, the others not yet computed."""
    inputs: tuple[str, ...]
    """The columns that the measures are given."""


@lru_cache(1_024)
def plan_of(pipeline: Pipeline) -> Plan:
    """Return in which order a pipeline's columns are computed."""
    needed = set(pipeline.condition.parameters if pipeline.condition else ())
    for computed in reversed(pipeline.computes):
        if computed.name in needed:
            needed.update(computed.parameters)
    first = tuple(one for one in pipeline.computes if one.name in needed)
    then = tuple(one for one in pipeline.computes if one.name not in needed)
    inputs = {column for measure in pipeline.measures for column in measure.columns}
    used = {pipeline.source.time, *pipeline.key, *inputs}.union(*(one.parameters for one in then))
    late = {one.name for one in then}
    return Plan(first, then, tuple(sorted(used - late)), tuple(sorted(inputs)))


def taken_rows(pipeline: Pipeline, table: dict[str, Sequence[Any]], rows: int) -> Sequence[int]:
    """Return the rows that the condition takes; adds to the table what it is computed from.

    Raises:
        BadRequestError, UsageError: as `add_columns`.
    """
    every = range(rows)
    add_columns(pipeline, plan_of(pipeline).first, table, every)
    if pipeline.condition is None:
        return every
    return list(compress(every, _made(pipeline, pipeline.condition, table, every)))


def add_columns(
    pipeline: Pipeline,
    computes: Sequence[Computed],
    table: dict[str, Sequence[Any]],
    rows: Sequence[int],
) -> None:
    """Add computed columns to a table of some rows of a batch.

    Raises:
        BadRequestError: a function raised, or returned a float that is no number, or a key
            of over 64 bits; names the pipeline, the column and the row.
        UsageError: it returned what no column holds, or a type that a figure cannot take.
    """
    for computed in computes:
        made = _made(pipeline, computed, table, rows)
        kinds = set(map(type, made)) - {NoneType}
        if float in kinds:  # also `total / count if count else 0` is meant as one
            made = floats_of(made)
            kinds = set(map(type, made)) - {NoneType}
        named = f"pipeline {pipeline.name!r}: {computed.name!r}"
        if len(kinds) > 1 or not kinds <= _COMPUTED_KINDS:
            found = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise UsageError(f"{named} is of {found}; of int, float, str or bool, and of one type")
        for kind in kinds:
            try:
                pipeline.check_kind(computed.name, kind)
            except UsageError as error:
                raise UsageError(f"pipeline {pipeline.name!r}: {error}") from None
        if kinds == {float} and not all(isfinite(one) for one in made if one is not None):
            row = next(n for n, one in zip(rows, made, strict=True) if not _is_number(one))
            raise refusal(f"$[{row}].{computed.name}", f"{named} is no number")
        if kinds == {int} and computed.name in pipeline.key:
            _check_int64(computed.name, made, rows, named)
        table[computed.name] = made


def _made(pipeline: Pipeline, computed: Computed, table: Table, rows: Sequence[int]) -> list[Any]:
    given = [table[name] for name in computed.parameters]
    try:
        if not given:
            return [computed.compute() for _ in rows]
        return list(map(computed.compute, *given))
    except Exception as error:  # a function of the user's may raise anything
        row = _failing(computed, given, rows)
        why = f"{type(error).__name__}: {text_of(error)}"
        rule = f"pipeline {pipeline.name!r}: {computed.name!r} raised {why}"
        raise refusal(f"$[{row}].{computed.name}", rule) from error


def _failing(computed: Computed, given: Sequence[Sequence[Any]], rows: Sequence[int]) -> int:
    """Return the row at which a function fails: it is called again, so that others cost nothing."""
    for row, values in zip(rows, zip(*given, strict=True), strict=False):
        try:
            computed.compute(*values)
        except Exception:  # noqa: BLE001 - which is what is looked for
            return row
    return rows[0]  # it has no parameters, or does not fail twice


def _check_int64(name: str, made: Sequence[Any], rows: Sequence[int], named: str) -> None:
    """Refuse what is no key in a database; no field may be that either."""
    numbers = [one for one in made if one is not None]
    if min(numbers) < INT_MIN or max(numbers) > INT_MAX:
        row = next(
            n
            for n, one in zip(rows, made, strict=True)
            if one is not None and not INT_MIN <= one <= INT_MAX
        )
        raise refusal(f"$[{row}].{name}", f"{named} has over 64 bits")


def _is_number(value: float | None) -> bool:
    return value is None or isfinite(value)
