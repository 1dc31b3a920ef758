"""Runs transactions on one connection: several in one commit, or each in its own."""

from __future__ import annotations

from collections.abc import Sequence

from agent99.errors import (
    Agent99Error,
    ConstraintError,
    StoreError,
    StoreUnavailableError,
    UsageError,
)
from agent99.store._failures import store_error
from agent99.store._link import Database, Link
from agent99.store._scope import Scope
from agent99.store._transaction import Transaction
from agent99.store._workers import Job, Outcome


class _BatchLostError(StoreError):
    """A statement of one ended the transaction of all (a full disk does that)."""


class TransactionRunner:
    """Runs jobs on a connection that is opened when it is needed and replaced when it breaks.

    Invariant: between two calls of `run` no transaction is open.
    """

    def __init__(self, database: Database, scope: Scope, *, read_only: bool) -> None:
        self._database = database
        self._scope = scope
        self._read_only = read_only
        self._link: Link | None = None
        self.commits = 0
        """Commits made so far; written by this thread alone."""

    def __repr__(self) -> str:
        return f"TransactionRunner({self._database.name!r}, read_only={self._read_only})"

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run every job and return how each ended; never raises."""
        try:
            if len(jobs) == 1:
                return [self._run_alone(jobs[0])]
            return self._run_together(jobs)
        except _BatchLostError:
            # One of them spoils it for all. Each alone, so that only that one fails.
            return [self._run_alone(job) for job in jobs]
        except Exception as error:  # noqa: BLE001 - a dead thread would answer nobody
            return [Outcome(job, None, self._broken(error)) for job in jobs]

    def close(self) -> None:
        """Close the connection; never raises."""
        self._drop_link()

    def _run_together(self, jobs: Sequence[Job]) -> list[Outcome]:
        """One commit for all; a job that fails is undone alone."""
        link = self._ready_link()
        link.begin()
        outcomes = [self._attempt_within(link, job) for job in jobs]
        try:
            self._commit(link)
        except ConstraintError as error:  # a deferred rule: it is not known whose
            link.roll_back()
            raise _BatchLostError from error
        return outcomes

    def _attempt_within(self, link: Link, job: Job) -> Outcome:
        if job.future.cancelled():
            return Outcome(job, None, None)
        link.raw.execute("SAVEPOINT a99")
        outcome = _call(link, job, self._scope)
        if not link.in_transaction:
            raise _BatchLostError
        if outcome.error is not None:
            link.raw.execute("ROLLBACK TO a99")
        link.raw.execute("RELEASE a99")
        return outcome

    def _run_alone(self, job: Job) -> Outcome:
        if job.future.cancelled():
            return Outcome(job, None, None)
        is_kept = self._link is not None
        try:
            link = self._ready_link()
            link.begin()
            outcome = _call(link, job, self._scope)
            if outcome.error is None:
                self._commit(link)
                return outcome
            self._undo(link)
        except Exception as failure:  # noqa: BLE001 - whatever it is, its caller is told
            return Outcome(job, None, self._broken(failure))
        if is_kept and self._link is None:
            # The link from earlier had died, in this job or before it. Nothing took effect.
            return self._run_alone(job)
        return outcome

    def _undo(self, link: Link) -> None:
        """Undo what a job did; a link that cannot even do that is given up, which undoes it too."""
        try:
            link.roll_back()
        except link.errors:
            self._drop_link()
        else:
            if link.is_broken:
                self._drop_link()

    def _commit(self, link: Link) -> None:
        try:
            link.commit()
        except link.errors as error:
            known = store_error(error, self._database.name)
            if isinstance(known, StoreUnavailableError):
                raise StoreUnavailableError(
                    known.database, known.reason, outcome_unknown=True
                ) from error
            raise known from error
        self.commits += 1

    def _broken(self, error: Exception) -> Exception:
        """Give the link up, since its state is not known; return the error to answer with."""
        self._drop_link()
        if isinstance(error, (Agent99Error, *self._database.errors)):
            return store_error(error, self._database.name)
        return error

    def _ready_link(self) -> Link:
        link = self._link
        if link is None:
            self._link = link = self._database.connect(read_only=self._read_only)
        return link

    def _drop_link(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None


def _call(link: Link, job: Job, scope: Scope) -> Outcome:
    """Call the job's function; what it raises is a value here."""
    transaction = Transaction(link, scope)
    work = job.work
    try:
        value = work(transaction) if work is not None else None
        if hasattr(value, "__await__"):
            getattr(value, "close", bool)()  # a coroutine that nobody will await
            message = "a transaction is a plain function; this one is asynchronous"
            raise UsageError(message)
        if transaction.doom is not None:
            return Outcome(job, None, transaction.doom)
        return Outcome(job, value, None, has_appended=transaction.write_appended())
    except BaseException as error:  # noqa: BLE001 - the user's function: its caller is told
        return Outcome(job, None, _for_a_future(transaction, error))
    finally:
        transaction.end()


def _for_a_future(transaction: Transaction, error: BaseException) -> BaseException:
    if transaction.doom is not None and transaction.doom.retryable:
        return transaction.doom  # whatever the function made of it, it may be run again
    if isinstance(error, StopIteration):  # a future cannot carry it
        return StoreError(f"the transaction's function raised {error!r}")
    return error
