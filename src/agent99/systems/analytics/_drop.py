"""Forgets a version of a job: what a database keeps of it, and its groups."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from agent99.errors import Failure, UsageError
from agent99.groups import delete_group, list_groups
from agent99.systems.analytics._jobs import current_version, lock_job, reader_of_job
from agent99.systems.analytics._names import group_of, sink_group_of
from agent99.systems.analytics._query import unknown
from agent99.systems.analytics._questions import VERSION_IN_USE, Dropped

if TYPE_CHECKING:
    from agent99.store import Transaction
    from agent99.systems.analytics._ground import Ground

_IS_KNOWN: Final = "SELECT count(*) FROM analytics_version WHERE reader = :reader"
_TABLES: Final = ("version", "mark", "count", "ordinal", "closer", "delta", "row", "told", "sink")
_READ_SINKS: Final = "SELECT pipeline, sink FROM analytics_sink WHERE reader = :reader"
_COUNT_ROWS: Final = (
    "SELECT count(*) FROM analytics_row WHERE reader = :reader AND is_retracted = 0"
)


async def drop(ground: Ground, job: str, version: int) -> Dropped:
    """Forget a version of a job: its rows, what they were made of, how far it and its sinks were.

    Its number may be used again after that, and begins with the log.

    Raises:
        Failure: it is asked for, or run (`VERSION_IN_USE`); the database does not know it
            (`UNKNOWN_JOB`).
        StoreError or one of its kinds.
        JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError: some
            of it may be gone: do it again.
    """
    check = partial(_check, mesh=ground.mesh, job=job, version=version)
    sinks = await ground.store.read(check)
    known = await list_groups(ground.agent)
    groups = (group_of(job, version), *(sink_group_of(job, version, *one) for one in sinks))
    for group in (one for one in groups if one in known):
        try:
            await delete_group(ground.agent, group)
        except UsageError as error:
            message = f"version {version} of job {job!r} is run: {error}"
            raise Failure(message, code=VERSION_IN_USE) from None
    forget = partial(_forget, mesh=ground.mesh, job=job, version=version)
    return Dropped(job, version, await ground.store.transaction(forget))


def _check(transaction: Transaction, mesh: str, job: str, version: int) -> list[tuple[str, str]]:
    """Refuse a version that is not there, or is the current one; return pipelines and their sinks.

    Raises:
        Failure
    """
    values = {"reader": reader_of_job(mesh, job, version)}
    if not transaction.execute(_IS_KNOWN, values).scalar():
        raise unknown(f"the database knows no version {version} of job {job!r}")
    if current_version(transaction, mesh, job) == version:
        message = f"version {version} of job {job!r} is the one that is asked for: switch before"
        raise Failure(message, code=VERSION_IN_USE)
    return [(pipeline, sink) for pipeline, sink in transaction.tuples(_READ_SINKS, values)]


def _forget(transaction: Transaction, mesh: str, job: str, version: int) -> int:
    """Delete what there is of a version; returns how many rows of closed windows that was."""
    from agent99.store import forget_reader  # noqa: PLC0415 - loads SQLAlchemy

    lock_job(transaction, mesh, job)
    _check(transaction, mesh, job, version)
    values = {"reader": reader_of_job(mesh, job, version)}
    rows = int(transaction.execute(_COUNT_ROWS, values).scalar() or 0)
    for table in _TABLES:
        transaction.execute(f"DELETE FROM analytics_{table} WHERE reader = :reader", values)  # noqa: S608 - of names above
    forget_reader(transaction, values["reader"])
    return rows
