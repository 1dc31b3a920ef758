"""Compares what two versions of a job say of the windows that both have closed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent99.systems.analytics._board_cells import NEVER_US
from agent99.systems.analytics._closed_rows import encode_json
from agent99.systems.analytics._pages import PAGE_BYTES_MAX, cut
from agent99.systems.analytics._query import ROW_COLUMNS, behind, find, row_of
from agent99.systems.analytics._questions import Comparison, Difference, RowsQuery
from agent99.systems.analytics._watermark import FOREVER_US
from agent99.systems.analytics._windows import CountOf

if TYPE_CHECKING:
    from agent99.store import Transaction
    from agent99.systems.analytics._questions import CompareQuery

_PAGE: Final = 1_000
ROW_BYTES_MAX: Final = PAGE_BYTES_MAX // 4
"""Of a difference that is shown."""
_SAME_WINDOW: Final = (
    "b.reader = :other AND b.pipeline = a.pipeline AND b.end_us = a.end_us"
    " AND b.start_us = a.start_us AND b.key = a.key AND b.number = a.number"
    " AND b.is_retracted = 0"
)
_STANDING: Final = (
    " WHERE a.reader = :reader AND a.pipeline = :pipeline AND a.end_us <= :until_us"
    " AND a.is_retracted = 0"
)
_OF_BOTH: Final = f" FROM analytics_row a JOIN analytics_row b ON {_SAME_WINDOW}{_STANDING}"
_COUNT_EQUAL: Final = (
    "SELECT count(*)" + _OF_BOTH + " AND a.records = b.records AND a.figures = b.figures"
)
_COUNT_ALONE: Final = "".join(
    (
        *("SELECT count(*) FROM analytics_row a", _STANDING),
        *(" AND NOT EXISTS (SELECT 1 FROM analytics_row b WHERE ", _SAME_WINDOW, ")"),
    )
)
_READ_UNLIKE: Final = "".join(
    (
        "SELECT " + ", ".join(f"{table}.{column}" for table in "ab" for column in ROW_COLUMNS),
        _OF_BOTH + " AND (a.records <> b.records OR a.figures <> b.figures)",
        " AND (a.end_us, a.start_us, a.key, a.number) > (:end_us, :start_us, :key, :number)",
        " ORDER BY a.end_us, a.start_us, a.key, a.number LIMIT :limit",
    )
)
_READ_DEFINITION: Final = "SELECT definition FROM analytics_version WHERE reader = :reader"


def compare(transaction: Transaction, mesh: str, job: str, query: CompareQuery) -> Comparison:
    """Compare two versions of a pipeline, window by window.

    Args:
        job: That is meant where the question names none.

    Raises:
        Failure: the database does not know one of them (`UNKNOWN_JOB`).
        as `Transaction.execute`.
    """
    name = query.job or job
    old, new = (
        find(transaction, mesh, name, RowsQuery(pipeline=query.pipeline, version=version))
        for version in (query.old, query.new)
    )
    readers = old.reader, new.reader
    if all(_is_by_count(transaction, reader, query.pipeline) for reader in readers):
        closed_us, until_us = None, query.until_us
    else:
        at = (old.watermark_us, new.watermark_us)
        closed_us = min(NEVER_US if one is None else one for one in at)
        until_us = closed_us if query.until_us is None else min(closed_us, query.until_us)
    values = {
        "reader": old.reader,
        "other": new.reader,
        "pipeline": query.pipeline,
        "until_us": FOREVER_US if until_us is None else until_us,
    }
    turned = values | {"reader": new.reader, "other": old.reader}
    equal = _count(transaction, _COUNT_EQUAL, values)
    different, shown, room = 0, list[Difference](), PAGE_BYTES_MAX
    for one in _unlike(transaction, values):
        if _agree(one):
            equal += 1
            continue
        different += 1
        if different <= query.limit and room > 0:
            shown.append(fitting := _fitting(one))
            room -= len(encode_json(fitting))
    return Comparison(
        job=name,
        pipeline=query.pipeline,
        old=query.old,
        new=query.new,
        until_us=None if until_us == NEVER_US else until_us,
        equal=equal,
        different=different,
        only_old=_count(transaction, _COUNT_ALONE, values),
        only_new=_count(transaction, _COUNT_ALONE, turned),
        differences=shown,
    )


def _count(transaction: Transaction, statement: str, values: dict[str, Any]) -> int:
    return int(transaction.execute(statement, values).scalar() or 0)


def _unlike(transaction: Transaction, values: dict[str, Any]) -> Iterator[Difference]:
    """Yield the windows of which the two rows are not written alike, some at a time."""
    width = len(ROW_COLUMNS)
    after = behind((NEVER_US, NEVER_US, "", 0))
    while True:
        found = transaction.tuples(_READ_UNLIKE, values | after | {"limit": _PAGE})
        for row in found:
            pipeline = values["pipeline"]
            yield Difference(row_of(pipeline, row[:width]), row_of(pipeline, row[width:]))
        if len(found) < _PAGE:
            return
        after = behind(found[-1])


def _agree(one: Difference) -> bool:
    """Tell whether two rows say the same with the figures that both have."""
    old, new = one.old.values, one.new.values
    return one.old.rows == one.new.rows and all(
        old[name] == new[name] for name in old.keys() & new.keys()
    )


def _fitting(one: Difference) -> Difference:
    """Return a difference as it is shown: without values that would fill an answer."""
    rows = (
        cut(row) if len(encode_json(row)) > ROW_BYTES_MAX else row for row in (one.old, one.new)
    )
    return Difference(*rows)


def _is_by_count(transaction: Transaction, reader: str, pipeline: str) -> bool:
    definition = transaction.execute(_READ_DEFINITION, {"reader": reader}).one().definition
    return any(
        one["name"] == pipeline and one["window"]["type"] == CountOf.__name__
        for one in msgspec.json.decode(definition)
    )
