"""What records get that they did not bring: which columns, by which of theirs, looked up where."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from typing import Any, Final, Literal, get_args

import msgspec

from agent99.agent import Agent
from agent99.errors import UsageError
from agent99.systems.analytics._bounds import INT_MAX, INT_MIN, fields_of
from agent99.systems.analytics._source import FieldType, Source
from agent99.systems.analytics._windows import check_seconds

LookUp = Callable[[Sequence[Any]], Awaitable[Mapping[Any, Any]]]
"""Returns what it has of some keys, by the key; what it does not have it leaves out.

A value has the columns as a mapping, or as attributes; where there is one column, it may be that.
"""
Otherwise = Literal["refuse", "leave"]
"""What becomes of records for which nothing could be looked up in time:

- `refuse`: nothing of them is stored, and their sender is told to come again;
- `leave`: they are stored with the defaults, and counted.
"""

KEY_BYTES_MAX: Final = 1_024
"""Of a key in the cache; a longer one is not there."""
NUMBER_BYTES_MAX: Final = 24
"""Of an integer of 64 bits, a float or a bool, as JSON."""
_KEY_KINDS: Final = (int, str)
_VALUE_KINDS: Final = (int, float, str, bool)


@dataclass(frozen=True)
class FromCache:
    """Looks up in a namespace of the mesh's distributed cache, by the key's text.

    What was set there may be a Struct or a dict with the columns; or, for one column, that alone.
    """

    namespace: str
    near_s: float | None = 60.0
    """So long a value is held in this process and given again; whoever changes it tells of it, so
    that it is old by milliseconds, and by this where that was lost. None: it is not held."""

    async def open(self, agent: Agent) -> LookUp:
        """Return the look-up of an agent that runs.

        Raises:
            InvalidNameError, UsageError, ClosedError: as `Agent.cache`.
        """
        cache = await agent.cache(self.namespace, near_s=self.near_s)

        async def look_up(keys: Sequence[Any]) -> Mapping[Any, Any]:
            by_text = {str(key): key for key in keys}
            texts = [one for one in by_text if 0 < len(one.encode()) <= KEY_BYTES_MAX]
            found = await cache.get_many(texts) if texts else {}
            return {by_text[text]: value for text, value in found.items()}

        return look_up


@dataclass(frozen=True, eq=False)
class Enrichment:
    """Columns of a source's records that are looked up when they come, before they are stored.

        class Line(msgspec.Struct):
            sold_at: datetime
            stock_code: str
            pence: int
            category: str | None = None

        LINES = Source("lines", Line, time="sold_at")
        CATEGORY = Enrichment(LINES, "stock_code", ("category",), FromCache("goods"))

    A record that brings another value than the default keeps it. One for whose key there is nothing
    keeps the default, and so does one whose value does not fit; both are counted.

    Raises:
        UsageError: a column is none that can be looked up, or looked up by; says which, and why.
    """

    source: Source[Any]
    by: str
    """The field whose value is the key, an int or a str; where it is None, nothing is there."""
    columns: tuple[str, ...]
    """Fields of int, float, str or bool (or None) that have a default."""
    lookup: FromCache | LookUp
    """Asked once for the distinct keys of an array, and once for single records that come together.
    A function is asked from the event loop: it waits for what it asks others."""
    timeout_s: float = field(default=1.0, kw_only=True)
    """So long it may take, above 0; a single record may wait for the one before as well."""
    otherwise: Otherwise = field(default="refuse", kw_only=True)
    """What happens when it raises, or takes longer."""
    text_bytes_max: int = field(default=256, kw_only=True)
    """Of a text, as JSON; a longer one does not fit. Arrays are parted so that there is room for
    as much in each record. 2 or more."""

    def __post_init__(self) -> None:
        self._check_by()
        if isinstance(self.columns, str) or not self.columns:
            raise self._wrong(
                f"columns are several names, such as ('category',), not {self.columns!r}"
            )
        for name in self.columns:
            self._check_column(name)
        if not isinstance(self.lookup, FromCache) and not callable(self.lookup):
            raise self._wrong(f"{self.lookup!r} is no function, and no FromCache")
        if self.otherwise not in get_args(Otherwise):
            raise self._wrong(f"otherwise is {self.otherwise!r}; 'refuse' or 'leave'")
        if type(self.text_bytes_max) is not int or self.text_bytes_max < 2:
            raise self._wrong(f"text_bytes_max is {self.text_bytes_max!r}; at least 2")
        check_seconds("timeout_s", self.timeout_s, us_min=1)

    def __repr__(self) -> str:
        return f"Enrichment({self.source!r}, {', '.join(self.columns)} by {self.by})"

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """What each column has in a record that does not bring it."""
        infos = fields_of(self.source)
        return {name: infos[name].default for name in self.columns}

    @property
    def row_bytes(self) -> int:
        """How much longer a record may get by it, as JSON."""
        kinds = [self.source.fields[name].kind for name in self.columns]
        return sum(self.text_bytes_max if one is str else NUMBER_BYTES_MAX for one in kinds)

    def fit(self, column: str, value: Any) -> Any:
        """Return a value as the column has it.

        Raises:
            ValueError, TypeError, OverflowError, msgspec.ValidationError: it does not fit.
        """
        text = value.decode() if isinstance(value, bytes) else value
        fitted = msgspec.convert((text,), self._holders[column]).value
        if isinstance(fitted, str):
            if len(msgspec.json.encode(fitted)) > self.text_bytes_max:
                raise ValueError(f"over {self.text_bytes_max} bytes")
        elif isinstance(fitted, float):
            if not isfinite(fitted):
                raise ValueError("no number")
            fitted += 0.0  # -0.0 is 0.0, as in every column
        elif fitted is not None and not INT_MIN <= fitted <= INT_MAX:
            raise ValueError("over 64 bits")
        return fitted

    # --- inside -----------------------------------------------------------------------------------

    @cached_property
    def _holders(self) -> dict[str, Any]:
        """Types of one value each: they are known, and `str | None` is looked at anew each time."""
        infos = fields_of(self.source)
        return {
            name: msgspec.defstruct("Value", [("value", infos[name].type)], array_like=True)
            for name in self.columns
        }

    def _check_by(self) -> None:
        if self._field(self.by).kind not in _KEY_KINDS:
            raise self._wrong(f"{self.by!r} is no int or str; one is looked up by such")

    def _check_column(self, name: str) -> None:
        source = self.source
        if name in (self.by, source.time, source.shard_by):
            raise self._wrong(
                f"{name!r} says what is looked up, when it was, or in which shard it is"
            )
        if self._field(name).kind not in _VALUE_KINDS:
            raise self._wrong(f"{name!r} is no int, float, str or bool")
        if fields_of(source)[name].default is msgspec.NODEFAULT:
            raise self._wrong(f"{name!r} has no constant default: no record comes without it")

    def _field(self, name: str) -> FieldType:
        found = self.source.fields.get(name)
        if found is None:
            raise self._wrong(f"{self.source.kind.__name__} has no {name!r}")
        return found

    def _wrong(self, rule: str) -> UsageError:
        return UsageError(f"enrichment of {self.source.name!r}: {rule}")
