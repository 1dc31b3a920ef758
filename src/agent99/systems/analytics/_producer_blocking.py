"""A producer for plain `def` operations, scripts and notebooks."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Generic, Self, TypeVar

import msgspec

from agent99.agent import Blocking
from agent99.errors import UsageError
from agent99.systems.analytics._produced import ProducerOptions, ProducerStatistics
from agent99.systems.analytics._producer import Asks, Producer
from agent99.systems.analytics._source import Source

R = TypeVar("R", bound=msgspec.Struct)


AT_ONCE = 1_000
"""Records that are handed over together."""


class BlockingProducer(Generic[R]):
    """Each method waits for its result; call it from a thread that is not the event loop's.

        with connect() as mesh, BlockingProducer(mesh, LINES) as producer:
            producer.send_many(lines)

    The promises and errors are those of the methods of the same name of `Producer`. Each call goes
    to the event loop and back, in some 50 µs: `send_many` does so once for a thousand records.
    """

    def __init__(
        self, of: Blocking, source: Source[R], *, options: ProducerOptions | None = None
    ) -> None:
        self.source = source
        self._of = of
        self._options = options
        self._producer: Producer[R] | None = None

    def __repr__(self) -> str:
        return f"BlockingProducer({self.source.name!r}, {self._producer!r})"

    def __enter__(self) -> Self:
        """Begin to send.

        Raises:
            UsageError: it was used before.
            ClosedError: the mesh is closed.
        """
        if self._producer is not None:
            raise UsageError("a producer is entered once")
        self._producer = self._of.run(self._open)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Store what was sent, and end; after an error, Ctrl-C too, what can be stored in 5 s."""
        producer = self._entered()
        self._of.run(lambda _: producer.__aexit__(kind, error, trace))

    def send(self, record: R) -> None:
        """Take a record; see `Producer.send`."""
        producer = self._entered()
        self._of.run(lambda _: producer.send(record))

    def send_many(self, records: Iterable[R]) -> None:
        """Take records one after the other; see `Producer.send_many`."""
        producer = self._entered()
        coming = iter(records)
        while several := list(islice(coming, AT_ONCE)):  # drawn here: what yields them may block
            self._of.run(partial(_send_many, producer, several))

    def flush(self) -> None:
        """Wait until all that was sent before is stored; see `Producer.flush`."""
        producer = self._entered()
        self._of.run(lambda _: producer.flush())

    def finish(self) -> None:
        """Store that no more comes; see `Producer.finish`."""
        producer = self._entered()
        self._of.run(lambda _: producer.finish())

    @property
    def statistics(self) -> ProducerStatistics:
        """What became of the records."""
        return self._entered().statistics

    # --- inside -----------------------------------------------------------------------------------

    async def _open(self, asks: Asks) -> Producer[R]:
        return await Producer(asks, self.source, options=self._options).__aenter__()

    def _entered(self) -> Producer[R]:
        if self._producer is None:
            raise UsageError("enter the producer first: `with BlockingProducer(...) as producer`")
        return self._producer


async def _send_many(producer: Producer[R], records: list[R], _asks: object) -> None:
    await producer.send_many(records)
