"""What stands in a saga's journal: one JSON object for each thing that was decided or learnt. Pure.

The kinds are those of an event-sourced orchestrator: intent before a call, result after it, and the
undo of what took effect (Garcia-Molina and Salem, Sagas, 1987).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from agent99.envelope import decode_error, encode_error
from agent99.errors import RequestError, request_error

Effect = Literal["none", "unknown"]
"""What a step that failed may have left behind: nothing, or nobody knows."""
Ended = Literal["done", "failed", "cancelled"]
ERROR_BYTES_MAX = 65_536
"""Of an error that is kept; as JSON."""


class StepId(NamedTuple):
    """Which step: its name, and how often the name was used before."""

    name: str
    ordinal: int = 0

    def __str__(self) -> str:
        return self.name if self.ordinal == 0 else f"{self.name}#{self.ordinal + 1}"


class Error(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as it is kept."""

    code: str
    message: str
    details: dict[str, Any] = {}
    retryable: bool = False

    @classmethod
    def of(cls, error: RequestError) -> Error:
        """Return an error as it is kept: like one that travels, and no larger than fits."""
        told = decode_error(encode_error(error, bytes_max=ERROR_BYTES_MAX))
        return cls(told.code, told.message, told.details, told.retryable)

    def raised(self) -> RequestError:
        """Return the error as it is raised again."""
        return request_error(self.code, self.message, self.details, self.retryable)


class _Record(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="kind"):
    at_us: int
    """When it was written, microseconds since the epoch, UTC, by its writer's clock."""


class Started(_Record, tag="started", frozen=True, kw_only=True):
    """The saga was asked for. Always the first."""

    operation: str
    version: int
    """Of the code that began it."""
    owner: str
    """The instance that runs it."""
    fingerprint: str
    """Of the request: the same key with another one is a conflict."""
    request: msgspec.Raw
    """The payload."""
    event_id: str
    sender: str = ""
    traceparent: str | None = None
    key: str = ""
    """The caller's idempotency key; empty: it gave none."""


class Taken(_Record, tag="taken", frozen=True, kw_only=True):
    """Another instance runs it from here on."""

    owner: str


class Intent(_Record, tag="intent", frozen=True, kw_only=True):
    """A step is about to run, for the first time."""

    step: StepId
    arguments: int
    """A checksum of what it is called with."""
    has_undo: bool = False
    is_pivot: bool = False


class Result(_Record, tag="result", frozen=True, kw_only=True):
    """A step took effect, and this is what it returned."""

    step: StepId
    value: msgspec.Raw
    is_value: bool = False
    """The value is no JSON object and stands under `result`, as in an answer."""


class Doubt(_Record, tag="doubt", frozen=True, kw_only=True):
    """A step was tried and whether it took effect is unknown; it is tried, or asked for, again."""

    step: StepId
    error: Error


class Failed(_Record, tag="failed", frozen=True, kw_only=True):
    """A step is given up."""

    step: StepId
    error: Error
    effect: Effect


class Timer(_Record, tag="timer", frozen=True, kw_only=True):
    """The saga waits until a moment."""

    step: StepId
    until_us: int


class Noted(_Record, tag="noted", frozen=True, kw_only=True):
    """What `now` said."""

    step: StepId


class Failing(_Record, tag="failing", frozen=True, kw_only=True):
    """The saga has failed, or was cancelled: from here on its steps are undone."""

    error: Error
    is_cancelled: bool = False


class Undone(_Record, tag="undone", frozen=True, kw_only=True):
    """A step's undo took effect."""

    step: StepId


class UndoFailed(_Record, tag="undo_failed", frozen=True, kw_only=True):
    """A step's undo was tried so often in vain; it is tried again."""

    step: StepId
    error: Error
    attempts: int


class Stuck(_Record, tag="stuck", frozen=True, kw_only=True):
    """It cannot go on until somebody has mended something and says `retry`."""

    error: Error
    step: StepId | None = None


class Cancel(_Record, tag="cancel", frozen=True, kw_only=True):
    """Somebody wants it undone. Written by whoever asks, not by the owner."""


class Retry(_Record, tag="retry", frozen=True, kw_only=True):
    """Somebody says that what was in its way is mended. Written by whoever asks."""


class Finished(_Record, tag="finished", frozen=True, kw_only=True):
    """It has ended: with an answer, or with an error and everything undone. Always the last."""

    outcome: Ended
    answer: msgspec.Raw = msgspec.Raw(b"{}")
    is_value: bool = False
    error: Error | None = None


Record: TypeAlias = (
    Started
    | Taken
    | Intent
    | Result
    | Doubt
    | Failed
    | Timer
    | Noted
    | Failing
    | Undone
    | UndoFailed
    | Stuck
    | Cancel
    | Retry
    | Finished
)

encode_record = msgspec.json.Encoder().encode
"""Return a record as it is stored."""
decode_record = msgspec.json.Decoder[Record](Record).decode
"""Return a stored record.

Raises:
    msgspec.DecodeError: it is none, or one of a later version of agent99.
"""
