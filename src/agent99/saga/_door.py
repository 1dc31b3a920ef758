"""Where requests for a saga come in: it is begun, or found, and its end is waited for."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final
from uuid import NAMESPACE_URL, uuid5

import msgspec

from agent99.clock import wait_ended
from agent99.envelope import encode_body
from agent99.errors import Failure, IdempotencyConflictError, JournalError, RequestError
from agent99.saga._outcome import PENDING, SAGA_STUCK
from agent99.saga._records import Error, Finished, Started

if TYPE_CHECKING:
    from agent99.agent import Host
    from agent99.dispatch import Context
    from agent99.saga._code import MethodCode
    from agent99.saga._history import History
    from agent99.saga._keeper import Held, Keeper

SAGA_FAILED: Final = "SAGA_FAILED"
"""The code of the answer that a step was given up, and all is undone; `cause` has its code."""
SAGA_CANCELLED: Final = "SAGA_CANCELLED"
"""The code of the answer that somebody cancelled it, and everything is undone."""
_MARGIN_S = 0.25
_MARGIN_SHARE = 0.2
"""Of the caller's time, kept to tell him that the saga goes on."""
_POLL_S_MIN = 0.05
_POLL_S_MAX = 1.0
_NAMESPACE = uuid5(NAMESPACE_URL, "agent99:saga")


class Door:
    """Takes the requests for one saga of one instance."""

    def __init__(self, host: Host, keeper: Keeper, code: MethodCode) -> None:
        self._host = host
        self._keeper = keeper
        self._code = code

    def __repr__(self) -> str:
        return f"Door({self._host.name!r}, {self._code.operation!r})"

    async def serve(self, context: Context, payload: Any) -> Any:
        """Begin a saga, or find it by its key, and return its answer.

        Raises:
            Failure: the saga has failed, and everything is undone: with the code that its function
                raised, or `SAGA_FAILED` or `SAGA_CANCELLED`. Or `PENDING`: it goes on, and nobody
                waits any longer; `SAGA_STUCK`; `IDEMPOTENCY_CONFLICT`: the key came before with
                another request; or the code of a `JournalError`: whether it was begun is unknown,
                but not where the code is `STREAM_FULL`.
            OverloadedError: too many sagas are in hand; it was not begun.
            TransportError, DeadlineExceededError: whether it was begun is unknown.
        """
        key = context.idempotency_key
        saga_id = self._id_of(key or context.event_id, is_key=key is not None)
        body = encode_body(payload)
        fingerprint = hashlib.sha256(body).hexdigest()
        held = self._keeper.held.get(saga_id)
        if held is None:
            started = self._started(context, body, fingerprint)
            where = context.without_deadline()
            held = self._keeper.begin(saga_id, self._code, started, where)
        finished = await self._wait(held, saga_id, fingerprint, context)
        if finished.error is not None:
            raise _told(finished, finished.error, saga_id)
        return self._code.read(finished)

    def _id_of(self, named: str, *, is_key: bool) -> str:
        kind = "key" if is_key else "event"  # all attempts at one request have one event id
        whole = f"{self._host.name}:{self._code.operation}:{kind}:{named}"
        return str(uuid5(_NAMESPACE, whole))

    def _started(self, context: Context, body: bytes, fingerprint: str) -> Started:
        return Started(
            operation=self._code.operation,
            version=self._code.version,
            owner=self._host.instance,
            fingerprint=fingerprint,
            request=msgspec.Raw(body),
            event_id=context.event_id,
            sender=context.request.from_uuid,
            traceparent=context.trace.traceparent,
            key=context.idempotency_key or "",
            at_us=self._keeper.clock.wall_us(),
        )

    async def _wait(self, held: Held, saga_id: str, fingerprint: str, context: Context) -> Finished:
        """Return how the saga has ended.

        Raises:
            Failure: it has not, or the key is another request's.
        """
        clock, left_s = self._keeper.clock, context.remaining_s()
        until_s = clock.monotonic_s() + left_s - min(_MARGIN_S, left_s * _MARGIN_SHARE)
        assert held.task is not None, "it is held by its task"
        # It ends at once where the saga is not begun.
        await wait_ended(self._host.link.deadlines, held.task, until_s)
        if not held.begun.done() or held.begun.cancelled():
            raise _pending(saga_id)
        _check_begun(held)
        _check_same(held.log.history, fingerprint)
        if not held.task.done():
            raise _pending(saga_id)
        if held.finished is not None:
            return held.finished
        return await self._poll(held, saga_id, fingerprint, until_s)

    async def _poll(self, held: Held, saga_id: str, fingerprint: str, until_s: float) -> Finished:
        """Look how a saga ends that another instance runs."""
        keeper, pause_s = self._keeper, _POLL_S_MIN
        while True:
            try:
                history = await held.log.read()
            except JournalError as error:
                raise _unstored(error) from error
            _check_same(history, fingerprint)
            if history.finished is not None:
                return history.finished
            if history.stuck is not None:
                raise Failure(
                    f"saga {saga_id} is stuck: {history.stuck.error.message}",
                    code=SAGA_STUCK,
                    details={"saga_id": saga_id, "cause": history.stuck.error.code},
                )
            if keeper.clock.monotonic_s() + pause_s >= until_s:
                raise _pending(saga_id)
            await keeper.clock.sleep(pause_s)
            pause_s = min(2 * pause_s, _POLL_S_MAX)


def _told(finished: Finished, error: Error, saga_id: str) -> Failure:
    """Return what the caller is told: his own code's words, or that everything is undone.

    An end is an end: an error that says `later` is why a step was given up, and no answer.
    """
    raised = error.raised()
    if isinstance(raised, Failure) and not raised.retryable:
        return raised
    code = SAGA_CANCELLED if finished.outcome == "cancelled" else SAGA_FAILED
    return Failure(
        f"{error.message}; what took effect is undone",
        code=code,
        details={"saga_id": saga_id, "cause": error.code, **error.details},
    )


def _check_begun(held: Held) -> None:
    try:
        held.begun.result()
    except JournalError as error:
        raise _unstored(error) from error


def _unstored(error: JournalError) -> Failure:
    """Return what a caller is told of a journal that says no: he may ask again by his key."""
    return Failure(str(error), code=error.code, retryable=True)


def _check_same(history: History, fingerprint: str) -> None:
    started = history.started
    if started is not None and started.fingerprint != fingerprint:
        raise Failure(
            str(IdempotencyConflictError(started.key)), code=IdempotencyConflictError.code
        )


def _pending(saga_id: str) -> RequestError:
    return Failure(
        f"saga {saga_id} goes on; ask again with the same key for its end",
        code=PENDING,
        details={"saga_id": saga_id},
        retryable=True,
    )
