"""The port of streams: what one keeps, what it holds, and how it says so."""

from __future__ import annotations

from typing import Literal

import msgspec


class StreamConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream keeps. A full one refuses (`StreamFullError`); it never drops what it holds."""

    name: str
    subjects: tuple[str, ...]
    retention: Literal["limits", "work"] = "limits"
    """`limits` keeps a message within the bounds below, whoever reads it; `work` until its consumer
    has acknowledged or terminated it. Cannot be changed."""
    messages_max: int = -1
    """-1: no bound of its own."""
    bytes_max: int = -1
    message_bytes_max: int = -1
    """Of one message, with its message id; beyond it `PayloadTooLargeError`."""
    age_s_max: float = 0
    """Seconds; 0 keeps for ever. What is older goes, acknowledged or not."""
    duplicate_window_s: float = 120
    """How long a message id is remembered."""
    replicas: int = 1
    is_permanent: bool = False
    """Refuses that a message of it is deleted, or all are; age and bounds hold as ever. It cannot
    be taken back, and stops nobody who may delete the stream."""


class Record(msgspec.Struct, frozen=True):
    """One stored message."""

    subject: str
    sequence: int
    """Its place in the stream; starts at 1."""
    payload: bytes
    stored_us: int
    """When the server stored it, microseconds since the epoch, UTC."""


class Stored(msgspec.Struct, frozen=True):
    """The server's receipt: the message is in the stream."""

    stream: str
    sequence: int
    duplicate: bool = False
    """It was there already, under the same message id; `sequence` is the first one's."""


class Backlog(msgspec.Struct, frozen=True):
    """What a stream holds from a sequence on: what whoever has come so far has yet to read."""

    count: int
    oldest_us: int | None
    """When the first of them was stored, microseconds since the epoch, UTC; None: there is none."""


class Replica(msgspec.Struct, frozen=True):
    """One copy of a stream, on one server of a cluster."""

    server: str
    is_leader: bool
    is_current: bool
    """It has all that was acknowledged, and its server answers."""


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream holds now, and how it is kept."""

    config: StreamConfig
    """As the server has it: its limits are here."""
    messages: int
    bytes: int
    """With the server's own overhead for each message."""
    first_sequence: int
    """Of the oldest message; where there is none, `last_sequence + 1`."""
    last_sequence: int
    """Of the newest message, deleted or not; 0: there was none yet."""
    replicas: tuple[Replica, ...] = ()
    """Empty where the server belongs to no cluster."""
