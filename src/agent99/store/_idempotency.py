"""The same key takes effect once: its answer stands in the same transaction as the effect.

The row is inserted first. A duplicate that comes while the first is under way therefore waits for
it, on SQLite in the writer's queue and on PostgreSQL at the row, and then finds the answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import msgspec

from agent99.errors import (
    Failure,
    IdempotencyConflictError,
    InvalidNameError,
    StoreError,
    UsageError,
)
from agent99.store._migrations import Migration
from agent99.store._transaction import Transaction

T = TypeVar("T")

_KEY_BYTES_MAX = 256


def _create(transaction: Transaction) -> None:
    binary, tail = (
        ("BYTEA", "") if transaction.dialect == "postgresql" else ("BLOB", "WITHOUT ROWID")
    )
    transaction.execute(
        f"""
        CREATE TABLE agent99_idempotency (
            schema_name TEXT NOT NULL,
            key TEXT NOT NULL,
            fingerprint {binary} NOT NULL,
            status TEXT NOT NULL CHECK (status IN ('running', 'done', 'failed')),
            answer {binary},
            created_us BIGINT NOT NULL,
            PRIMARY KEY (schema_name, key)
        ) {tail}
        """
    )
    transaction.execute(
        "CREATE INDEX agent99_idempotency_age ON agent99_idempotency (schema_name, created_us)"
    )


OWN_MIGRATIONS: Final = (Migration(1, "idempotency", (_create,)),)

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

    __slots__ = ("_answer_type", "_fingerprint", "_key", "_now_us", "_schema", "_work")

    def __init__(
        self,
        schema: str,
        key: str,
        request: Any,
        work: Callable[[Transaction], T],
        answer_type: type[T],
        now_us: int,
    ) -> None:
        check_key(key)
        self._schema = schema
        self._key = key
        self._fingerprint = fingerprint(request)
        self._work = work
        self._answer_type = answer_type
        self._now_us = now_us

    def __repr__(self) -> str:
        return f"Once(key={self._key!r})"

    def __call__(self, transaction: Transaction) -> Answer[T]:
        """Take effect, or find the answer; in the transaction.

        Raises:
            IdempotencyConflictError, StoreError, UsageError
        """
        claimed = transaction.execute(
            _CLAIM,
            {
                "schema": self._schema,
                "key": self._key,
                "fingerprint": self._fingerprint,
                "now_us": self._now_us,
            },
        )
        if not claimed.changed:
            return self._stored(transaction)
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
        row = transaction.execute(_FIND, {"schema": self._schema, "key": self._key}).one()
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
        transaction.execute(
            _RECORD,
            {"status": status, "answer": answer, "schema": self._schema, "key": self._key},
        )

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


def check_key(key: str) -> None:
    """Refuse a key that not every database can keep.

    Raises:
        InvalidNameError
    """
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        size = 0
    if not 0 < size <= _KEY_BYTES_MAX or "\0" in key:
        rule = f"1 to {_KEY_BYTES_MAX} bytes of UTF-8 without NUL"
        raise InvalidNameError("idempotency key", key, rule)


def purge(transaction: Transaction, schema: str, before_us: int, rows_max: int) -> int:
    """Remove answers older than `before_us`, at most `rows_max`; returns how many."""
    # Two processes that clean up at once must not wait for each other.
    tail = " FOR UPDATE SKIP LOCKED" if transaction.dialect == "postgresql" else ""
    parameters = {"schema": schema, "before_us": before_us, "rows_max": rows_max}
    return transaction.execute(_PURGE.format(tail), parameters).changed


def _failure(answer: bytes) -> Failure:
    stored = msgspec.json.decode(answer, type=_StoredFailure)
    return Failure(stored.message, code=stored.code, details=stored.details)
