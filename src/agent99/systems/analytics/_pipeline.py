"""What a user writes: from which source, by which key, in which windows, which figures."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from agent99.envelope import parse_name
from agent99.errors import UsageError
from agent99.systems.analytics._aggregates import Aggregate
from agent99.systems.analytics._source import Source
from agent99.systems.analytics._windows import SECOND_US, CountOf, Window

Compute = Callable[..., Any]
"""Makes a column: a function whose parameters are named as the columns that it is given."""


class Computed(NamedTuple):
    """A column that is computed from others."""

    name: str
    compute: Compute
    parameters: tuple[str, ...]
    """The columns that it is given, in the order of the function's parameters."""


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
    (`AnalyticsProcessor`), with the same results.

    Args:
        name: By the grammar of names.
        source: Whose records it reads.
        key: Fields or computed columns; a window has a row for each key. Empty: one row for all.
        window: Which windows.
        aggregates: By the name under which a row shows them: Count, Sum, Min, Max, Mean, Variance,
            Rate, TopK, Distinct, Quantiles.
        columns: Computed columns by name: functions of fields, and of computed columns before
            them, that return the same for the same values. They run once for each record.
        where: Which records count: a function like those of `columns`, whose result is true or not.
        lateness_s: For how long after its end a window takes late records, which correct it; those
            that come later go to the side stream. Seconds; 0 or more.

    Raises:
        UsageError, InvalidNameError: one of these does not fit the source; says which.
    """

    def __init__(
        self,
        name: str,
        source: Source[Any],
        *,
        window: Window,
        aggregates: Mapping[str, Aggregate],
        key: Iterable[str] = (),
        columns: Mapping[str, Compute] | None = None,
        where: Compute | None = None,
        lateness_s: float = 0.0,
    ) -> None:
        self.name: Final = parse_name("pipeline", name)
        self.source: Final = source
        self.window: Final = window
        self.aggregates: Final = dict(aggregates)
        self.key: Final = tuple(key) if not isinstance(key, str) else (key,)
        self.lateness_us: Final = round(lateness_s * SECOND_US)
        self.computes: Final = tuple(
            Computed(column, compute, _parameters(compute))
            for column, compute in (columns or {}).items()
        )
        """The computed columns, in the order in which they are made."""
        self.where: Final = None if where is None else Computed("where", where, _parameters(where))
        self._check()

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, {self.source!r}, key={self.key!r}, {self.window!r})"

    def _check(self) -> None:
        """Refuse what does not fit together."""
        source, known = self.source, {one.name for one in self.computes} | set(self.source.fields)
        for column in self.key:
            if column not in known:
                raise UsageError(
                    f"pipeline {self.name!r}: its key {column!r} is no column of {source}"
                )
        if not self.aggregates:
            raise UsageError(f"pipeline {self.name!r} has no aggregates")
        for name, aggregate in self.aggregates.items():
            if aggregate.column and aggregate.column not in known:
                rule = f"{name!r} is of {aggregate.column!r}, which is no column of {source}"
                raise UsageError(f"pipeline {self.name!r}: {rule}")
            kind, _ = source.fields.get(aggregate.column, (None, False))
            aggregate.check(kind)
        given = set(source.fields)
        for computed in (*self.computes, *((self.where,) if self.where else ())):
            if missing := set(computed.parameters) - given:
                rule = (
                    f"{computed.name!r} is computed from {sorted(missing)}, which it does not have"
                )
                raise UsageError(f"pipeline {self.name!r}: {rule}")
            given.add(computed.name)
        if self.lateness_us < 0:
            raise UsageError(f"pipeline {self.name!r}: lateness_s is 0 or more")
        if (
            isinstance(self.window, CountOf)
            and source.shards > 1
            and source.shard_by not in self.key
        ):
            rule = "windows by count need the records of a key in one shard: shard by a key column"
            raise UsageError(f"pipeline {self.name!r}: {rule}")


class Job:
    """Pipelines that one group of processors runs, under one version.

    Args:
        name: By the grammar of names.
        pipelines: At least one; their names differ.
        version: Of the logic, 1 or more: raise it whenever a pipeline changes. The new version is
            run beside the old one, from the beginning, until it is switched to.

    Raises:
        UsageError, InvalidNameError: one of these.
    """

    def __init__(self, name: str, pipelines: Iterable[Pipeline], *, version: int = 1) -> None:
        self.name: Final = parse_name("job", name)
        several = tuple(pipelines)
        self.pipelines: Final = {one.name: one for one in several}
        """By name, in the order in which they were given."""
        self.version: Final = version
        if not several or len(self.pipelines) < len(several):
            raise UsageError(f"job {name!r} has no pipelines, or two of one name")
        if version < 1:
            raise UsageError(f"job {name!r}: a version is 1 or more")

    def __repr__(self) -> str:
        return f"Job({self.name!r}, version={self.version}, pipelines={list(self.pipelines)})"


def _parameters(compute: Compute) -> tuple[str, ...]:
    return tuple(inspect.signature(compute).parameters)
