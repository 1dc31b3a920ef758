"""A stream of records of one type: what they are, and which field is their time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Generic, TypeVar, Union, get_args, get_origin

import msgspec

from agent99.envelope import parse_name
from agent99.errors import UsageError
from agent99.systems.analytics._windows import SECOND_US, check_seconds

R = TypeVar("R", bound=msgspec.Struct)
SHARDS_MAX: Final = 64
SCALARS: Final = (int, float, str, bool, datetime)
"""What a field of a record may be; each may be None as well."""


class FieldType(msgspec.Struct, frozen=True):
    """What a field of a record holds."""

    kind: type
    """One of `SCALARS`."""
    is_optional: bool
    """Whether it may be None."""


@dataclass(frozen=True, eq=False)
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

    Raises:
        UsageError, InvalidNameError: a field does not hold what it says; says which.
    """

    name: str
    """By the grammar of names."""
    kind: type[R]
    """A Struct whose fields are int, float, str, bool, datetime, or one of these or None."""
    time: str = field(kw_only=True)
    """The field that says when it happened: a datetime with a time zone, or an int of microseconds
    since the epoch, UTC; never None."""
    delay_s: float = field(default=2.0, kw_only=True)
    """How far records may be out of order before they are late, seconds; 0 or more."""
    idle_s: float = field(default=5.0, kw_only=True)
    """After so many seconds of the wall clock without a record a shard is not waited for any more;
    when all are idle, the watermark goes on with the wall clock. Above 0."""
    ahead_s_max: float = field(default=86_400.0, kw_only=True)
    """A record so far beyond the wall clock is refused: one wrong clock would close every window.
    Seconds; 0 or more."""
    shards: int = field(default=1, kw_only=True)
    """In how many parts it is stored, which as many processors can work on; 1 to 64."""
    shard_by: str = field(default="", kw_only=True)
    """The field whose value says in which shard a record is. Empty: any."""

    def __post_init__(self) -> None:
        name = parse_name("source", self.name)
        time = self.fields.get(self.time)
        if time is None or time.kind not in (datetime, int) or time.is_optional:
            rule = f"its time {self.time!r} is no field of datetime or int"
            raise UsageError(f"source {name!r}: {rule}")
        if self.shard_by and self.shard_by not in self.fields:
            raise UsageError(f"source {name!r}: {self.kind.__name__} has no {self.shard_by!r}")
        if type(self.shards) is not int or not 1 <= self.shards <= SHARDS_MAX:
            raise UsageError(f"source {name!r}: {self.shards!r} shards; 1 to {SHARDS_MAX}")
        check_seconds("delay_s", self.delay_s)
        check_seconds("idle_s", self.idle_s, us_min=1)
        check_seconds("ahead_s_max", self.ahead_s_max)

    def __repr__(self) -> str:
        return f"Source({self.name!r}, {self.kind.__name__}, shards={self.shards})"

    @cached_property
    def fields(self) -> dict[str, FieldType]:
        """What the fields of a record hold, by name, in their order."""
        kind = self.kind
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            raise UsageError(f"source {self.name!r}: its records are a Struct, not {kind!r}")
        try:
            found = msgspec.structs.fields(kind)
        except NameError as error:
            raise UsageError(f"source {self.name!r}: {kind.__name__}: {error}") from error
        return {one.name: _field_type(kind, one.name, one.type) for one in found}

    @property
    def delay_us(self) -> int:
        """How far records may be out of order, microseconds."""
        return round(self.delay_s * SECOND_US)

    @property
    def idle_us(self) -> int:
        """How long a shard without records is waited for, microseconds."""
        return round(self.idle_s * SECOND_US)

    @property
    def ahead_us_max(self) -> int:
        """How far a record may be beyond the wall clock, microseconds."""
        return round(self.ahead_s_max * SECOND_US)

    @property
    def topic(self) -> str:
        """Under which its batches are stored."""
        return f"records.{self.name}"


def _field_type(kind: type[msgspec.Struct], name: str, hint: Any) -> FieldType:
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    bare = [get_args(one)[0] if get_origin(one) is Annotated else one for one in options]
    scalars = [one for one in bare if one is not NoneType]
    if len(scalars) != 1 or scalars[0] not in SCALARS:
        rule = "int, float, str, bool or datetime, or one of these or None"
        raise UsageError(f"{kind.__name__}.{name} is {hint!r}; a field of a record is {rule}")
    return FieldType(scalars[0], len(bare) > 1)
