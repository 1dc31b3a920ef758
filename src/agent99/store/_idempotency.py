"""The same key takes effect once: its answer stands in the same transaction as the effect.

The row is inserted first. A duplicate that comes while the first is under way therefore waits for
it, on SQLite in the writer's queue and on PostgreSQL at the row, and then finds the answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from agent99.errors import (
    Failure,
    IdempotencyConflictError,
    StoreError,
    UsageError,
)
from agent99.store._append import check_text
from agent99.store._failures import SerializationError
from agent99.store._transaction import Transaction

T = TypeVar("T")

_KEY_BYTES_MAX = 256


# `running` is seen by nobody: it is inserted and replaced in one transaction.
_CLAIM = (
    "INSERT INTO agent99_idempotency (schema_name, key, fingerprint, status, created_us)"
    " VALUES (:schema, :key, :fingerprint, 'running', :now_us) ON CONFLICT DO NOTHING"
)
_FIND = (
    "SELECT fingerprint, status, answer FROM agent99_idempotency"
    " WHERE schema_name = :schema AND key = :key"
)
_RECORD = (
    "UPDATE agent99_idempotency SET status = :status, answer = :answer"
    " WHERE schema_name = :schema AND key = :key"
)
_PURGE = (
    "DELETE FROM agent99_idempotency WHERE schema_name = :schema AND key IN ("
    "SELECT key FROM agent99_idempotency WHERE schema_name = :schema AND created_us < :before_us"
    " ORDER BY created_us LIMIT :rows_max{})"
)


class _StoredFailure(msgspec.Struct, frozen=True):
    """A `Failure` as it is kept."""

    message: str
    code: str
    details: dict[str, Any]


class Answer(Generic[T]):
    """What stands under a key: a value or a failure."""

    __slots__ = ("failure", "value")

    def __init__(self, value: T | None, failure: Failure | None) -> None:
        self.value = value
        self.failure = failure

    def __repr__(self) -> str:
        return f"Answer(value={self.value!r}, failure={self.failure!r})"


class Once(Generic[T]):
    """One idempotent transaction: what `Store.once` runs."""

    __slots__ = ("_answer_type", "_fingerprint", "_key", "_work")

    def __init__(
        self, key: str, request: Any, work: Callable[[Transaction], T], answer_type: type[T]
    ) -> None:
        check_text("idempotency key", key, _KEY_BYTES_MAX)
        self._key = key
        self._fingerprint = fingerprint(request)
        self._work = work
        self._answer_type = answer_type

    def __repr__(self) -> str:
        return f"Once(key={self._key!r})"

    def __call__(self, transaction: Transaction) -> Answer[T]:
        """Take effect, or find the answer; in the transaction.

        Raises:
            IdempotencyConflictError, StoreError, UsageError
        """
        scope = transaction.scope
        claimed = transaction.execute(
            _CLAIM,
            {
                "schema": scope.schema,
                "key": self._key,
                "fingerprint": self._fingerprint,
                "now_us": scope.clock.wall_us(),
            },
        )
        if not claimed.changed:
            return self._stored(transaction)
        scope.leaves_rows = True
        transaction.mark()
        try:
            value = self._work(transaction)
        except Failure as failure:
            return self._failed(transaction, failure)
        if transaction.doom is not None:
            raise transaction.doom
        answer = self._encode(value)
        self._record(transaction, "done", answer)
        return Answer(self._decode(answer), None)

    def _stored(self, transaction: Transaction) -> Answer[T]:
        which = {"schema": transaction.scope.schema, "key": self._key}
        row = transaction.execute(_FIND, which).first()
        if row is None:  # a clean-up has removed it just now: the key is as new
            raise SerializationError(f"the answer under {self._key!r} went out of date")
        if bytes(row.fingerprint) != self._fingerprint:
            raise IdempotencyConflictError(self._key)
        if row.status == "failed":
            return Answer(None, _failure(row.answer))
        return Answer(self._decode(row.answer), None)

    def _failed(self, transaction: Transaction, failure: Failure) -> Answer[T]:
        """Undo the effect and keep the refusal, unless the same request may succeed later."""
        if failure.retryable:
            raise failure
        if transaction.doom is not None and transaction.doom.retryable:
            raise transaction.doom
        stored = _StoredFailure(failure.message, failure.code, failure.details)
        answer = self._encode(stored)
        transaction.undo()
        self._record(transaction, "failed", answer)
        return Answer(None, failure)

    def _record(self, transaction: Transaction, status: str, answer: bytes) -> None:
        schema = transaction.scope.schema
        values = {"status": status, "answer": answer, "schema": schema, "key": self._key}
        transaction.execute(_RECORD, values)

    def _encode(self, value: Any) -> bytes:
        try:
            return msgspec.json.encode(value)
        except (TypeError, ValueError, OverflowError) as error:
            message = f"the answer under {self._key!r} cannot be kept as JSON: {error}"
            raise UsageError(message) from error

    def _decode(self, answer: bytes) -> T:
        """Also done for the first caller: every caller gets the same, in the same form."""
        try:
            return msgspec.json.decode(answer, type=self._answer_type)
        except msgspec.MsgspecError as error:
            message = f"the answer under {self._key!r} is no {self._answer_type!r}: {error}"
            raise StoreError(message) from error


def fingerprint(request: Any) -> bytes:
    """Return the SHA-256 of the request as JSON with sorted keys and fields.

    Raises:
        UsageError: the request cannot be written as JSON.
    """
    try:
        return hashlib.sha256(msgspec.json.encode(request, order="sorted")).digest()
    except (TypeError, ValueError, OverflowError) as error:
        message = f"a request whose content is compared must be JSON: {error}"
        raise UsageError(message) from error


def purge_answers(transaction: Transaction, before_us: int, rows_max: int) -> int:
    """Remove answers older than `before_us`, at most `rows_max`; returns how many."""
    # Two processes that clean up at once must not wait for each other.
    tail = " FOR UPDATE SKIP LOCKED" if transaction.dialect == "postgresql" else ""
    schema = transaction.scope.schema
    parameters = {"schema": schema, "before_us": before_us, "rows_max": rows_max}
    return transaction.execute(_PURGE.format(tail), parameters).changed


def _failure(answer: bytes) -> Failure:
    stored = msgspec.json.decode(answer, type=_StoredFailure)
    return Failure(stored.message, code=stored.code, details=stored.details)
