"""Sagas without a bus: their functions, on a journal in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import NAMESPACE_URL, uuid5

import msgspec

from agent99.clock import Clock, Deadlines, SystemClock
from agent99.envelope import AnswerCodec
from agent99.ids import Ids, SystemIds
from agent99.journal import MemoryJournal, StreamConfig
from agent99.saga import Drive, History, Place, Saga, SagaLog, Started

T = TypeVar("T")

_STREAM = "SAGAS"


class SagaStage:
    """Plays sagas one after the other, each as often as a test wants: as if its process had died.

    Args:
        clock: The source of time; the waits of sagas pass on it.
        ids: The source of randomness.
    """

    def __init__(self, *, clock: Clock | None = None, ids: Ids | None = None) -> None:
        self._clock = clock or SystemClock()
        self._ids = ids or SystemIds()
        self._journal = MemoryJournal(clock=self._clock)
        self._runs = 0

    def __repr__(self) -> str:
        return f"SagaStage(runs={self._runs})"

    async def play(
        self,
        function: Callable[[Saga], Awaitable[T]],
        returns: type[T],
        *,
        key: str,
        version: int = 1,
    ) -> T:
        """Run a saga's function to its end, or go on with it, and return its answer.

        Args:
            function: Takes the saga alone.
            returns: What it answers.
            key: Names the saga: the same key is the same saga. What a function raises that is no
                `Exception` (a `BaseException` of the test's own) breaks the run off like the death
                of its process; the next `play` goes on from the journal.
            version: Of the code.

        Raises:
            RequestError: the saga has failed, or is stuck; see `history`.
            BaseException: that of the function.
        """
        await self._journal.ensure_stream(StreamConfig(name=_STREAM, subjects=("saga.>",)))
        self._runs += 1
        owner = f"run {self._runs}"  # other sagas may be played meanwhile
        log = self._log_of(key, owner)
        if (await log.read()).started is None:
            await log.begin(self._started(key, version, owner))
        elif log.history.finished is None:
            await log.take()
        code = _Code(function, AnswerCodec[T](returns, of="the saga"), version)
        deadlines = Deadlines(self._clock)
        try:
            await Drive(log, code, self._clock, self._ids, deadlines).run()
        finally:
            deadlines.close()
        history = log.history
        if history.finished is None:
            assert history.stuck is not None, "a run that is not broken off ends, or is stuck"
            raise history.stuck.error.raised()
        if history.finished.error is not None:
            raise history.finished.error.raised()
        answer: T = code.read(history)
        return answer

    async def history(self, key: str) -> History:
        """Return what the journal says of a saga."""
        return await self._log_of(key).read()

    def _log_of(self, key: str, owner: str = "nobody") -> SagaLog:
        saga_id = str(uuid5(NAMESPACE_URL, key))
        place = Place(_STREAM, f"saga.{saga_id}", saga_id)
        return SagaLog(self._journal, place, owner, clock=self._clock, ids=self._ids)

    def _started(self, key: str, version: int, owner: str) -> Started:
        return Started(
            operation="played",
            version=version,
            owner=owner,
            fingerprint="",
            request=msgspec.Raw(b"{}"),
            event_id=key,
            key=key,
            at_us=self._clock.wall_us(),
        )


class _Code:
    """A function of a test's, as a drive wants it."""

    operation, since = "played", 1

    def __init__(
        self, function: Callable[[Saga], Awaitable[Any]], codec: AnswerCodec[Any], version: int
    ) -> None:
        self.version = version
        self._function = function
        self._codec = codec

    async def call(self, request: bytes, saga: Saga) -> tuple[bytes, bool]:
        """Run it."""
        del request
        outcome, body = self._codec.encode(await self._function(saga))
        return body, outcome == "value"

    def read(self, history: History) -> Any:
        """Return the answer of a saga that is done."""
        assert history.finished is not None, "it is done"
        body = bytes(history.finished.answer)
        return self._codec.decode_body("value" if history.finished.is_value else "ok", body)
