"""The producer of scripts: the same promises, one call after the other."""

from __future__ import annotations

import asyncio

import pytest

from agent99 import Mesh
from agent99.errors import UsageError
from agent99.systems.analytics import BlockingProducer, DataIngestionAgent
from tests.systems.analytics._lines import LINES, batches_of, line, numbers_of


async def test_all_are_stored_at_the_end_of_the_block(mesh: Mesh) -> None:
    """From a thread, records are sent singly and many at once, and the source is ended."""
    await mesh.host(DataIngestionAgent([LINES]))
    blocking = mesh.blocking()

    def script() -> int:
        with BlockingProducer(blocking, LINES) as producer:
            producer.send(line(0))
            producer.flush()
            producer.send_many(line(n) for n in range(1, 2_500))
            producer.finish()
            return producer.statistics.stored

    assert 2_500 == await asyncio.to_thread(script)
    assert dict.fromkeys(range(2_500), 1) == await numbers_of(mesh)
    assert LINES.shards == sum(batch.is_final for batch in await batches_of(mesh))


async def test_ctrl_c_stores_what_was_sent(mesh: Mesh) -> None:
    """Whoever is interrupted within the block gets that, and what was sent is stored."""
    await mesh.host(DataIngestionAgent([LINES]))
    blocking = mesh.blocking()

    def script() -> None:
        with BlockingProducer(blocking, LINES) as producer:
            producer.send(line(7))
            raise KeyboardInterrupt

    def interrupted() -> None:
        with pytest.raises(KeyboardInterrupt):
            script()

    await asyncio.to_thread(interrupted)
    assert {7: 1} == await numbers_of(mesh)


async def test_it_is_for_other_threads(mesh: Mesh) -> None:
    """In the event loop it would wait for itself: that is refused, as outside of its block."""
    producer = BlockingProducer(mesh.blocking(), LINES)
    with pytest.raises(UsageError, match="enter"):
        producer.send(line(1))
    with pytest.raises(UsageError, match="event loop"):
        producer.__enter__()
