"""What becomes of a stream whose server's disk is full, and how it comes back.

A small disk is made by a mount, which needs root; without it the campaign is skipped.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from agent99 import Agent, Failure, Mesh, RemoteError, Settings, named, operation
from agent99.errors import StreamFullError
from agent99.journal import BucketConfig, ConsumerConfig, JetStreamJournal, StreamConfig
from tests._faults import Fault, Figure
from tests._nats_server import NatsServer
from tests._wait import PATIENCE_S
from tests.journal.conftest import connect

StartNatsServer = Callable[..., NatsServer]
_MANY = 1_000
_BYTES = 100_000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounts need root"),
]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], None]]:
    """Put the first server's store on a disk of 12 MB; gives `resize(megabytes)`."""
    store = tmp_path / "nats-0" / "store"
    store.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(store)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no mount: {mounted.stderr}")

    def resize(megabytes: int) -> None:
        option = f"remount,size={megabytes}m"
        subprocess.run(["mount", "-o", option, str(store)], check=True)

    yield resize
    subprocess.run(["umount", "-l", str(store)], check=True)


async def _fill(journal: JetStreamJournal, message_id: str = "") -> list[int]:
    """Append until the disk is full; return what was acknowledged."""
    stored: list[int] = []
    for number in range(_MANY):
        identity = f"{message_id}{number}" if message_id else ""
        try:
            receipt = await journal.append("s.a", os.urandom(_BYTES), message_id=identity)
        except StreamFullError:
            return stored
        stored.append(receipt.sequence)
    raise AssertionError("the disk is never full")


async def _refused(journal: JetStreamJournal, message_id: str = "") -> float:
    """Append a little, which must be refused; return after how long."""
    began_s = time.monotonic()
    with pytest.raises(StreamFullError):
        await journal.append("s.a", b"x", message_id=message_id)
    return time.monotonic() - began_s


@pytest.mark.fault("F9", "the disk of a server is full, then enlarged, then the server restarted")
@pytest.mark.parametrize("message_id", ["", "m"])
async def test_full_disk(
    start_nats_server: StartNatsServer,
    small_disk: Callable[[int], None],
    message_id: str,
    fault: Fault,
) -> None:
    """Appends are refused by a typed error; what was acknowledged is there; a restart recovers."""
    # By itself the server uses three quarters of a disk; so another one's files may fill it.
    server = start_nats_server(config="jetstream { max_file_store: 1GB }")
    async with aclosing(await connect(server.url)) as wire:
        journal = JetStreamJournal(wire)
        await journal.ensure_stream(StreamConfig(name="s", subjects=("s.>",)))
        await journal.ensure_stream(StreamConfig(name="t", subjects=("t.>",)))
        bucket = await journal.bucket(BucketConfig(name="b", bytes_max=1_000_000))
        await journal.append("t.a", b"before")
        await bucket.put("k", b"before")
        stored = await _fill(journal, message_id)
        refused_s = max([await _refused(journal, message_id) for _ in range(3)])
        with pytest.raises(StreamFullError):
            await journal.delete("s", 1)
        held = [record.sequence async for record in journal.read("s")]
        entry = await bucket.get("k")
        assert entry is not None
        assert b"before" == entry.value
        small_disk(60)
        frozen_s = await _refused(journal, message_id)
        other = await journal.append("t.a", b"other streams go on")
        assert 2 == other.sequence
        server.restart()
        after = [record.sequence async for record in journal.read("s")]
        receipt = await journal.append("s.a", b"again", message_id="again")
        async with journal.consume(ConsumerConfig(stream="s", name="c")) as deliveries:
            await (await anext(deliveries)).ack()
    fault.report(
        Figure("acknowledged", len(stored)),
        Figure("attempts until the typed error", 1, at_most=3),
        Figure("the typed error comes within", refused_s, "s", at_most=3),
        Figure("with room again, but not restarted, within", frozen_s, "s", at_most=3),
        Figure("acknowledged and lost while full", len(set(stored) - set(held)), at_most=0),
        Figure("acknowledged and lost after it", len(set(stored) - set(after)), at_most=0),
        Figure("next sequence after the restart", receipt.sequence, at_least=len(stored) + 1),
    )


@pytest.mark.usefixtures("small_disk")
async def test_full_by_the_servers_own_bound(start_nats_server: StartNatsServer) -> None:
    """A server that keeps within its bound refuses at once; what is deleted makes room again."""
    server = start_nats_server()
    async with aclosing(await connect(server.url)) as wire:
        journal = JetStreamJournal(wire)
        await journal.ensure_stream(StreamConfig(name="s", subjects=("s.>",)))
        stored = await _fill(journal)
        assert await _refused(journal) < 0.5
        for sequence in stored[:20]:
            await journal.delete("s", sequence)
        receipt = await journal.append("s.a", b"again")
        assert receipt.sequence == stored[-1] + 1


class Scribe(Agent):
    """Stores what it is told."""

    capabilities = ("scribe",)

    @operation
    async def write(self, text: str) -> None:
        """Append it, or say why not."""
        try:
            await self.append("page.written", {"text": text})
        except StreamFullError as error:
            raise Failure(str(error), code=error.code, retryable=True) from error


@pytest.mark.fault("F9", "the disk is full under an agent that appends, then as above")
async def test_an_agent_on_a_full_disk_is_red(
    start_nats_server: StartNatsServer,
    small_disk: Callable[[int], None],
    tmp_path: Path,
    fault: Fault,
) -> None:
    """Its caller gets the typed error, its status names the stream; a restart makes it well."""
    server = start_nats_server(config="jetstream { max_file_store: 8GB }")
    settings = Settings(project=tmp_path, state_folder=tmp_path, url=server.url, mesh="t")
    async with Mesh(settings=settings) as mesh:
        await mesh.host(Scribe())

        async def write(text: str) -> str:
            try:
                await mesh.request("scribe", "write", {"text": text}, timeout_s=10)
            except RemoteError as error:
                return error.code
            return ""

        async def health() -> tuple[str, list[str]]:
            (status,) = (await mesh.control(named("scribe"), "status")).results
            return status["state"], status["full"]

        stored = 0
        while not (code := await write("x" * _BYTES)):
            stored += 1
        assert "STREAM_FULL" == code
        assert ("degraded", ["A99_t_LOG"]) == await health()
        small_disk(60)
        assert "STREAM_FULL" == await write("frozen")
        server.restart()
        async with asyncio.timeout(PATIENCE_S):
            while await write("again"):
                await mesh.wait_for("scribe")
        assert ("ready", []) == await health()
        (log,) = [one.state for one in await mesh.ledger.streams() if one.state.messages]
    fault.report(
        Figure("acknowledged", stored),
        Figure("acknowledged and lost", stored + 1 - log.messages, at_most=0),
    )
