"""What a processor is asked, and what it answers."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from agent99.systems.analytics._delta import Scalar, WindowRow
from agent99.systems.analytics._reached import Reached

UNKNOWN_JOB = "UNKNOWN_JOB"
"""Of a question about a job, a version or a pipeline that the database does not know."""
INVALID_ACTION = "INVALID_ACTION"
NO_CLOSER = "NO_CLOSER"
"""Of a question about open windows while nobody closes them."""
VERSION_BEHIND = "VERSION_BEHIND"
"""Of a switch to a version that has not closed what the current one has."""
VERSION_IN_USE = "VERSION_IN_USE"
"""Of a version that is to be dropped, and is asked for, or run."""
LIMIT_MAX = 2_000
DIFFERENCES_MAX = 1_000
TIME_MIN, TIME_MAX = -(2**63), 2**63 - 1
"""Of a moment, in microseconds."""

Whole = Annotated[int, msgspec.Meta(ge=TIME_MIN, le=TIME_MAX)]
"""What a column of the database can hold."""
Text = Annotated[str, msgspec.Meta(pattern=r"^[^\0]*$")]
"""What PostgreSQL takes as a text."""

Which = Literal["all", "open", "closed"]


class After(msgspec.Struct, frozen=True):
    """Behind which row the next page begins."""

    end_us: Whole
    start_us: Whole
    key: Text
    """As JSON."""
    number: Whole = 0
    is_open: bool = False
    """It is an open one: all closed ones have been told, or, backwards, none of them."""


class RowsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows of a pipeline.

    A page at a time: closed ones in the order of their ends, then open ones; or all of this
    backwards. What closes, or changes, between two pages comes to whoever asks again, with the turn
    of the first page as `after_turn`.
    """

    pipeline: Text
    job: Text = ""
    """Empty: the processor's own."""
    version: Whole = 0
    """0: the one that is asked for of this job."""
    key: list[Scalar] | None = None
    """Only of this key: a value for each of its columns. None: of all."""
    since_us: Whole | None = None
    """Only windows that end after it, microseconds since the epoch."""
    until_us: Whole | None = None
    """Only windows that start before it."""
    state: Which = "all"
    after_turn: Whole = -1
    """Only closed rows that came in a later turn than this one, retracted ones among them."""
    after: After | None = None
    """Of the page before."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)] = 1_000
    is_backwards: bool = False
    """The last row is the first one: for who wants no more than the latest."""


class RowsPage(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of a pipeline."""

    job: str
    version: int
    pipeline: str
    key: list[str]
    """The columns of the key."""
    rows: list[WindowRow]
    turn: int
    """Of the last change of closed rows: what comes later has a higher one."""
    watermark_us: int | None
    """Up to where windows have been closed."""
    after: After | None = None
    """Where the next page begins; None: this is the last one."""


class StatsQuery(msgspec.Struct, frozen=True):
    """Of which job the counts are."""

    job: str = ""
    """Empty: the processor's own."""
    version: int = 0
    """0: the processor's own."""


class PipelineStats(msgspec.Struct, frozen=True, kw_only=True):
    """What has become of the records of a pipeline: each is in one of the four counts."""

    pipeline: str
    records: int
    on_time: int
    late: int
    dropped: int
    skipped: int
    refused_events: int
    """Stored batches that could not be folded, or not whole: what could not is in quarantine."""
    refused_records: int = 0
    """Those that were refused, where they could be read: they are in none of the four counts."""
    repeated_events: int = 0
    """Stored batches that had come before, with the same id and records: they count once."""
    rows: int
    """Closed windows, by key, but for those that were taken back."""
    deltas: int
    """Parts of windows that wait in the database to be closed or forgotten."""
    turn: int
    watermark_us: int | None
    lag_s: float | None
    """From the watermark to the wall clock; None: there is none yet, or the source has ended."""
    closer: str
    """The processor that closes its windows; empty: nobody does now."""


class SinkStats(msgspec.Struct, frozen=True, kw_only=True):
    """How far a sink is."""

    pipeline: str
    sink: str
    group: str
    """That reads for it: its name among the groups, and in quarantine."""
    lag: int | None
    """Events that it has not taken yet; None: it could never be opened."""
    delivered: int
    """Rows that it has taken."""
    refused: int
    """Rows that it will never take: each is in quarantine, with its reason."""
    refused_events: int
    """Events that went into quarantine as a whole: it did not take them for too long."""
    error: str
    """What is wrong with it just now; empty: nothing."""


class JobStats(msgspec.Struct, frozen=True, kw_only=True):
    """A job, as the database has it, and this processor."""

    job: str
    version: int
    current_version: int
    """Which one is asked for."""
    processors: int
    partitions: int
    """Of 64, whose records this processor folds."""
    events: int
    """Stored batches that it has folded."""
    closes: list[str]
    """The pipelines whose windows it closes."""
    pipelines: list[PipelineStats]
    sinks: list[SinkStats] = []


class Processed(msgspec.Struct, frozen=True):
    """A batch was stored, and will be in the windows."""

    processed: int
    batch_id: str


class JobInfo(msgspec.Struct, frozen=True):
    """A version of a job that a database knows."""

    job: str
    version: int
    is_current: bool
    pipelines: list[str]


class Jobs(msgspec.Struct, frozen=True):
    """All jobs of a mesh that a database knows."""

    jobs: list[JobInfo]


class CompareQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which closed windows of two versions are compared."""

    pipeline: Text
    old: Whole
    new: Whole
    job: Text = ""
    """Empty: the processor's own."""
    until_us: Whole | None = None
    """Only windows that end at or before it, microseconds since the epoch."""
    limit: Annotated[int, msgspec.Meta(ge=0, le=DIFFERENCES_MAX)] = 10
    """So many differences are shown, at most."""


class Difference(msgspec.Struct, frozen=True):
    """A window of which two versions do not say the same."""

    old: WindowRow
    new: WindowRow


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """How far two versions of a pipeline agree, in windows that both have closed."""

    job: str
    pipeline: str
    old: int
    new: int
    until_us: int | None
    """Windows that end at or before it were compared; None: one of them has closed none yet, or
    they are by count, which no time closes."""
    equal: int
    """Windows of which they say the same: so many records, and all figures that both have."""
    different: int
    only_old: int
    """Windows that the new version does not have."""
    only_new: int
    differences: list[Difference]
    """The first ones, in the order of their ends: as many as the answer holds."""


class Goal(msgspec.Struct, frozen=True):
    """What a version had closed when a switch from it was first asked for."""

    version: Whole
    pipelines: dict[str, Reached]


class SwitchQuery(msgspec.Struct, frozen=True, kw_only=True):
    """To which version a job is switched."""

    version: Whole
    job: Text = ""
    """Empty: the processor's own."""
    goal: Goal | None = None
    """What it must have closed: `goal` of the details of `VERSION_BEHIND`. None: what the current
    version has closed by now."""
    is_forced: bool = False
    """Whatever it has closed."""


class Switched(msgspec.Struct, frozen=True):
    """The version that is asked for from now on."""

    job: str
    version: int
    before: int
    """The one that was; the same: nothing has changed."""
    told: int
    """Rows that the switch itself put into the log: those that the one before had not told."""


class DropQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which version of a job is forgotten."""

    version: Whole
    job: Text = ""
    """Empty: the processor's own."""


class Dropped(msgspec.Struct, frozen=True):
    """A version that was forgotten."""

    job: str
    version: int
    rows: int
    """Rows of closed windows that went with it."""
