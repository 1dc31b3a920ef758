"""What a process tells of one trace: as many of its records as fit an answer. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from agent99.observe import RequestFinished

RECORDS_MAX = 1_000
"""Records in one answer."""
_AROUND_BYTES = 64  # the object that holds them, and how many were left out

_encode = msgspec.json.Encoder().encode


def newest(records: Sequence[RequestFinished], *, bytes_max: int) -> dict[str, Any]:
    """Return the newest records, the oldest of them first, and how many are left out.

    Args:
        records: Of one trace, the oldest first.
        bytes_max: What the answer may be long, as JSON.
    """
    room = bytes_max - _AROUND_BYTES
    kept: list[dict[str, Any]] = []
    for record in reversed(records[-RECORDS_MAX:]):
        room -= len(_encode(record)) + 1
        if room < 0:
            break
        kept.append(msgspec.to_builtins(record))
    kept.reverse()
    return {"records": kept, "more": len(records) - len(kept)}
