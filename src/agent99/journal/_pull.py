"""Ask a pull consumer for messages, and hear them: one inbox, and what the server owes to it."""

from __future__ import annotations

from typing import Protocol

import msgspec

from agent99.errors import ClosedError, DeadlineExceededError, DisconnectedError
from agent99.journal._api import API, nanoseconds
from agent99.journal._client import JetStreamClient
from agent99.journal._headers import field_of, number_of, status_of
from agent99.journal._reply import Place, read_reply
from agent99.wire import ConnectionState, Message

REQUEST_BYTES_MAX = 16 * 1024 * 1024
"""Of the messages of one request: more than this never comes in one burst."""
_EXPIRES_S = 30.0
_SILENCE_HEARTBEATS = 2.5
_HEARTBEAT = 100
_NEVER_RIGHT = frozenset({400, 412})
_NOBODY = 503


class Ear(Protocol):
    """Who hears what comes."""

    def take(self, message: Message, place: Place) -> None:
        """Take a message of the consumer's."""
        ...

    def lose(self, reason: str, words: str = "") -> None:
        """Learn that the server was lost: what it owed will not come here."""
        ...

    def top_up(self) -> None:
        """Learn that the server owes less than it did."""
        ...


class Pull:
    """One inbox for one consumer's messages; once in doubt it is closed and another one opened.

    Invariant: the server sends at most `owed` more messages here; while it owes some, it sends them
    or heartbeats.
    """

    def __init__(
        self, client: JetStreamClient, stream: str, name: str, ear: Ear, *, heartbeat_s: float
    ) -> None:
        self.owed = 0
        self._client = client
        self._name = name.encode()
        self._ear = ear
        self._heartbeat_s = heartbeat_s
        self._heard_s = 0.0
        self._subject = API + f"CONSUMER.MSG.NEXT.{stream}.{name}".encode()
        self._inbox = b"_INBOX.%b.%b" % (client.wire.sender, client.ids.token())
        self._subscription = client.wire.subscribe(self._inbox, self._receive)

    def __repr__(self) -> str:
        return f"Pull({self._name.decode()!r}, owed={self.owed})"

    def ask(self, count: int) -> None:
        """Ask for so many more.

        Raises:
            BufferFullError, ClosedError: nothing was asked.
        """
        now = self._client.clock.monotonic_s()
        expires_s = max(_EXPIRES_S, 3 * self._heartbeat_s)  # the server demands more than twice
        request = {
            "batch": count,
            "expires": nanoseconds(expires_s),
            "idle_heartbeat": nanoseconds(self._heartbeat_s),
            "max_bytes": max(REQUEST_BYTES_MAX, 2 * self._client.wire.payload_bytes_max),
        }
        self._client.wire.publish(
            self._subject,
            msgspec.json.encode(request),
            reply=self._inbox,
            deadline_s=now + self._heartbeat_s,
        )
        self.owed += count
        self._heard_s = now

    def is_silent(self) -> bool:
        """Tell whether the server should have been heard of by now."""
        silence_s = self._client.clock.monotonic_s() - self._heard_s
        return self.owed > 0 and silence_s > _SILENCE_HEARTBEATS * self._heartbeat_s

    def close(self) -> None:
        """Hear no more. Idempotent."""
        self._subscription.unsubscribe()

    async def drain(self, timeout_s: float) -> None:
        """Ask the server to send no more, and hear what it has sent already."""
        try:
            if self._client.wire.state is ConnectionState.CONNECTED:
                await self._subscription.drain(timeout_s)
        except (DeadlineExceededError, DisconnectedError, ClosedError):
            return  # what it has sent comes again after `ack_wait_s`
        finally:
            self.close()

    def _receive(self, message: Message) -> None:
        self._heard_s = self._client.clock.monotonic_s()
        if not message.reply:
            self._receive_status(status_of(message.headers), message.headers)
            return
        try:
            place = read_reply(message.reply)
        except ValueError:
            return  # no message of a consumer's: somebody else wrote to the inbox
        if place.consumer == self._name:
            self.owed = max(0, self.owed - 1)
            self._ear.take(message, place)

    def _receive_status(self, status: int, headers: bytes) -> None:
        """Learn what became of a request: it expired, brought what it may, or was given up."""
        if status in (0, _HEARTBEAT):
            return
        left = field_of(headers, b"Nats-Pending-Messages")
        if left:
            self.owed = max(0, self.owed - number_of(headers, b"Nats-Pending-Messages"))
            self._ear.top_up()
            return
        words = headers[13:].partition(b"\r\n")[0].decode("ascii", "replace").strip()
        if status == _NOBODY:
            self._ear.lose("no_responders")
        elif words == "Consumer Deleted":
            self._ear.lose("consumer_deleted")
        elif words == "Leadership Change":
            self._ear.lose("leader_changed")
        else:
            self._ear.lose("refused", words if status in _NEVER_RIGHT else "")
