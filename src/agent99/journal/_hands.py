"""What one consumer has in its hands. Both journals keep it here, so that both keep it alike."""

from __future__ import annotations

import math
import re
from collections import Counter, deque
from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from agent99.clock import Clock
from agent99.errors import UsageError
from agent99.journal._port_consumers import ConsumerConfig, DeliveriesStatistics
from agent99.journal._port_streams import Record
from agent99.journal._waiter import Waiter

_REASON = re.compile(r"[ -~]{0,256}")


class Verdict(msgspec.Struct, frozen=True):
    """What becomes of a delivery."""

    kind: Literal["ack", "retry", "terminate"]
    delay_s: float = 0
    reason: str = ""


_ACK = Verdict("ack")


class Settler(Protocol):
    """Who tells the store what became of a delivery."""

    async def settle(self, delivery: Taken, verdict: Verdict) -> None:
        """Return when the store has noted it; the delivery is in nobody's hands then."""
        ...

    def keep(self, delivery: Taken) -> None:
        """Tell that it is being worked on."""
        ...


class Taken:
    """A delivery that was taken: the `Delivery` of both journals."""

    __slots__ = ("_settler", "_verdict", "attempt", "epoch", "message_id", "place", "record")

    def __init__(
        self,
        settler: Settler,
        record: Record,
        place: bytes,
        *,
        epoch: int,
        attempt: int,
        message_id: str,
    ) -> None:
        self.record = record
        self.attempt = attempt
        self.message_id = message_id
        self.epoch = epoch
        """Which consumer of that name it came from; they are counted."""
        self.place = place
        """Names the delivery to the server; empty in the memory."""
        self._settler = settler
        self._verdict = ""

    def __repr__(self) -> str:
        record = self.record
        return f"Delivery({record.subject!r}, {record.sequence}, attempt={self.attempt})"

    async def ack(self) -> None:
        """Tell that it is done: it does not come again."""
        await self._finish(_ACK)

    async def retry(self, delay_s: float = 0) -> None:
        """Give it back: it comes again after `delay_s` seconds."""
        if not 0 <= delay_s < math.inf:
            raise UsageError(f"delay_s is {delay_s}; it must be 0 or more")
        await self._finish(Verdict("retry", delay_s=delay_s))

    def progress(self) -> None:
        """Keep it for another `ack_wait_s`."""
        if not self._verdict:
            self._settler.keep(self)

    async def terminate(self, reason: str) -> None:
        """Give it up: it does not come again."""
        if _REASON.fullmatch(reason) is None:
            raise UsageError(f"a reason is up to 256 characters of printable ASCII: {reason!r}")
        await self._finish(Verdict("terminate", reason=reason))

    async def _finish(self, verdict: Verdict) -> None:
        if self._verdict:
            raise UsageError(f"{self!r} is finished already, by {self._verdict}")
        await self._settler.settle(self, verdict)
        self._verdict = verdict.kind


class Hands:
    """Deliveries between one server and one reader, on one event loop.

    Invariant: what is unread and not held has lapsed, and is not read any more.

    Args:
        held_max: Whoever fills the hands never puts more into them.
        ack_wait_s: What nobody finished or kept for so long is not held any more: the server has
            taken it back.
    """

    def __init__(self, clock: Clock, *, held_max: int, ack_wait_s: float) -> None:
        self._clock = clock
        self._held_max = held_max
        self._ack_wait_s = ack_wait_s
        self._held: dict[Taken, float] = {}  # until when, the earliest first
        self._unread: deque[Taken] = deque()
        self._lapsed = 0
        self.bytes = 0
        """Of the payloads that are held."""
        self._waiter = Waiter()
        self._interruptions: Counter[str] = Counter()
        self._listeners: list[Callable[[str], None]] = []

    def __repr__(self) -> str:
        return f"Hands(held={len(self._held)}, held_max={self._held_max})"

    @property
    def room(self) -> int:
        """How many more fit in."""
        return self._held_max - len(self._held)

    def take(self, delivery: Taken) -> None:
        """Put in a delivery that has come."""
        self._held[delivery] = self._clock.monotonic_s() + self._ack_wait_s
        self.bytes += len(delivery.record.payload)
        self._unread.append(delivery)
        self._waiter.wake()

    def read(self) -> Taken | None:
        """Return the next delivery that nobody has read; it stays in the hands."""
        while self._unread:
            delivery = self._unread.popleft()
            until_s = self._held.get(delivery, 0.0)
            if until_s > self._clock.monotonic_s():
                return delivery
        return None

    def keep(self, delivery: Taken) -> None:
        """Begin its time anew."""
        if self._held.pop(delivery, None) is not None:
            self._held[delivery] = self._clock.monotonic_s() + self._ack_wait_s

    def drop(self, delivery: Taken) -> None:
        """Let go of one that is finished."""
        if self._held.pop(delivery, None) is not None:
            self.bytes -= len(delivery.record.payload)

    def lapse(self) -> None:
        """Let go of those whose time is over."""
        now = self._clock.monotonic_s()
        late: list[Taken] = []
        for delivery, until_s in self._held.items():
            if until_s > now:
                break
            late.append(delivery)
        for delivery in late:
            self.drop(delivery)
        self._lapsed += len(late)

    def clear(self) -> None:
        """Let go of everything: the server does not know it any more."""
        self._held.clear()
        self._unread.clear()
        self.bytes = 0

    def give_back(self) -> list[Taken]:
        """Let go of what nobody has read, and return it."""
        unread = [delivery for delivery in self._unread if delivery in self._held]
        self._unread.clear()
        for delivery in unread:
            self.drop(delivery)
        return unread

    def wake(self) -> None:
        """Let the reader look again, whether something came or the world changed."""
        self._waiter.wake()

    async def wait(self) -> None:
        """Wait until `wake`.

        Raises:
            UsageError: somebody waits already.
        """
        if self._waiter.is_waiting:
            raise UsageError("one task reads deliveries; it may start others")
        await self._waiter.wait()

    def on_interruption(self, listen: Callable[[str], None]) -> None:
        """Call `listen` with the reason of each interruption."""
        self._listeners.append(listen)

    def interrupted(self, reason: str) -> None:
        """Count an interruption, and tell; the reader looks again."""
        self._interruptions[reason] += 1
        for listen in tuple(self._listeners):
            listen(reason)
        self._waiter.wake()

    def statistics(self) -> DeliveriesStatistics:
        """Return the counts now."""
        unread = sum(delivery in self._held for delivery in self._unread)
        return DeliveriesStatistics(
            held=len(self._held),
            unread=unread,
            lapsed=self._lapsed,
            interruptions=dict(self._interruptions),
        )


def resumed(
    config: ConsumerConfig, sequence: int, *, is_same: bool, is_work: bool
) -> ConsumerConfig:
    """Return what a consumer that was deleted under its readers is made again by.

    It begins where all before was acknowledged. By its own start it would deliver everything once
    more, or, where it wants new messages alone, lose those of the meantime.

    Args:
        sequence: The first one that may not have been acknowledged.
        is_same: The stream is the one that it was; else everything in it is new.
        is_work: The stream lets go of what is acknowledged, so there is only one place to start.
    """
    if is_work or (not is_same and config.start == "first"):
        return config
    begin = sequence if is_same else 1
    return msgspec.structs.replace(config, start="first", from_sequence=begin, from_us=None)
