"""What the database knows of jobs: their versions, and that a version stays what it was."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from types import CodeType
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from agent99.errors import UsageError
from agent99.groups import reader_name
from agent99.systems.analytics._names import group_of

if TYPE_CHECKING:
    from agent99.store import Transaction
    from agent99.systems.analytics._pipeline import Job, Pipeline

_NOTE_JOB: Final = (
    "INSERT INTO analytics_job (mesh, job, version) VALUES (:mesh, :job, :version)"
    " ON CONFLICT (mesh, job) DO NOTHING"
)
_NOTE_VERSION: Final = (
    "INSERT INTO analytics_version (reader, mesh, job, version, definition, code, created_us)"
    " VALUES (:reader, :mesh, :job, :version, :definition, :code, :now_us)"
    " ON CONFLICT (reader) DO NOTHING"
)
_READ: Final = "SELECT definition, code FROM analytics_version WHERE reader = :reader"
_NOTE_CLOSER: Final = (
    "INSERT INTO analytics_closer (reader, pipeline, owner, epoch, beats, turn, cursors)"
    " VALUES (:reader, :pipeline, '', 0, 0, 0, '{}') ON CONFLICT (reader, pipeline) DO NOTHING"
)
_CURRENT: Final = "SELECT version FROM analytics_job WHERE mesh = :mesh AND job = :job"
_LOCK_JOB: Final = (
    "UPDATE analytics_job SET version = version WHERE mesh = :mesh AND job = :job"  # for its lock
)


def reader_of_job(mesh: str, job: str, version: int) -> str:
    """Return the name under which a database keeps what a version of a job has made."""
    return reader_name(mesh, group_of(job, version))


def register(transaction: Transaction, mesh: str, job: Job, now_us: int) -> None:
    """Note a version of a job, unless it is known; the first one is the one that is asked for.

    Raises:
        UsageError: the version was another one when it first ran here.
        as `Transaction.execute`.
    """
    reader = reader_of_job(mesh, job.name, job.version)
    definition, code = definition_of(job), code_of(job)
    values = {"mesh": mesh, "job": job.name, "version": job.version, "reader": reader}
    transaction.execute(_NOTE_JOB, values)
    more = {"definition": definition, "code": code, "now_us": now_us}
    transaction.execute(_NOTE_VERSION, values | more)
    known = transaction.execute(_READ, {"reader": reader}).one()
    if known.definition != definition or not _is_same_code(known.code, code):
        raise UsageError(
            f"job {job.name!r} is not what its version {job.version} was when it first ran on this"
            f" database: raise the version, `Job(..., version={job.version + 1})`"
        )
    for pipeline in job.pipelines:
        transaction.execute(_NOTE_CLOSER, {"reader": reader, "pipeline": pipeline})


def current_version(transaction: Transaction, mesh: str, job: str) -> int | None:
    """Return which version of a job is asked for; None: the database knows no such job."""
    version: int | None = transaction.execute(_CURRENT, {"mesh": mesh, "job": job}).scalar()
    return version


def lock_job(transaction: Transaction, mesh: str, job: str) -> int | None:
    """Until this transaction ends, no other one changes which version of a job is asked for.

    Returns:
        That one; None: the database knows no such job.
    """
    transaction.execute(_LOCK_JOB, {"mesh": mesh, "job": job})
    return current_version(transaction, mesh, job)


def definition_of(job: Job) -> str:
    """Return what decides which rows a job makes, but for the code of its functions."""
    return msgspec.json.encode([_pipeline(one) for one in job.pipelines.values()]).decode()


def code_of(job: Job) -> str:
    """Return a hash of the code of a job's functions, behind the Python that has compiled it.

    What they call, and what they see of their surroundings, is not in it.
    """
    whole = hashlib.sha256()
    for pipeline in job.pipelines.values():
        for one in (*pipeline.computes, *((pipeline.condition,) if pipeline.condition else ())):
            for part in _code(one.compute):
                whole.update(part)
    python = ".".join(map(str, sys.version_info[:2]))
    return f"{python}:{whole.hexdigest()}"


def _is_same_code(known: str, now: str) -> bool:
    """Compare two codes; of two Pythons they cannot be compared, and count as the same."""
    return known == now or known.partition(":")[0] != now.partition(":")[0]


def _pipeline(pipeline: Pipeline) -> dict[str, Any]:
    source = pipeline.source
    computes = [[one.name, list(one.parameters)] for one in pipeline.computes]
    return {
        "name": pipeline.name,
        "source": [source.name, source.time, source.delay_us, source.shards, source.shard_by],
        "fields": {
            name: [one.kind.__name__, one.is_optional] for name, one in source.fields.items()
        },
        "key": list(pipeline.key),
        "window": pipeline.window,
        "aggregates": {name: repr(one) for name, one in pipeline.aggregates.items()},
        "columns": computes,
        "where": list(pipeline.condition.parameters) if pipeline.condition else None,
        "lateness_us": pipeline.lateness_us,
    }


def _code(function: Callable[..., Any]) -> Iterator[bytes]:
    code = getattr(function, "__code__", None)
    if isinstance(code, CodeType):
        yield from _parts(code)
    else:  # a built-in one, or an object that can be called
        yield getattr(function, "__qualname__", type(function).__qualname__).encode()


def _parts(code: CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield repr((code.co_names, code.co_varnames)).encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _parts(constant)
        else:
            yield _constant(constant).encode()


def _constant(value: object) -> str:
    """Return a text for a constant, the same in every process: a set has an order in each."""
    if isinstance(value, frozenset):
        return str(sorted(map(repr, cast("frozenset[object]", value))))
    return repr(value)
