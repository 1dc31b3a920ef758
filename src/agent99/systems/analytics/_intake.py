"""What comes in for a source: read, checked as a whole, and parted by shard. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from agent99.systems.analytics._columns import (
    Columns,
    columns_read,
    records_decoder,
    refusal,
    split_by_shard,
)
from agent99.systems.analytics._source import Source


class Datum(msgspec.Struct, frozen=True):
    """Any JSON object, for agents that have no type for it."""

    ingested_us: int
    """When it came, microseconds since the epoch, UTC."""
    data: str
    """It, as JSON text."""


_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode

DATA = Source("data", Datum, time="ingested_us", delay_s=60.0)
"""The source of agents that are given none: whatever JSON it is, at the moment at which it came."""


class Taken(msgspec.Struct, frozen=True):
    """Records that are as they should be."""

    records: list[Any]
    columns: Columns
    """The same."""
    is_array: bool

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.records)


class Intake:
    """Reads what is sent for one source."""

    def __init__(self, source: Source[Any], records_max: int) -> None:
        self.source = source
        self._records_max = records_max
        self._decode = records_decoder(source) if source is not DATA else None

    def __repr__(self) -> str:
        return f"Intake({self.source!r})"

    def read(self, data: bytes, now_us: int) -> Taken:
        """Return the records that a JSON object, or an array of objects, stands for.

        Raises:
            BadRequestError: one of them is none, has a field that there is not, or a time that is
                before 1970 or too far in the future; or they are none, or too many. Names row,
                field and rule.
        """
        is_array = data.lstrip()[:1] == b"["
        if self._decode is None:
            records = _data(data, now_us, is_array=is_array)
        else:
            records = self._decode(data)
        if not records:
            raise refusal("$", "an empty array; at least one record")
        if len(records) > self._records_max:
            rule = f"{len(records):,} records; at most {self._records_max:,} in one array"
            raise refusal("$", rule)
        columns = columns_read(self.source, records)
        check_times(self.source, columns[self.source.time], now_us, is_array=is_array)
        return Taken(records, columns, is_array)

    def part(self, taken: Taken, shard: int | None) -> list[tuple[int, Columns]]:
        """Return the columns of each shard; without a field to part by, all are in one.

        Raises:
            BadRequestError: there is no such shard, or a field says which.
        """
        source = self.source
        if source.shard_by:
            if shard is not None:
                raise refusal("$.shard", f"the field {source.shard_by!r} says in which shard")
            return split_by_shard(source, taken.columns)
        chosen = 0 if shard is None else shard
        self.check_shard(chosen)
        return [(chosen, taken.columns)]

    def check_shard(self, shard: int) -> None:
        """Refuse a shard that the source does not have.

        Raises:
            BadRequestError
        """
        if not 0 <= shard < self.source.shards:
            rule = f"{self.source} has no shard {shard}; 0 to {self.source.shards - 1}"
            raise refusal("$.shard", rule)


def check_times(
    source: Source[Any], times: list[int], now_us: int, *, is_array: bool = True
) -> None:
    """Refuse records of before 1970, and those that are too far in the future.

    Raises:
        BadRequestError: names the worst one's row, and the rule.
    """
    latest_us = now_us + source.ahead_us_max
    worst, least = max(times, default=0), min(times, default=0)
    if worst <= latest_us and least >= 0:
        return
    if worst > latest_us:
        ahead_s, ahead_s_max = (worst - now_us) / 1e6, source.ahead_us_max / 1e6
        rule = f"{ahead_s:,.0f} s in the future; at most {ahead_s_max:,.0f} s"
    else:
        worst, rule = least, "before 1970"
    row = f"[{times.index(worst)}]" if is_array else ""
    raise refusal(f"${row}.{source.time}", rule)


def _data(data: bytes, now_us: int, *, is_array: bool) -> list[Datum]:
    """Return whatever JSON it is, an array's elements each."""
    several = _decode_array(data) if is_array else [data]
    return [Datum(now_us, bytes(each).decode()) for each in several]
