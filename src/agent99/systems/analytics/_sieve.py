"""Finds the records of a batch that no pipeline can take, so that the others count. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from agent99.errors import BadRequestError, UsageError
from agent99.systems.analytics._columns import only_rows
from agent99.systems.analytics._fold import fold
from agent99.systems.analytics._windows import CountOf

if TYPE_CHECKING:
    from agent99.systems.analytics._columns import ColumnBatch
    from agent99.systems.analytics._delta import Key
    from agent99.systems.analytics._pipeline import Pipeline

REFUSALS: Final = (BadRequestError, UsageError)
"""What a pipeline raises for records that it cannot take."""


class Sieved(NamedTuple):
    """A batch in two."""

    fit: ColumnBatch
    unfit: ColumnBatch
    """What some pipeline cannot take: a batch that has not come before."""


def sieve(batch: ColumnBatch, pipelines: Sequence[Pipeline]) -> Sieved | None:
    """Part the records that all pipelines can take from those that one cannot.

    A record is looked at by itself, as if it were on time. Halves are tried, and halves of those
    that fail: few records are at fault, as a rule.

    Returns:
        None where that does not help: none is unfit by itself, or all are.
    """
    unfit = _unfit(batch.columns, range(batch.rows), pipelines)
    if not 0 < len(unfit) < batch.rows:
        return None
    left_out = set(unfit)
    fit = [row for row in range(batch.rows) if row not in left_out]
    left = msgspec.structs.replace(_only(batch, unfit), is_final=False, known_as="")
    return Sieved(_only(batch, fit), left)


def _unfit(
    columns: Mapping[str, Sequence[Any]], rows: Sequence[int], pipelines: Sequence[Pipeline]
) -> list[int]:
    if not _fails(columns, rows, pipelines):
        return []
    if len(rows) == 1:
        return list(rows)
    middle = len(rows) // 2
    halves = (rows[:middle], rows[middle:])
    return [row for half in halves for row in _unfit(columns, half, pipelines)]


def _fails(
    columns: Mapping[str, Sequence[Any]], rows: Sequence[int], pipelines: Sequence[Pipeline]
) -> bool:
    some = only_rows(columns, rows)
    for pipeline in pipelines:
        ordinals: dict[Key, int] | None = {} if isinstance(pipeline.window, CountOf) else None
        try:
            fold(pipeline, some, len(rows), max_us=None, horizon_us=None, ordinals=ordinals)
        except REFUSALS:
            return True
    return False


def _only(batch: ColumnBatch, rows: Sequence[int]) -> ColumnBatch:
    columns = only_rows(batch.columns, rows)
    return msgspec.structs.replace(batch, columns=columns, rows=len(rows), origins=())
