"""Consume on JetStream: a durable pull consumer, and requests that are never let run dry.

The server is asked for as many messages as there is room for, and again when half of the room is
free, or when it owes none: so it can send while deliveries are worked on. Nothing waits for an
answer here; messages come by callback. When the link went away, the server is silent longer than
its heartbeats allow, or says that it gave a request up, a fresh inbox is opened and the server is
asked anew: what it may still send to the old one comes again after `ack_wait_s`. There is no task
here: what needs an answer is done when the reader comes for more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from agent99.clock import TimerHandle
from agent99.errors import (
    BufferFullError,
    ClosedError,
    DeadlineExceededError,
    DisconnectedError,
    JournalError,
    RemoteProtocolError,
)
from agent99.journal._api import API, NOT_READY, ConsumerInfo, decode
from agent99.journal._client import JetStreamClient
from agent99.journal._consumers import ensure_consumer, find_consumer, floor_of
from agent99.journal._hands import Hands, Taken, Verdict, resumed
from agent99.journal._headers import field_of
from agent99.journal._port_consumers import ConsumerConfig, DeliveriesStatistics, Delivery
from agent99.journal._port_streams import Record
from agent99.journal._pull import REQUEST_BYTES_MAX, Pull
from agent99.journal._reply import Place
from agent99.journal._settle import BACK, KEEP, tell_verdict
from agent99.journal._streams import stream_info
from agent99.wire import ConnectionState, Message

FLOOR_EVERY_S = 30.0
"""How often the server is asked up to where all is acknowledged: see `resumed`."""
LEAVE_S = 2.0
LEAVE_CANCELLED_S = 0.04
_PAUSE_S_LINK = 0.5
"""Consumers that lost the same server ask again spread over this time."""
_PAUSE_S_MIN = 0.05
_PAUSE_S_MAX = 2.0


class JetStreamDeliveries:
    """Consumes by one durable consumer.

    Invariant: what is in the hands, and what the server owes, is never more than `prefetch_max`;
    while `_lost` is empty the server owes something, or the hands are full.
    """

    def __init__(
        self,
        client: JetStreamClient,
        config: ConsumerConfig,
        *,
        prefetch_max: int,
        heartbeat_s: float,
    ) -> None:
        self._client = client
        self._config = config
        self._prefetch_max = prefetch_max
        self._heartbeat_s = heartbeat_s
        self._hands = Hands(client.clock, held_max=prefetch_max, ack_wait_s=config.ack_wait_s)
        self._pull: Pull | None = None
        self._created = ""  # when the stream was, as the server says it: names it
        self._floor = 0
        self._floor_s = 0.0
        self._epoch = 0
        self._is_deleted = False
        self._lost = "new"
        self._refusal = ""
        self._closed = False
        self._asking = False
        self._timer: TimerHandle | None = None

    def __repr__(self) -> str:
        state = "closed" if self._closed else self._lost or "consuming"
        return f"JetStreamDeliveries({self._config.name!r}, {state}, {self._hands!r})"

    async def __aenter__(self) -> Self:
        self._client.listen(self._on_state)
        try:
            deadline_s = self._client.deadline_s(self._client.patience_s)
            stream = await stream_info(self._client, self._config.stream, deadline_s=deadline_s)
            self._created = stream.created
            self._learn(await ensure_consumer(self._client, self._config, deadline_s=deadline_s))
            self._open()
        except BaseException:
            self._stop()
            raise
        self._watch()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for delivery in self._hands.give_back():
            self._say(delivery.place, BACK)
        self._stop()
        if self._pull is not None:
            is_cancelled = kind is not None and issubclass(kind, asyncio.CancelledError)
            await self._pull.drain(LEAVE_CANCELLED_S if is_cancelled else LEAVE_S)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delivery:
        while not self._closed:
            delivery = self._hands.read()
            if delivery is not None:
                return delivery
            if self._refusal:
                raise JournalError(f"consumer {self._config.name!r}: {self._refusal}")
            if self._lost:
                await self._recover()
            else:
                await self._hands.wait()
        raise StopAsyncIteration

    def on_interruption(self, listen: Callable[[str], None]) -> None:
        """Call `listen` with the reason of each interruption."""
        self._hands.on_interruption(listen)

    def statistics(self) -> DeliveriesStatistics:
        """Return the counts now."""
        return self._hands.statistics()

    # --- what becomes of deliveries ---------------------------------------------------------------

    async def settle(self, delivery: Taken, verdict: Verdict) -> None:
        """Return when the server has noted it.

        Raises:
            JournalError: the consumer was deleted, or is not ready for long, or its server was
                killed and does not know of the delivery.
            DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        told = await tell_verdict(
            self._client,
            self._config,
            delivery,
            verdict,
            is_deleted=lambda: delivery.epoch != self._epoch,
        )
        if told == "deleted":
            if delivery.epoch == self._epoch:
                self.lose("consumer_deleted")
            raise JournalError(f"{delivery!r}: its consumer was deleted: it comes again")
        self._hands.drop(delivery)
        self._ask_soon()
        if told == "forgotten":
            raise JournalError(f"{delivery!r}: the server has forgotten it: it comes again")

    def keep(self, delivery: Taken) -> None:
        """Begin its time anew."""
        self._hands.keep(delivery)
        self._say(delivery.place, KEEP)

    # --- what comes -------------------------------------------------------------------------------

    def take(self, message: Message, place: Place) -> None:
        """Take a message of the consumer's; while leaving, give it back."""
        if self._closed or self._pull is None:
            self._say(message.reply, BACK)
            return
        subject = message.subject.decode("utf-8", "replace")
        record = Record(subject, place.sequence, message.payload, place.stored_ns // 1000)
        headers = message.headers
        message_id = field_of(headers, b"Nats-Msg-Id").decode("utf-8", "replace") if headers else ""
        self._hands.take(
            Taken(
                self,
                record,
                message.reply,
                epoch=self._epoch,
                attempt=place.attempt,
                message_id=message_id,
            )
        )
        if self._pull.owed == 0:
            self.top_up()

    def lose(self, reason: str, words: str = "") -> None:
        """Hear no more here: reading begins anew."""
        if reason == "consumer_deleted" and not self._is_deleted:
            self._is_deleted = True
            self._epoch += 1
            self._hands.clear()
        elif self._lost:
            return
        self._lost = reason
        self._refusal = words
        if self._pull is not None:
            self._pull.close()
            self._pull = None
        self._hands.interrupted(reason)

    def top_up(self) -> None:
        """Ask for as many as there is room for, where half of it is free or nothing is owed."""
        self._asking = False
        pull = self._pull
        if pull is None or self._closed or self._hands.bytes > REQUEST_BYTES_MAX:
            return
        room = self._hands.room - pull.owed
        if 2 * room >= self._prefetch_max or (room > 0 and pull.owed == 0):
            try:
                pull.ask(room)
            except (BufferFullError, ClosedError):
                self.lose("buffer_full")

    def _ask_soon(self) -> None:
        """Ask once all that finishes in this turn of the loop has finished."""
        if not self._asking:
            self._asking = True
            asyncio.get_running_loop().call_soon(self.top_up)

    def _say(self, subject: bytes, signal: bytes) -> None:
        """Publish a signal that the server can do without: what it says is said by time, too."""
        with suppress(BufferFullError, ClosedError):
            self._client.wire.publish(subject, signal)

    def _on_state(self, state: ConnectionState) -> None:
        if state is not ConnectionState.CONNECTED:
            self.lose("link_lost")
        self._hands.wake()

    # --- the consumer -----------------------------------------------------------------------------

    def _open(self) -> None:
        """Hear anew, and ask for what there is room for."""
        config = self._config
        self._lost = ""
        self._is_deleted = False
        self._pull = Pull(
            self._client, config.stream, config.name, self, heartbeat_s=self._heartbeat_s
        )
        self.top_up()

    async def _recover(self) -> None:
        """Find the consumer, or make it again, and hear anew; tries grow longer until one succeeds.

        Raises:
            StreamNotFoundError, JournalError: it cannot be made, and that did not change in time.
            ClosedError: the wire is closed.
            PermissionDeniedError, RemoteProtocolError
        """
        client = self._client
        give_up_s = client.clock.monotonic_s() + client.timeout_s
        pause_s = _PAUSE_S_LINK if self._lost == "link_lost" else _PAUSE_S_MIN
        while not self._closed:
            await client.wait_connected(self._hands.wait, lambda: self._closed)
            await client.clock.sleep(client.ids.fraction() * pause_s)
            try:
                await self._find_or_make(client.deadline_s())
            except JournalError as error:
                left_s = give_up_s - client.clock.monotonic_s()
                may_pass = error.server_code in NOT_READY or not error.server_code
                if not may_pass and left_s <= 0:
                    raise
                pause_s = min(pause_s * 2, _PAUSE_S_MAX if may_pass else left_s)
            except (DeadlineExceededError, DisconnectedError, BufferFullError):
                pause_s = min(pause_s * 2, _PAUSE_S_MAX)
            else:
                self._open()
                return

    async def _find_or_make(self, deadline_s: float) -> None:
        client, config = self._client, self._config
        info = await find_consumer(client, config.stream, config.name, deadline_s=deadline_s)
        if info is None:
            self.lose("consumer_deleted")
            stream = await stream_info(client, config.stream, deadline_s=deadline_s)
            config = resumed(
                config,
                # The stream may be shorter than it was: an older copy of the server's disk.
                min(self._floor, stream.state.last_seq) + 1,
                is_same=stream.created == self._created,
                is_work=stream.config.get("retention") == "workqueue",
            )
            info = await ensure_consumer(client, config, deadline_s=deadline_s)
            self._created = stream.created
        self._learn(info)

    # --- time -------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Look after what only time tells."""
        clock = self._client.clock
        self._hands.lapse()
        if self._pull is not None and self._pull.is_silent():
            self.lose("silence")
        self.top_up()
        if self._pull is not None and clock.monotonic_s() - self._floor_s >= FLOOR_EVERY_S:
            self._ask_floor()
        period_s = min(self._heartbeat_s, self._config.ack_wait_s / 2)
        self._timer = clock.call_later(period_s, self._watch)

    def _ask_floor(self) -> None:
        client, config = self._client, self._config
        self._floor_s = client.clock.monotonic_s()
        subject = API + f"CONSUMER.INFO.{config.stream}.{config.name}".encode()
        with suppress(BufferFullError, ClosedError):
            answer = client.wire.request(subject, b"", deadline_s=client.deadline_s())
            answer.add_done_callback(self._hear_floor)

    def _hear_floor(self, answer: asyncio.Future[Message]) -> None:
        if answer.cancelled() or answer.exception() is not None:
            return  # it is asked for again
        with suppress(RemoteProtocolError):
            info = decode(answer.result().payload, ConsumerInfo)
            if info.error is None:
                self._learn(info)

    def _learn(self, info: ConsumerInfo) -> None:
        self._floor = floor_of(info) or self._floor
        self._floor_s = self._client.clock.monotonic_s()

    def _stop(self) -> None:
        self._closed = True
        self._client.unlisten(self._on_state)
        if self._timer is not None:
            self._timer.cancel()
        self._hands.wake()
