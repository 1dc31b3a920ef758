"""Ask JetStream over the wire: again while it is not ready, never past the deadline."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Awaitable, Callable

import msgspec

from agent99.clock import Clock
from agent99.errors import (
    Agent99Error,
    ClosedError,
    DeadlineExceededError,
    DisconnectedError,
    JournalError,
    NoRespondersError,
    RemoteProtocolError,
    StreamNotFoundError,
)
from agent99.ids import Ids
from agent99.journal._api import (
    API,
    NOT_READY,
    STREAM_NOT_FOUND,
    AnswerT,
    MessageAnswer,
    PublishAck,
    StoredMessage,
    StreamInfo,
    StreamNames,
    decode,
    error_of,
)
from agent99.journal._doubt import Doubts
from agent99.journal._headers import status_of
from agent99.wire import ConnectionState, Message, Wire

_PAUSE_S_MIN = 0.05
_PAUSE_S_MAX = 0.5
_FOUND_NOTHING = 404
_DOUBT_S = 1.0
"""A receipt that takes longer is looked after."""
_NAMES_S = 0.5

_encode = msgspec.json.encode
_decode_ack = msgspec.json.Decoder(PublishAck).decode


class JetStreamClient:
    """What every part of the JetStream journal shares: the wire, the deadline, the retries.

    A request is sent again when it provably had no effect (nobody listened, not ready yet), or when
    it may be repeated without harm and the link went away, or no answer came in a third of the
    time: an answer can be lost with the link.

    Args:
        wire: Carries the requests; stays the caller's to close.
        timeout_s: Each call ends by then,
        patience_s: or by then, where it must get through an election and may be repeated without
            harm: an append with an id, an acknowledgement.
    """

    def __init__(
        self, wire: Wire, *, clock: Clock, ids: Ids, timeout_s: float, patience_s: float
    ) -> None:
        self.wire = wire
        self.clock = clock
        self.ids = ids
        self.timeout_s = timeout_s
        self.patience_s = patience_s
        self._try_s = max(timeout_s / 3, 0.2)
        self._doubts = Doubts(wire, clock=clock, after_s=min(_DOUBT_S, self._try_s / 2))
        self._listeners: set[Callable[[ConnectionState], None]] = set()
        self._repeatable: set[Future[Message]] = set()
        wire.on_state(self._tell_state)

    def __repr__(self) -> str:
        return f"JetStreamClient(timeout_s={self.timeout_s})"

    def listen(self, listener: Callable[[ConnectionState], None]) -> None:
        """Tell `listener` of each change of the wire's state, until `unlisten`."""
        self._listeners.add(listener)

    def unlisten(self, listener: Callable[[ConnectionState], None]) -> None:
        """Tell it no more."""
        self._listeners.discard(listener)

    async def wait_connected(
        self, wait: Callable[[], Awaitable[None]], is_closed: Callable[[], bool]
    ) -> None:
        """Return once there is a link, or nobody wants one any more.

        Args:
            wait: Waits until the state of the wire, or anything else, has changed.
            is_closed: Tells that nobody wants it any more.

        Raises:
            ClosedError: the wire is closed.
        """
        while not is_closed() and self.wire.state is not ConnectionState.CONNECTED:
            if self.wire.state in (ConnectionState.CLOSED, ConnectionState.DRAINING):
                raise ClosedError("wire")
            await wait()

    def deadline_s(self, timeout_s: float | None = None) -> float:
        """Return when a call that begins now ends; hand it to each request that the call makes."""
        return self.clock.monotonic_s() + (self.timeout_s if timeout_s is None else timeout_s)

    async def call(
        self, verb: str, request: object, kind: type[AnswerT], *, deadline_s: float
    ) -> AnswerT:
        """Ask the API, whose requests may all be repeated, and return the answer, error or not.

        Raises:
            JournalError: JetStream is not there, or did not get ready in time.
            DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        subject = API + verb.encode()
        body = b"" if request is None else _encode(request)
        retry = Retry(self, deadline_s)
        while True:
            try:
                message = await self.ask_once(subject, body, deadline_s)
            except NoRespondersError:
                await retry.pause(JournalError("JetStream does not answer on this server"))
            except (DeadlineExceededError, DisconnectedError) as error:
                await retry.pause(error)
            else:
                answer = decode(message.payload, kind)
                if answer.error is None or answer.error.err_code not in NOT_READY:
                    return answer
                await retry.pause(error_of(answer.error, verb))

    async def demand(
        self, verb: str, request: object, kind: type[AnswerT], *, deadline_s: float
    ) -> AnswerT:
        """Ask the API and return the answer, which is no error: that is raised."""
        answer = await self.call(verb, request, kind, deadline_s=deadline_s)
        if answer.error is not None:
            raise error_of(answer.error, verb)
        return answer

    async def publish(
        self,
        subject: bytes,
        payload: bytes,
        *,
        deadline_s: float,
        headers: bytes = b"",
        repeatable: bool = False,
    ) -> PublishAck:
        """Store a message and return the server's receipt, error or not.

        Raises:
            StreamNotFoundError: no stream takes the subject.
            StreamFullError: the stream takes it and cannot store it: its disk is full.
            JournalError: JetStream is not there, or did not get ready in time.
            DeadlineExceededError: no receipt came; the message may be stored.
            PayloadTooLargeError, TransportError, RemoteProtocolError, ClosedError
        """
        retry, is_known = Retry(self, deadline_s), False
        while True:
            try:
                message = await self._store(
                    subject, payload, deadline_s, headers, repeatable=repeatable
                )
            except NoRespondersError as error:
                if not is_known:
                    await self._check_taken(subject.decode(), deadline_s)
                is_known = True
                await retry.pause(JournalError(f"{error}: its stream is not ready"))
            except (DeadlineExceededError, DisconnectedError) as error:
                if not repeatable:
                    raise
                await retry.pause(error)
            else:
                ack = _read_ack(message.payload)
                if ack.error is None or ack.error.err_code not in NOT_READY:
                    return ack
                await retry.pause(error_of(ack.error, subject.decode()))

    async def direct_get(self, stream: str, subject: str) -> Message | None:
        """Return the last message of a subject, by whichever replica is quickest; None: no message.

        Raises:
            StreamNotFoundError: there is no such stream.
            JournalError: it does not allow direct reads, or JetStream is not ready.
            DeadlineExceededError, TransportError, ClosedError
        """
        request = f"$JS.API.DIRECT.GET.{stream}.{subject}".encode()
        deadline_s = self.deadline_s()
        retry = Retry(self, deadline_s)
        while True:
            try:
                message = await self.ask_once(request, b"", deadline_s)
            except NoRespondersError:
                await retry.pause(await self.why_no_direct(stream, deadline_s))
            except (DeadlineExceededError, DisconnectedError) as error:
                await retry.pause(error)
            else:
                status = status_of(message.headers)
                if status == 0:
                    return message
                if status == _FOUND_NOTHING:
                    return None
                await retry.pause(JournalError(f"stream {stream!r}: direct read answers {status}"))

    async def leader_get(
        self, stream: str, request: dict[str, object], *, deadline_s: float
    ) -> StoredMessage | None:
        """Look a message up at the stream's leader, which is never behind; None: no message."""
        verb = f"STREAM.MSG.GET.{stream}"
        answer = await self.call(verb, request, MessageAnswer, deadline_s=deadline_s)
        if answer.error is None:
            return answer.message
        if answer.error.code == _FOUND_NOTHING and answer.error.err_code != STREAM_NOT_FOUND:
            return None
        raise error_of(answer.error, f"stream {stream!r}")

    async def why_no_direct(self, stream: str, deadline_s: float) -> JournalError:
        """Return why nobody answers direct reads, when it may pass; raise it when it does not."""
        info = await self.call(f"STREAM.INFO.{stream}", None, StreamInfo, deadline_s=deadline_s)
        if info.error is not None:
            raise error_of(info.error, f"stream {stream!r}")
        if not info.config.get("allow_direct"):
            raise JournalError(f"stream {stream!r} does not allow direct reads; ensure it first")
        return JournalError(f"stream {stream!r} is not ready for direct reads")

    async def ask_once(
        self, subject: bytes, payload: bytes, deadline_s: float, headers: bytes = b""
    ) -> Message:
        """Ask once; ends early, with an error, when the link goes away or nothing comes."""
        until_s = min(deadline_s, self.clock.monotonic_s() + self._try_s)
        answer = self.wire.request(subject, payload, deadline_s=until_s, headers=headers)
        self._repeatable.add(answer)
        try:
            return await answer
        finally:
            self._repeatable.discard(answer)

    async def _store(
        self,
        subject: bytes,
        payload: bytes,
        deadline_s: float,
        headers: bytes,
        *,
        repeatable: bool,
    ) -> Message:
        """Send an append once; ends early as `ask_once`, where it may be repeated."""
        until_s = deadline_s
        if repeatable:
            until_s = min(deadline_s, self.clock.monotonic_s() + self._try_s)
        answer = self.wire.request(subject, payload, deadline_s=until_s, headers=headers)
        self._doubts.watch(subject, answer)
        if repeatable:
            self._repeatable.add(answer)
        try:
            return await answer
        finally:
            self._doubts.unwatch(answer)
            self._repeatable.discard(answer)

    async def _check_taken(self, subject: str, deadline_s: float) -> None:
        """Find out whether any stream takes a subject that nobody takes now; raise if none does.

        Who knows all streams may be away for longer than the stream is: nobody waits for him.
        """
        request = {"subject": subject}
        until_s = min(deadline_s, self.clock.monotonic_s() + _NAMES_S)
        try:
            names = await self.call("STREAM.NAMES", request, StreamNames, deadline_s=until_s)
        except (JournalError, DeadlineExceededError, DisconnectedError):
            return
        if names.error is not None:
            raise error_of(names.error, subject)
        if not names.streams:
            raise StreamNotFoundError(f"no stream takes subject {subject!r}")

    def _tell_state(self, state: ConnectionState) -> None:
        if state is ConnectionState.RECONNECTING:
            self._doubts.lose_link()
            for answer in self._repeatable:
                if not answer.done():
                    answer.set_exception(
                        DisconnectedError("the link went away before the answer came")
                    )
        for listener in tuple(self._listeners):
            listener(state)


class Retry:
    """The pauses between tries, growing and jittered, up to a deadline."""

    def __init__(self, client: JetStreamClient, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self._client = client
        self._pause_s = _PAUSE_S_MIN

    def __repr__(self) -> str:
        return f"Retry(deadline_s={self.deadline_s})"

    async def pause(self, trouble: Agent99Error) -> None:
        """Wait before the next try; raises `trouble` when there is no time for one."""
        pause_s = self._pause_s * (0.5 + self._client.ids.fraction())
        if self._client.clock.monotonic_s() + pause_s >= self.deadline_s:
            raise trouble
        self._pause_s = min(self._pause_s * 2, _PAUSE_S_MAX)
        await self._client.clock.sleep(pause_s)


def _read_ack(payload: bytes) -> PublishAck:
    try:
        ack = _decode_ack(payload)
    except msgspec.DecodeError as error:
        raise RemoteProtocolError(f"no receipt of JetStream's: {error}") from error
    if ack.error is None and not ack.stream:
        raise RemoteProtocolError("somebody who is no stream answered an append")
    return ack
