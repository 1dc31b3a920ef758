"""A stream of records of one type: what they are, and which field is their time."""

from __future__ import annotations

from datetime import datetime
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from agent99.envelope import parse_name
from agent99.errors import UsageError
from agent99.systems.analytics._windows import SECOND_US

R = TypeVar("R", bound=msgspec.Struct)
SHARDS_MAX: Final = 64
SCALARS: Final = (int, float, str, bool, datetime)
"""What a field of a record may be; each may be None as well."""


class Source(Generic[R]):
    """A stream of records, known by its name to whoever sends and whoever reads.

        class Line(msgspec.Struct):
            sold_at: datetime
            country: str
            quantity: int
            price_pence: int

        LINES = Source("lines", Line, time="sold_at")

    The **watermark** of a shard is the latest time in it so far, less `delay_s`: no record before
    it is expected any more. That of the source is the earliest of its shards'.

    Args:
        name: By the grammar of names.
        kind: A Struct whose fields are int, float, str, bool, datetime, or one of these or None.
        time: The field that says when it happened: a datetime with a time zone, or an int of
            microseconds since the epoch, UTC; never None.
        delay_s: How far records may be out of order before they are late, seconds; 0 or more.
        idle_s: After so many seconds of the wall clock without a record a shard is not waited for
            any more; when all are idle, the watermark goes on with the wall clock. Above 0.
        ahead_s_max: A record so far beyond the wall clock is refused: one wrong clock would close
            every window. Seconds; 0 or more.
        shards: In how many parts it is stored, which as many processors can work on; 1 to 64.
        shard_by: The field whose value says in which shard a record is. Empty: any.

    Raises:
        UsageError, InvalidNameError: one of these is not so; says which.
    """

    def __init__(
        self,
        name: str,
        kind: type[R],
        *,
        time: str,
        delay_s: float = 2.0,
        idle_s: float = 5.0,
        ahead_s_max: float = 86_400.0,
        shards: int = 1,
        shard_by: str = "",
    ) -> None:
        self.name: Final = parse_name("source", name)
        self.kind: Final = kind
        self.fields: Final = _fields(kind)
        """By name: the scalar type, and whether it may be None."""
        self.time: Final = time
        self.delay_us: Final = round(delay_s * SECOND_US)
        self.idle_us: Final = round(idle_s * SECOND_US)
        self.ahead_us_max: Final = round(ahead_s_max * SECOND_US)
        self.shards: Final = shards
        self.shard_by: Final = shard_by
        if self.fields.get(time) not in ((datetime, False), (int, False)):
            raise UsageError(f"source {name!r}: its time {time!r} is no field of datetime or int")
        if shard_by and shard_by not in self.fields:
            raise UsageError(f"source {name!r}: {kind.__name__} has no field {shard_by!r}")
        if not 1 <= shards <= SHARDS_MAX:
            raise UsageError(f"source {name!r}: {shards} shards; 1 to {SHARDS_MAX}")
        if delay_s < 0 or ahead_s_max < 0 or not self.idle_us > 0:
            raise UsageError(
                f"source {name!r}: delay_s and ahead_s_max are 0 or more, idle_s above"
            )

    def __repr__(self) -> str:
        return f"Source({self.name!r}, {self.kind.__name__}, shards={self.shards})"

    @property
    def topic(self) -> str:
        """Under which its batches are stored."""
        return f"records.{self.name}"


def _fields(kind: type[msgspec.Struct]) -> dict[str, tuple[type, bool]]:
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        raise UsageError(f"the records of a source are a Struct, not {kind!r}")
    hints = get_type_hints(kind, include_extras=False)
    return {
        field.name: _scalar(kind, field.name, hints[field.name])
        for field in msgspec.structs.fields(kind)
    }


def _scalar(kind: type[msgspec.Struct], name: str, hint: Any) -> tuple[type, bool]:
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    scalars = [one for one in options if one is not NoneType]
    if len(scalars) != 1 or scalars[0] not in SCALARS:
        rule = "int, float, str, bool or datetime, or one of these or None"
        raise UsageError(f"{kind.__name__}.{name} is {hint!r}; a field of a record is {rule}")
    return scalars[0], len(options) > 1
