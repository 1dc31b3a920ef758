"""Every error of agent99, by whose fault it is.

    Agent99Error
    ├── UsageError                  you, now, before anything was sent
    │   ├── InvalidNameError            a name, capability, topic or key breaks the grammar
    │   ├── InvalidFilterError          a `where` expression breaks the grammar
    │   └── PayloadTooLargeError        a body or header over its limit
    ├── ClosedError                 you closed it
    ├── TransportError              the world: the server, the network
    │   ├── ServerUnavailableError      nobody listens at the address
    │   ├── ServerVersionError          the server is too old
    │   ├── AuthenticationError         the server refused the credential
    │   ├── PermissionDeniedError       the server refused a subject
    │   ├── DisconnectedError           the link went away while an answer was awaited
    │   ├── NoRespondersError           nobody listens on a subject; not delivered
    │   └── BufferFullError             more is waiting to be written than the bound allows
    ├── ProtocolError               the bytes make no sense
    │   ├── LocalProtocolError          this side was about to send nonsense
    │   └── RemoteProtocolError         the other side sent it
    ├── RequestError                the outcome of one request
    │   ├── NoAgentError                nobody can take it, and why
    │   ├── DeadlineExceededError       no answer in time: the outcome is unknown
    │   ├── RequestCancelledError       the caller, or the instance that ran it, gave it up
    │   ├── OverloadedError             refused at the door: it did not run
    │   ├── PausedError                 refused at the door: it did not run
    │   ├── BadRequestError             the message breaks the schema; names the path and the rule
    │   ├── UnknownOperationError       the agent has no such operation
    │   ├── HandlerError                the operation broke
    │   ├── BadAnswerError              the answer is not what the caller asked for
    │   └── Failure                     the operation says no, with a code of its own
    │       └── RemoteError                 the same, seen by the caller
    ├── JournalError                what must last
    │   ├── StreamNotFoundError
    │   ├── WrongSequenceError          compare-and-set lost: somebody else wrote first
    │   ├── StreamFullError             the store or the stream is at its bound
    │   └── LogIncompleteError          the log does not hold any more what would have to be read
    ├── StoreError                  an agent's own data
    │   ├── StoreUnavailableError       the database cannot be reached, opened or locked
    │   ├── StoreOverloadedError        more transactions wait than the bound allows; it did not run
    │   ├── StoreFullError              the disk, or the database's own bound, is full
    │   ├── ConstraintError             a rule of the tables forbids it
    │   ├── TransactionConflictError    others kept changing the same rows
    │   ├── MigrationError              the tables' recorded history does not fit the code
    │   ├── IdempotencyConflictError    the same key came with another content
    │   └── LeaseLostError              another process owns it now: the outbox, a part of a log
    ├── NonDeterminismError         a saga's journal does not fit its code
    └── EmbeddedServerError         the server we start ourselves
        ├── ServerBinaryMissingError
        ├── ServerStartError
        └── StateFolderError

An error carries typed attributes and builds its message from them. `code` is stable and travels on
the wire beside the message; `retryable` says whether the same call may succeed if it is made again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final


class Agent99Error(Exception):
    """The base of every error that agent99 raises."""

    code: str = "ERROR"
    """Stable name of the outcome, in capitals; the same in every process and release."""
    retryable: bool = False
    """Whether the same call may succeed if it is made again unchanged."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process as it is: Python's own way is to call `__init__` again."""
        return _restore, (type(self), self.args, vars(self))


def _restore(cls: type[Agent99Error], args: tuple[Any, ...], state: dict[str, Any]) -> Agent99Error:
    error = cls.__new__(cls, *args)
    vars(error).update(state)
    return error


def text_of(thing: object) -> str:
    """Return a text for anything: a class whose own `__str__` raises is at least named."""
    try:
        return str(thing).encode("utf-8", "replace").decode()
    except Exception:  # noqa: BLE001 - a class of the user's may raise anything
        return f"a {type(thing).__name__} that has no text"


def how_to_install(extra: str) -> str:
    """Return what to do where an optional dependency is absent."""
    return f"install agent99 with its extra {extra!r}: pip install '.[{extra}]' in a checkout"


# --- you, now -------------------------------------------------------------------------------------


class UsageError(Agent99Error):
    """The programme is wrong; nothing was sent."""

    code = "USAGE"


class InvalidNameError(UsageError):
    """A name, capability, operation, topic or key that may not become part of a subject."""

    code = "INVALID_NAME"

    def __init__(self, kind: str, value: str, rule: str) -> None:
        shown = value if len(value) <= 80 else f"{value[:80]}… ({len(value)} characters)"
        super().__init__(f"{shown!r} is no {kind}: {rule}")
        self.kind = kind
        """What it was meant to be: `capability`, `operation`, `topic`, …"""
        self.value = value
        self.rule = rule


class InvalidFilterError(UsageError):
    """A `where` expression that breaks the grammar; `place` says where."""

    code = "INVALID_FILTER"

    def __init__(self, text: str, place: int, rule: str) -> None:
        super().__init__(f"{text!r} is no filter: {rule}, at character {place + 1}")
        self.text = text
        self.place = place
        """Index of the character at which it breaks the grammar; starts at 0."""
        self.rule = rule


class PayloadTooLargeError(UsageError):
    """A body or header over its limit; nothing was sent."""

    code = "PAYLOAD_TOO_LARGE"

    def __init__(self, what: str, size_bytes: int, size_bytes_max: int) -> None:
        super().__init__(f"{what} of {size_bytes:,} bytes is over the limit of {size_bytes_max:,}")
        self.what = what
        self.size_bytes = size_bytes
        self.size_bytes_max = size_bytes_max


class ClosedError(Agent99Error):
    """Your own code closed it before this call."""

    code = "CLOSED"

    def __init__(self, what: str) -> None:
        super().__init__(f"the {what} is closed")
        self.what = what


# --- the world ------------------------------------------------------------------------------------


class TransportError(Agent99Error):
    """The server or the network, not the programme."""

    code = "TRANSPORT"
    retryable = True


class ServerUnavailableError(TransportError):
    """No NATS server answers at the address."""

    code = "SERVER_UNAVAILABLE"

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"no NATS server answers at {url}: {reason}")
        self.url = url
        """The address, without its credential."""
        self.reason = reason


class ServerVersionError(TransportError):
    """The server is older than agent99 accepts."""

    code = "SERVER_VERSION"
    retryable = False

    def __init__(self, url: str, version: str, version_min: str) -> None:
        super().__init__(
            f"the NATS server at {url} is version {version}; agent99 needs {version_min} or later"
            " (earlier ones have known security holes)"
        )
        self.url = url
        self.version = version
        self.version_min = version_min


class AuthenticationError(TransportError):
    """The server refused the credential."""

    code = "AUTHENTICATION"
    retryable = False

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"the NATS server at {url} refused the credential: {reason}")
        self.url = url
        self.reason = reason


class PermissionDeniedError(TransportError):
    """The server's permissions do not allow this subject."""

    code = "PERMISSION_DENIED"
    retryable = False

    def __init__(self, action: str, subject: str) -> None:
        super().__init__(f"the server's permissions do not allow to {action} {subject!r}")
        self.action = action
        """`publish to` or `subscribe to`."""
        self.subject = subject


class DisconnectedError(TransportError):
    """The link to the server went away before the answer came."""

    code = "DISCONNECTED"


class NoRespondersError(TransportError):
    """Nobody listens on the subject; the message was not delivered."""

    code = "NO_RESPONDERS"

    def __init__(self, subject: str) -> None:
        super().__init__(f"nobody listens on {subject!r}")
        self.subject = subject


class BufferFullError(TransportError):
    """More is waiting to be written than the bound allows; this message was not queued."""

    code = "BUFFER_FULL"

    def __init__(self, pending_bytes: int, pending_bytes_max: int) -> None:
        super().__init__(
            f"{pending_bytes:,} bytes wait to be written and the bound is {pending_bytes_max:,}:"
            " the server is away or slow"
        )
        self.pending_bytes = pending_bytes
        self.pending_bytes_max = pending_bytes_max


class ProtocolError(Agent99Error):
    """Bytes that are not what they should be."""

    code = "PROTOCOL"


class LocalProtocolError(ProtocolError):
    """This side was about to send nonsense: a bug of ours or of the caller."""

    code = "LOCAL_PROTOCOL"


class RemoteProtocolError(ProtocolError):
    """The other side sent nonsense."""

    code = "REMOTE_PROTOCOL"


# --- one request ----------------------------------------------------------------------------------


class RequestError(Agent99Error):
    """The outcome of one request that brought no result."""

    code = "REQUEST"
    event_id: str = ""
    """Names the request, in the agent's log too; empty where none was made."""

    def __init__(
        self,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        retryable: bool | None = None,
    ) -> None:
        text = message if isinstance(message, str) else text_of(message)
        super().__init__(text)
        self.message = text
        self.details: dict[str, Any] = dict(details or {})
        """What a programme may want to know; travels as JSON."""
        if retryable is not None:
            self.retryable = retryable

    def __repr__(self) -> str:
        event = f", event_id={self.event_id!r}" if self.event_id else ""
        return f"{super().__repr__()[:-1]}{event})"


class NoAgentError(RequestError):
    """Nobody can take the request; it did not run. `reason` says why."""

    code = "NO_AGENT"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        reason: str = "nobody",
        details: Mapping[str, Any] | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message, details=details, retryable=retryable)
        self.reason = reason
        """`nobody`, `unknown_operation` or `paused`."""


class DeadlineExceededError(RequestError):
    """No answer came by the deadline; whether the operation ran is unknown."""

    code = "DEADLINE_EXCEEDED"


class RequestCancelledError(RequestError):
    """The request was given up before it finished."""

    code = "CANCELLED"


class OverloadedError(RequestError):
    """The instance has more work than its bounds allow; the request did not run."""

    code = "OVERLOADED"
    retryable = True


class PausedError(RequestError):
    """The instance is paused or draining; the request did not run."""

    code = "PAUSED"
    retryable = True


class BadRequestError(RequestError):
    """The message breaks the protocol or the schema. `details` has `path` and `rule`."""

    code = "BAD_REQUEST"

    @property
    def path(self) -> str:
        """Where, as a JSON path: `$.items[0].quantity`."""
        return str(self.details.get("path", "$"))

    @property
    def rule(self) -> str:
        """Which rule is broken, in words."""
        return str(self.details.get("rule", self.message))


class UnknownOperationError(RequestError):
    """The agent has no operation of that name. `details` has `operation` and `operations`."""

    code = "UNKNOWN_OPERATION"


class HandlerError(RequestError):
    """The operation raised, or returned, something that it should not; the agent lives on."""

    code = "HANDLER_ERROR"


class BadAnswerError(RequestError):
    """The answer arrived but is not of the type that the caller asked for."""

    code = "BAD_ANSWER"


class Failure(RequestError):  # noqa: N818 - the word a user raises; "FailureError" says it twice
    """Raise it in an operation to answer no, with a code of your own.

    Args:
        message: For people.
        code: For programmes; stable, in capitals, such as `INVENTORY_ERROR`.
        details: Anything that JSON can carry.
        retryable: Whether the same request may succeed later.
    """

    code = "FAILURE"

    def __init__(
        self,
        message: str,
        *,
        code: str = "FAILURE",
        details: Mapping[str, Any] | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message, details=details, retryable=retryable)
        self.code = code if isinstance(code, str) else text_of(code)


class RemoteError(Failure):
    """An operation answered with a code that agent99 itself does not define."""


# --- what must last -------------------------------------------------------------------------------


class JournalError(Agent99Error):
    """The stream server refused an operation."""

    code = "JOURNAL"

    def __init__(self, message: str, *, server_code: int = 0) -> None:
        super().__init__(message)
        self.server_code = server_code
        """The server's own error code (`err_code`), 0 when there is none."""


class StreamNotFoundError(JournalError):
    """No such stream or bucket."""

    code = "STREAM_NOT_FOUND"


class WrongSequenceError(JournalError):
    """Compare-and-set lost: the subject's or key's last sequence is not the expected one."""

    code = "WRONG_SEQUENCE"

    def __init__(self, subject: str, expected: int, actual: int | None) -> None:
        found = "another" if actual is None else str(actual)
        super().__init__(f"{subject!r} is at sequence {found}, expected {expected}")
        self.subject = subject
        self.expected = expected
        self.actual = actual
        """The sequence found, or None where the server does not tell."""


class StreamFullError(JournalError):
    """The stream or the disk is at its bound; nothing was stored."""

    code = "STREAM_FULL"
    retryable = True


class LogIncompleteError(JournalError):
    """The log has dropped events, and what is built from it anew would lack them."""

    code = "LOG_INCOMPLETE"

    def __init__(self, needed_sequence: int, first_sequence: int) -> None:
        super().__init__(
            f"the log begins at {first_sequence:,}, but it is needed from {needed_sequence:,} on:"
            " what would be made of it lacks the events between"
        )
        self.needed_sequence = needed_sequence
        """The first event that was counted so far."""
        self.first_sequence = first_sequence
        """The first that the log still holds."""


class StoreError(Agent99Error):
    """An agent's own data."""

    code = "STORE"


class StoreUnavailableError(StoreError):
    """The database cannot be reached, opened or locked in time."""

    code = "STORE_UNAVAILABLE"
    retryable = True

    def __init__(self, database: str, reason: str, *, outcome_unknown: bool = False) -> None:
        tail = "; whether the transaction took effect is unknown" if outcome_unknown else ""
        super().__init__(f"the database {database} is not available: {reason}{tail}")
        self.database = database
        """The address, without its credential."""
        self.reason = reason
        self.outcome_unknown = outcome_unknown
        """Whether the link broke during the commit, so that it may have taken effect."""


class StoreOverloadedError(StoreError):
    """More transactions wait than the bound allows; this one did not run."""

    code = "STORE_OVERLOADED"
    retryable = True

    def __init__(self, what: str, waiting: int, waiting_max: int) -> None:
        super().__init__(f"{waiting:,} {what} wait and the bound is {waiting_max:,}")
        self.what = what
        """`transactions`, `reads` or `outbox rows`."""
        self.waiting = waiting
        self.waiting_max = waiting_max


class StoreFullError(StoreError):
    """The disk, or the database's own bound, is full; nothing was stored."""

    code = "STORE_FULL"
    retryable = True

    def __init__(self, database: str, reason: str) -> None:
        super().__init__(f"the database {database} is full: {reason}")
        self.database = database
        self.reason = reason


class ConstraintError(StoreError):
    """A rule of the tables forbids it; the transaction took no effect."""

    code = "CONSTRAINT"

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(f"a {kind} rule of the tables forbids it: {reason}")
        self.kind = kind
        """`unique`, `foreign key`, `check`, `not null` or `other`."""
        self.reason = reason
        """The database's own words."""


class TransactionConflictError(StoreError):
    """Other transactions kept changing the same rows; this one took no effect."""

    code = "TRANSACTION_CONFLICT"
    retryable = True

    def __init__(self, attempts: int, reason: str) -> None:
        super().__init__(f"others changed the same rows, {attempts} attempts long: {reason}")
        self.attempts = attempts
        self.reason = reason


class MigrationError(StoreError):
    """The tables' recorded history does not fit the code's migrations; nothing was changed."""

    code = "MIGRATION"

    def __init__(self, schema: str, number: int, rule: str) -> None:
        super().__init__(f"migration {number} of schema {schema!r}: {rule}")
        self.schema = schema
        self.number = number
        """The first migration that does not fit; starts at 1."""
        self.rule = rule
        """What is wrong, in words."""


class IdempotencyConflictError(StoreError):
    """The key was used before with another content."""

    code = "IDEMPOTENCY_CONFLICT"

    def __init__(self, key: str) -> None:
        super().__init__(f"idempotency key {key!r} was used before with another content")
        self.key = key


class LeaseLostError(StoreError):
    """Another process owns it now (an outbox, a part of a log), or it was given up; no effect."""

    code = "LEASE_LOST"


class NonDeterminismError(Agent99Error):
    """A saga's journal does not fit its code: it was changed, or decides by what may differ."""

    code = "NON_DETERMINISM"


class EmbeddedServerError(Agent99Error):
    """The NATS server that agent99 starts itself."""

    code = "EMBEDDED_SERVER"


class ServerBinaryMissingError(EmbeddedServerError):
    """There is no `nats-server` to start."""

    code = "SERVER_BINARY_MISSING"


class ServerStartError(EmbeddedServerError):
    """The server did not start; the message has its last words."""

    code = "SERVER_START"


class StateFolderError(EmbeddedServerError):
    """The state folder cannot be used."""

    code = "STATE_FOLDER"


# --- the table of what travels --------------------------------------------------------------------


DID_NOT_RUN = frozenset({NoAgentError.code, OverloadedError.code, PausedError.code})
"""The codes by which a caller knows that nothing ran: an operation that runs cannot use them."""


_BY_CODE: Final[Mapping[str, type[RequestError]]] = {
    cls.code: cls
    for cls in (
        *(NoAgentError, DeadlineExceededError, RequestCancelledError, OverloadedError),
        *(PausedError, BadRequestError, UnknownOperationError, HandlerError, BadAnswerError),
    )
}
"""Errors that a responder sends and a caller raises again."""


def request_error(
    code: str,
    message: str,
    details: Mapping[str, Any],
    retryable: bool,  # noqa: FBT001 - the four fields of an answer's `error`, in its order
) -> RequestError:
    """Return the error that an answer's `code` stands for; `RemoteError` for a code of a user's."""
    known = _BY_CODE.get(code)
    if known is None:
        return RemoteError(message, code=code, details=details, retryable=retryable)
    return known(message, details=details, retryable=retryable)
