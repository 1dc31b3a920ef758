"""Notices that a member is gone: a ring of pings, as for the owners of sagas.

Each member pings the one before it in the order of their ids. Where the server says that nobody
listens it is gone, within a fraction of a second; one that is silent for `silence_s_max` is treated
alike: should it live, the fence stops it. Whoever finds its neighbour dead looks after all others
at once, so that it does not matter how many died.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from agent99.envelope import Name, is_inbox_of, sender_of
from agent99.errors import Agent99Error, BufferFullError, ClosedError, WrongSequenceError
from agent99.groups._options import GroupOptions
from agent99.groups._parts import Parts
from agent99.groups._place import Membership, encode
from agent99.groups._trust import Trust
from agent99.groups._view import Keys, View
from agent99.journal import Bucket
from agent99.registry import is_gone
from agent99.wire import ConnectionState, Message, Subscription

PING = Name("ping")
"""The operation under which a member answers."""
GRACE_S = 3.0
"""So long after its own link was away a member judges nobody: the others come back, too, within the
2 s to which their pauses grow."""
REJOIN_S = 1.0
"""So long a member that has joined may not be in its own view."""

_log = logging.getLogger("agent99.groups")


class Watch:
    """Is a member of a group, answers for it, and watches another one."""

    def __init__(
        self, parts: Parts, bucket: Bucket, view: View, keys: Keys, options: GroupOptions
    ) -> None:
        self.member = Name(parts.ids.token().decode()[:12])
        """The id of this member: made anew whenever one joins."""
        self.trust = Trust(parts.clock, options.silence_s_max * 2 / 3)
        self._parts = parts
        self._bucket = bucket
        self._view = view
        self._keys = keys
        self._group = Name(keys.group)
        self._options = options
        self._entry = Membership(parts.clock.wall_us())
        self._put_s = 0.0
        self._judges_from_s = 0.0
        self._subscription: Subscription | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"Watch({self._group!r}, {self.member!r})"

    async def join(self) -> None:
        """Answer, and be a member from now on.

        Raises:
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        wire = self._parts.wire
        wire.on_state(self._on_state)
        listen = self._parts.subjects.instance_listen(self._group, self.member)
        self._subscription = wire.subscribe(listen, self._answer)
        await wire.flush()  # who sees the entry can ping
        await self._put(self._entry)

    async def announce_leaving(self) -> None:
        """Want nothing any more; what is in hand is given back in order.

        Raises:
            as `join`.
        """
        await self._put(Membership(self._entry.joined_us, is_leaving=True))

    async def leave(self) -> None:
        """Be no member any more: what is still owned, others take."""
        self._is_closed = True
        try:
            with suppress(Agent99Error):  # whoever watches it removes the entry
                await self._bucket.delete(self._keys.member(self.member))
        finally:
            if self._subscription is not None:
                self._subscription.unsubscribe()

    async def run(self) -> None:
        """Watch, until it leaves."""
        while not self._is_closed:
            await self._parts.clock.sleep(self._options.ping_s)
            try:
                if self._parts.wire.state is ConnectionState.CONNECTED and not self._is_closed:
                    await self._go_round()
            except Agent99Error as error:
                _log.info("%r waits: %s", self, error)

    # --- inside -----------------------------------------------------------------------------------

    async def _go_round(self) -> None:
        began_s = self._parts.clock.monotonic_s()
        await self._parts.wire.flush(self._options.silence_s_max)
        self.trust.confirm(began_s)
        if self.member not in self._view.members and began_s - self._put_s > REJOIN_S:
            self.trust.lose()  # somebody believed it dead
            await self._put(self._entry)
        ring = sorted({*self._view.members, self.member})
        neighbour = ring[ring.index(self.member) - 1]
        if neighbour != self.member and await self._is_gone(neighbour):
            others = [one for one in ring if one not in (neighbour, self.member)]
            are_gone = await asyncio.gather(*map(self._is_gone, others))
            gone = [one for one, is_gone in zip(others, are_gone, strict=True) if is_gone]
            await asyncio.gather(*map(self._remove, [neighbour, *gone]))

    async def _is_gone(self, member: str) -> bool:
        parts, options = self._parts, self._options
        subject = parts.subjects.instance(self._group, Name(member), PING)
        found = await is_gone(
            parts.wire,
            subject,
            parts.clock,
            ping_s=options.ping_s,
            lease_s=options.silence_s_max,
        )
        return found and parts.clock.monotonic_s() >= self._judges_from_s

    async def _remove(self, member: str) -> None:
        """Remove the entry of a member that is gone, unless it has just come back."""
        known = self._view.members.get(member)
        if known is None:
            return
        _log.info("%r finds that %r is gone", self, member)
        with suppress(WrongSequenceError):
            await self._bucket.delete(self._keys.member(member), revision=known[1])

    async def _put(self, entry: Membership) -> None:
        self._entry = entry
        self._put_s = self._parts.clock.monotonic_s()
        await self._bucket.put(self._keys.member(self.member), encode(entry))

    def _answer(self, message: Message) -> None:
        """Say that it is there: to an inbox of whoever asks, as the subject proves."""
        if is_inbox_of(sender_of(message.subject), message.reply):
            with suppress(BufferFullError, ClosedError):  # then it is silent, and is asked again
                self._parts.wire.publish(message.reply, b"")

    def _on_state(self, state: ConnectionState) -> None:
        if not self._is_closed and state is not ConnectionState.CONNECTED:
            self.trust.lose()
        self._judges_from_s = self._parts.clock.monotonic_s() + GRACE_S
