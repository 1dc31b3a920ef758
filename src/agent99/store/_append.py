"""What a transaction appends: checked and encoded at once, written as its last statement.

Written last, so that a row's place is given when its transaction is about to commit, after every
lock of it was taken: the order of the outbox is then the order in which effects came about. On
PostgreSQL two transactions that append under one key take turns from there to their commits; else
the later one could be seen, and sent, first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from agent99.envelope import encode_body, encode_user_headers, parse_topic
from agent99.errors import InvalidNameError, PayloadTooLargeError
from agent99.store._scope import Scope

_KEY_BYTES_MAX = 128
_TRACEPARENT_CHARACTERS_MAX = 256

INSERT: Final = (
    "INSERT INTO agent99_outbox"
    " (schema_name, id, topic, key, body, headers, traceparent, created_us) VALUES"
    " (:schema, :id, :topic, :key, :body, :headers, :traceparent, :created_us)"
)
COUNT: Final = (
    "SELECT count(*) FROM agent99_outbox WHERE schema_name = :schema AND stored_us IS NULL"
)
# In the order of the list: all take several of them in the same order, and so in no deadlock.
TAKE_TURNS: Final = (
    "SELECT pg_advisory_xact_lock(number) FROM unnest(CAST(:numbers AS BIGINT[])) AS number"
)


def outbox_row(
    scope: Scope,
    topic: str,
    event: Any,
    key: str,
    headers: Mapping[str, str] | None,
    traceparent: str,
) -> dict[str, Any]:
    """Return the row of an event, for `INSERT`.

    Raises:
        InvalidNameError: the topic, the key, the traceparent.
        PayloadTooLargeError
        UsageError: the event is no JSON object; a header's name or value.
    """
    body = encode_body(event)
    if len(body) > scope.options.event_bytes_max:
        raise PayloadTooLargeError("event", len(body), scope.options.event_bytes_max)
    if key:
        check_text("key", key, _KEY_BYTES_MAX)
    if traceparent:
        check_text("traceparent", traceparent, _TRACEPARENT_CHARACTERS_MAX)
    event_id = scope.ids.uuid()
    return {
        "schema": scope.schema,
        "id": event_id,
        "topic": parse_topic(topic),
        "key": key or event_id,
        "body": body,
        "headers": encode_user_headers(headers) if headers else b"",
        "traceparent": traceparent,
        "created_us": scope.clock.wall_us(),
    }


def turns(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the numbers of the locks that keep the keys of `rows` in order."""
    keys = {(row["schema"], row["key"]) for row in rows if row["key"] != row["id"]}
    return sorted({_number(schema, key) for schema, key in keys})


def check_text(kind: str, text: str, bytes_max: int) -> None:
    """Refuse text that not every database can keep.

    Raises:
        InvalidNameError
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        size = 0
    if not 0 < size <= bytes_max or "\0" in text:
        raise InvalidNameError(kind, text, f"1 to {bytes_max} bytes of UTF-8 without NUL")


def _number(schema: str, key: str) -> int:
    digest = hashlib.blake2b(f"{schema}\0{key}".encode(), digest_size=8, person=b"agent99").digest()
    return int.from_bytes(digest, signed=True)
