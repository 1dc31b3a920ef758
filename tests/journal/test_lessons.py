"""What other clients got wrong with JetStream; `tests/wire/test_lessons.py` has the list."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

import pytest

from agent99.errors import DeadlineExceededError, StreamNotFoundError
from agent99.journal import BucketConfig, JetStreamJournal, StreamConfig
from agent99.testing import ChaosProxy
from agent99.wire import NatsWire
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.journal.conftest import connect


async def test_receipts_that_are_lost_take_no_place(nats_server: NatsServer, name: str) -> None:
    """Appends whose receipts never come end by their deadline, however many; the next one works."""
    async with (
        ChaosProxy(nats_server.port) as proxy,
        aclosing(await connect(f"nats://127.0.0.1:{proxy.port}")) as wire,
    ):
        journal = JetStreamJournal(wire, timeout_s=0.4, patience_s=0.4)
        await journal.ensure_stream(StreamConfig(name=name, subjects=(f"{name}.>",)))
        proxy.lose("to_client")
        began_s = time.monotonic()
        # With an id a receipt is asked for again; without one it must not be.
        ids = [*map(str, range(250)), *[""] * 250]
        appends = [journal.append(f"{name}.a", b"", message_id=one) for one in ids]
        ended = await asyncio.gather(*appends, return_exceptions=True)
        assert time.monotonic() - began_s < 2
        assert {DeadlineExceededError} == {type(one) for one in ended}
        assert set() == journal._client._repeatable
        await eventually(lambda: len(wire._inbox) == 0)
        proxy.heal()
        proxy.reset()
        await eventually(lambda: wire.statistics().reconnects == 1)
        stored = await journal.append(f"{name}.a", b"last", message_id="last")
        assert not stored.duplicate
        await journal.delete_stream(name)


async def test_a_stream_that_goes_away_while_it_is_read_is_no_end(
    wire: NatsWire, name: str
) -> None:
    """The reader is told: what it has not read is not nothing."""
    journal = JetStreamJournal(wire, timeout_s=0.5)
    await journal.ensure_stream(StreamConfig(name=name, subjects=(f"{name}.>",)))
    await asyncio.gather(*(journal.append(f"{name}.a", bytes(100_000)) for _ in range(60)))
    seen: list[int] = []

    async def read() -> None:
        async for record in journal.read(name):
            seen.append(record.sequence)
            if len(seen) == 1:
                await journal.delete_stream(name)

    with pytest.raises(StreamNotFoundError):
        await read()
    assert list(range(1, len(seen) + 1)) == seen
    assert len(seen) < 60


async def test_a_bucket_is_a_file(wire: NatsWire, name: str) -> None:
    """A bucket in the server's memory would be gone with its process."""
    journal = JetStreamJournal(wire)
    await journal.bucket(BucketConfig(name=name))
    answer = await wire.request(
        f"$JS.API.STREAM.INFO.KV_{name}".encode(), b"", deadline_s=time.monotonic() + 5
    )
    assert b'"storage":"file"' in answer.payload
    await journal.delete_stream(f"KV_{name}")
