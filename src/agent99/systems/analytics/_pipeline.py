"""What a user writes: from which source, by which key, in which windows, which figures."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, NamedTuple

from agent99.envelope import parse_name
from agent99.errors import UsageError
from agent99.systems.analytics._figures import Aggregate, Count, Max, Min
from agent99.systems.analytics._names import sink_group_of
from agent99.systems.analytics._sink import Column, Sink, check_sinks
from agent99.systems.analytics._sink_columns import key_columns, value_columns
from agent99.systems.analytics._source import Source
from agent99.systems.analytics._windows import SECOND_US, CountOf, Session, Window, check_seconds

Compute = Callable[..., Any]
"""Makes a column: a function whose parameters are named as the columns that it is given. One that
has a default keeps it."""


class Computed(NamedTuple):
    """A column that is computed from others."""

    name: str
    compute: Compute
    parameters: tuple[str, ...]
    """The columns that it is given, in the order of the function's parameters."""


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Figures of a source's records, by key and window.

        revenue = Pipeline(
            "revenue",
            LINES,
            key=("country",),
            window=Tumbling(3600),
            columns={"pence": lambda quantity, price_pence: quantity * price_pence},
            aggregates={"lines": Count(), "revenue_pence": Sum("pence")},
        )

    The same object runs on a list (`run`), over a file (`run_file`), and on the mesh
    (`AnalyticsProcessor`), with the same results. Functions and keys see a datetime as microseconds
    since the epoch.

    Raises:
        UsageError, InvalidNameError: a field does not fit the source; says which.
    """

    name: str
    """By the grammar of names."""
    source: Source[Any]
    """Whose records it reads."""
    window: Window = field(kw_only=True)
    """Which windows."""
    aggregates: Mapping[str, Aggregate] = field(kw_only=True)
    """By the name under which a row shows them: Count, Sum, Min, Max, Mean, Variance, Rate, TopK,
    Distinct, Quantiles."""
    key: tuple[str, ...] = field(default=(), kw_only=True)
    """Fields or computed columns; a window has a row for each key. Empty: one row for all. A record
    with a key of more than 1,024 bytes as JSON is refused."""
    columns: Mapping[str, Compute] = field(default_factory=dict[str, Compute], kw_only=True)
    """Computed columns by name: functions of fields, and of computed columns before them, that
    return an int, float, str, bool or None, the same for the same values."""
    where: Compute | None = field(default=None, kw_only=True)
    """Which records count: a function like those of `columns`, whose result is true or not. Columns
    that it does not need are computed only of records that it leaves."""
    lateness_s: float = field(default=0.0, kw_only=True)
    """For how long after its end a window takes late records, which correct it; those that come
    later go to the side stream. Seconds; 0 or more."""
    sinks: tuple[Sink, ...] = field(default=(), kw_only=True)
    """Where closed rows go besides the processors' database: SqlSink, ParquetSink, FunctionSink, or
    one of your own. They may change without a new version of the job."""

    def __post_init__(self) -> None:
        parse_name("pipeline", self.name)
        try:
            self._check()
            check_seconds("lateness_s", self.lateness_s)
            check_sinks(self.sinks, self.key_columns, self.value_columns)
        except UsageError as error:
            raise UsageError(f"pipeline {self.name!r}: {error}") from None

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, {self.source!r}, key={self.key!r}, {self.window!r})"

    @property
    def lateness_us(self) -> int:
        """For how long a window takes late records, microseconds."""
        return round(self.lateness_s * SECOND_US)

    @cached_property
    def computes(self) -> tuple[Computed, ...]:
        """The computed columns, in the order in which they are made."""
        return tuple(_computed(name, compute) for name, compute in self.columns.items())

    @cached_property
    def condition(self) -> Computed | None:
        """What `where` is, and is given."""
        return None if self.where is None else _computed("where", self.where)

    @cached_property
    def measures(self) -> tuple[Aggregate, ...]:
        """Whose states a cell holds: the number of records, then the figures.

        Before the figures, windows whose ends the records make have the first and the last time.
        """
        times: tuple[Aggregate, ...] = ()
        if isinstance(self.window, Session | CountOf):
            times = (Min(self.source.time), Max(self.source.time))
        return (Count(), *times, *self.aggregates.values())

    @property
    def key_columns(self) -> tuple[Column, ...]:
        """What the columns of its key hold, as a sink is told."""
        return key_columns(self.source, self.key)

    @property
    def value_columns(self) -> tuple[Column, ...]:
        """What its figures are, as a sink is told."""
        return value_columns(self.source, self.aggregates)

    def _check(self) -> None:
        """Refuse what does not fit together."""
        if not isinstance(self.source, Source):
            raise UsageError(f"its source is no Source: {self.source!r}")
        if not isinstance(self.window, Window):
            raise UsageError(f"its window is no window: {self.window!r}")
        known = self._check_columns()
        if not isinstance(self.key, tuple):
            raise UsageError(f"its key is a tuple of columns, not {self.key!r}")
        if unknown := [column for column in self.key if column not in known]:
            raise UsageError(f"its key {unknown[0]!r} is no column of {self.source}")
        self._check_aggregates(known)
        in_one_shard = self.source.shards == 1 or self.source.shard_by in self.key
        if isinstance(self.window, CountOf) and not in_one_shard:
            rule = "windows by count need the records of a key in one shard: shard by a key column"
            raise UsageError(rule)

    def _check_columns(self) -> set[str]:
        """Refuse functions that are given what there is not; returns the names of all columns."""
        if not isinstance(self.columns, Mapping):
            raise UsageError(f"its columns are functions by name, not {self.columns!r}")
        known = set(self.source.fields)
        for computed in self.computes:
            _check_parameters(computed, known)
            if computed.name in known:
                raise UsageError(f"its column {computed.name!r} would hide the record's")
            known.add(computed.name)
        if self.condition is not None:
            _check_parameters(self.condition, known)
        return known

    def _check_aggregates(self, known: set[str]) -> None:
        """Refuse figures of what there is not, or of a type that they cannot take."""
        if not isinstance(self.aggregates, Mapping) or not self.aggregates:
            raise UsageError("it has no aggregates")
        for name, aggregate in self.aggregates.items():
            if isinstance(aggregate, type) or not isinstance(aggregate, Aggregate):
                raise UsageError(f"{name!r} is no aggregate: {aggregate!r}")
            for column in aggregate.columns:
                if column not in known:
                    raise UsageError(f"{name!r} is of {column!r}, no column of {self.source}")
                if column in self.source.fields:
                    self.check_kind(column, self.source.fields[column].kind)

    def check_kind(self, column: str, kind: type) -> None:
        """Refuse a column of a type that a figure of it cannot take.

        Raises:
            UsageError: says which, and why.
        """
        for name, aggregate in self.aggregates.items():
            if column in aggregate.columns and (why := aggregate.misfit(column, kind)):
                rule = f"{name!r} is a {type(aggregate).__name__} of {column!r}, which is {why}"
                raise UsageError(rule)


class Job:
    """Pipelines that one group of processors runs, under one version.

    Args:
        name: By the grammar of names.
        pipelines: At least one; their names differ. Those of one source have the same `Source`.
        version: Of the logic, 1 or more: raise it whenever a pipeline changes. The new version is
            run beside the old one, from the beginning, until it is switched to.

    Raises:
        UsageError, InvalidNameError: one of these.
    """

    def __init__(self, name: str, pipelines: Iterable[Pipeline], *, version: int = 1) -> None:
        self.name: Final = parse_name("job", name)
        several = tuple(pipelines)
        if not all(isinstance(one, Pipeline) for one in several):
            raise UsageError(f"job {name!r}: not all of its pipelines are a Pipeline")
        self.pipelines: Final = {one.name: one for one in several}
        """By name, in the order in which they were given."""
        self.version: Final = version
        if not several or len(self.pipelines) < len(several):
            raise UsageError(f"job {name!r} has no pipelines, or two of one name")
        sources = {one.source.name: one.source for one in several}
        for one in several:
            if sources[one.source.name] is not one.source:
                raise UsageError(f"job {name!r}: two sources have the name {one.source.name!r}")
        if type(version) is not int or version < 1:
            raise UsageError(f"job {name!r}: its version is {version!r}; 1 or more")
        self._check_sinks()

    def _check_sinks(self) -> None:
        """Refuse sinks whose groups have no name, or one and the same."""
        groups: set[str] = set()
        for pipeline in self.pipelines.values():
            for sink in pipeline.sinks:
                group = sink_group_of(self.name, self.version, pipeline.name, sink.name)
                if parse_name("group", group) in groups:
                    raise UsageError(
                        f"job {self.name!r}: two of its sinks have the group {group!r}"
                    )
                groups.add(group)

    def __repr__(self) -> str:
        return f"Job({self.name!r}, version={self.version}, pipelines={list(self.pipelines)})"


def _check_parameters(computed: Computed, known: Iterable[str]) -> None:
    if missing := sorted(set(computed.parameters).difference(known)):
        raise UsageError(f"{computed.name!r} is computed from {missing}, which there is not")


def _computed(name: str, compute: Compute) -> Computed:
    if not callable(compute) or inspect.iscoroutinefunction(compute):
        raise UsageError(f"{name!r} is no function that can be called at once: {compute!r}")
    try:
        parameters = inspect.signature(compute).parameters.values()
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name!r}: {compute!r} does not tell its parameters") from error
    wanted = [one for one in parameters if one.default is inspect.Parameter.empty]
    if any(one.kind > inspect.Parameter.POSITIONAL_OR_KEYWORD for one in wanted):
        raise UsageError(f"{name!r}: each of its parameters is a column, by its name")
    return Computed(name, compute, tuple(one.name for one in wanted))
