"""Consuming in memory: one process's part of a consumer."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from agent99.clock import Clock
from agent99.errors import JournalError
from agent99.journal._hands import Hands, Taken, Verdict, resumed
from agent99.journal._memory_consumer import Kept, MemoryConsumer
from agent99.journal._memory_stream import MemoryStream
from agent99.journal._port_consumers import ConsumerConfig, DeliveriesStatistics, Delivery

FindStream = Callable[[str], MemoryStream]
_BACK = Verdict("retry")


class MemoryDeliveries:
    """Consumes by one consumer of a `MemoryJournal`.

    Args:
        find: Returns the stream of a name, or raises `StreamNotFoundError`.
    """

    def __init__(
        self, find: FindStream, config: ConsumerConfig, clock: Clock, *, prefetch_max: int
    ) -> None:
        self._find = find
        self._config = config
        self._clock = clock
        self._hands = Hands(clock, held_max=prefetch_max, ack_wait_s=config.ack_wait_s)
        self._stream: MemoryStream | None = None
        self._consumer: MemoryConsumer | None = None
        self._epoch = 0
        self._resume = 1
        self._closed = False

    def __repr__(self) -> str:
        return f"MemoryDeliveries({self._config.name!r}, {self._hands!r})"

    async def __aenter__(self) -> Self:
        await self._clock.sleep(0)
        self._join()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closed = True
        if self._consumer is not None:
            self._consumer.leave(self)
            for delivery in self._hands.give_back():
                self._consumer.settle(delivery.record.sequence, _BACK)
        self._hands.wake()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delivery:
        while not self._closed:
            delivery = self._hands.read()
            if delivery is not None:
                return delivery
            if self._consumer is None:
                self._join()
            else:
                await self._hands.wait()
        raise StopAsyncIteration

    def on_interruption(self, listen: Callable[[str], None]) -> None:
        """Call `listen` with the reason of each interruption."""
        self._hands.on_interruption(listen)

    def statistics(self) -> DeliveriesStatistics:
        """Return the counts now."""
        return self._hands.statistics()

    # --- what a consumer wants of a taker, and a delivery of its settler --------------------------

    def room(self) -> int:
        """Return how many more deliveries fit."""
        self._hands.lapse()
        return self._hands.room

    def take(self, kept: Kept, attempt: int) -> None:
        """Take a delivery."""
        self._hands.take(
            Taken(
                self,
                kept.record,
                b"",
                epoch=self._epoch,
                attempt=attempt,
                message_id=kept.message_id,
            )
        )

    def lose(self) -> None:
        """The consumer was deleted: what is in hand is nobody's; reading makes it again."""
        assert self._consumer is not None
        self._resume = self._consumer.state().acknowledged_sequence + 1
        self._consumer = None
        self._hands.clear()
        self._hands.interrupted("consumer_deleted")

    async def settle(self, delivery: Taken, verdict: Verdict) -> None:
        """Take note of what became of a delivery.

        Raises:
            JournalError: its consumer was deleted.
        """
        await self._clock.sleep(0)
        if self._consumer is None or delivery.epoch != self._epoch:
            raise JournalError(f"consumer {self._config.name!r} was deleted: it comes again")
        self._hands.drop(delivery)
        self._consumer.settle(delivery.record.sequence, verdict)

    def keep(self, delivery: Taken) -> None:
        """Begin its time anew."""
        if self._consumer is not None and delivery.epoch == self._epoch:
            self._hands.keep(delivery)
            self._consumer.keep(delivery.record.sequence)

    def _join(self) -> None:
        """Consume by the consumer, which is made, or made again where it was."""
        stream = self._find(self._config.stream)
        config = self._config
        if self._stream is not None:
            config = resumed(
                config,
                self._resume,
                is_same=stream is self._stream,
                is_work=stream.config.retention == "work",
            )
        self._stream = stream
        self._epoch += 1
        self._consumer = stream.ensure_consumer(config)
        self._consumer.join(self)
