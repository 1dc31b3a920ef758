"""Durable work: store messages, bring them to handlers until they are done, keep what cannot be.

Given:       events and jobs as bytes; the routes that take them; an outbox to send.
Gives:       receipts; each stored message's end: done, or in quarantine with the reason.
May import:  errors clock ids observe envelope journal store dispatch; msgspec
Never:       loses what was acknowledged, decides who serves, opens a connection.
"""

from agent99.work._advisories import Advisories
from agent99.work._assignments import Assignment, Task, events_for, jobs_for
from agent99.work._attempt import Outcome
from agent99.work._curve import Curve, checked_curve
from agent99.work._jobs import Jobs
from agent99.work._ledger import JobCount, Ledger, Moving, OperationCount, StreamCount
from agent99.work._log import Log
from agent99.work._quarantine import HEARS, IsHeard, Place, Quarantine, Quarantined, Reader
from agent99.work._relay import Relay, RelayStatistics
from agent99.work._streams import NoteFull, StreamBounds, Streams
from agent99.work._tries import Tries
from agent99.work._verdict import Again, Dead, Reason, judge
from agent99.work._worker import Parts, Worker, WorkStatistics

__all__ = [
    "HEARS",
    "Advisories",
    "Again",
    "Assignment",
    "Curve",
    "Dead",
    "IsHeard",
    "JobCount",
    "Jobs",
    "Ledger",
    "Log",
    "Moving",
    "NoteFull",
    "OperationCount",
    "Outcome",
    "Parts",
    "Place",
    "Quarantine",
    "Quarantined",
    "Reader",
    "Reason",
    "Relay",
    "RelayStatistics",
    "StreamBounds",
    "StreamCount",
    "Streams",
    "Task",
    "Tries",
    "WorkStatistics",
    "Worker",
    "checked_curve",
    "events_for",
    "jobs_for",
    "judge",
]
