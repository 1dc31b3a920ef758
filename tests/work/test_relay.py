"""The relay: what transactions left in an outbox is in the stream, in order, whatever happens."""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agent99.envelope import Header, Key, Topic, encode_message
from agent99.errors import StreamNotFoundError
from agent99.ids import SystemIds
from agent99.journal import JetStreamJournal, Journal, MemoryJournal, StreamConfig
from agent99.store import Store, open_store
from agent99.testing import ManualClock
from agent99.work import StreamBounds
from tests._nats_server import NatsServer
from tests._wait import PATIENCE_S, eventually
from tests.work._relays import OPTIONS, TOPIC, Sent, World, add, connected

BYTES_MAX = 64 * 1024
ROOT = Path(__file__).parents[2]


def fresh_mesh() -> str:
    """Return a name that no other test uses."""
    return f"w{SystemIds().token()[:12].decode()}"


@pytest.fixture
def database(tmp_path: Path) -> str:
    """Give the address of a database that is not there yet."""
    return f"sqlite:///{tmp_path}/store.db"


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    """Give an open store."""
    async with open_store(database, options=OPTIONS) as opened:
        yield opened


@pytest.fixture(params=["memory", "nats"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Give a journal of either kind, and names of the test's own."""
    if request.param == "memory":
        yield World(MemoryJournal(), fresh_mesh())
        return
    server: NatsServer = request.getfixturevalue("nats_server")
    async with connected(server.url) as wire:
        made = World(JetStreamJournal(wire), fresh_mesh())
        yield made
        await made.journal.delete_stream(made.streams.log)


async def all_sent(store: Store, timeout_s: float = 10.0) -> None:
    """Return when nothing waits in the outbox."""

    async def is_empty() -> bool:
        return not (await store.outbox.counts()).waiting

    await eventually(is_empty, timeout_s=timeout_s)


async def append_others(world: World, journal: Journal, count: int) -> None:
    """Append events that no outbox knows."""
    subject = world.subjects.log(Topic(TOPIC), Key("other"))
    for number in range(count):
        head = Header(
            type="event", from_uuid="x", to_uuid=TOPIC, event_uuid=f"o{number}", timestamp=1
        )
        message = encode_message(head, b'{"key":"other","number":%d}' % number)
        await journal.append(subject, message, message_id=f"o{number}")


def numbers_of(sent: list[Sent], key: str) -> list[int]:
    """Return a key's numbers in the order of the stream, each id once: as a reader tells them."""
    first = {one.id: one for one in reversed(sent)}
    return [one.number for one in reversed(first.values()) if one.key == key]


async def test_rows_are_sent_in_order_and_once(store: Store, world: World) -> None:
    """Of each key in the order of the transactions; under the ids that they had."""
    relay = world.relay(store)
    for number in range(0, 40, 2):
        await add(store, "a", [number])
        await add(store, "b", [number])
    relay.start()
    for number in range(1, 40, 2):
        await add(store, "c", [number])
    await all_sent(store)
    await relay.stop(2)
    sent = await world.sent()
    assert 60 == len(sent) == len({one.id for one in sent})
    for key, numbers in (("a", range(0, 40, 2)), ("b", range(0, 40, 2)), ("c", range(1, 40, 2))):
        assert list(numbers) == [one.number for one in sent if one.key == key]
    assert 60 == relay.statistics().sent


async def test_a_row_that_is_refused_holds_its_key_alone(store: Store, world: World) -> None:
    """Whatever is behind it, more than are in hand at once: others go, its own key waits."""
    await world.journal.ensure_stream(
        StreamConfig(
            name=world.streams.log,
            subjects=(world.subjects.log_listen(),),
            message_bytes_max=BYTES_MAX,
        )
    )
    relay = world.relay(store)
    await add(store, "big", [0], BYTES_MAX)
    await add(store, "big", range(1, 300))
    await add(store, "small", range(3))
    relay.start()
    async with asyncio.timeout(PATIENCE_S):
        while (await store.outbox.counts()).waiting > 300:
            await asyncio.sleep(0)
    await eventually(lambda: relay.statistics().trouble)
    await relay.stop(2)
    sent = await world.sent()
    assert [] == numbers_of(sent, "big")
    assert [0, 1, 2] == numbers_of(sent, "small")


async def test_stop_sends_what_waits_and_leaves_the_outbox_to_others(
    store: Store, world: World, database: str
) -> None:
    """Within its time; the next one has it at once, without waiting for the lease to end."""
    relay = world.relay(store)
    relay.start()
    await eventually(lambda: relay.statistics().is_owner)
    await add(store, "a", range(100))
    began_s = time.monotonic()
    await relay.stop(2)
    assert time.monotonic() - began_s < 2
    assert 0 == (await store.outbox.counts()).waiting
    async with open_store(database, options=OPTIONS) as other:
        assert await other.outbox.claim() is not None


async def test_an_idle_relay_stops_at_once(database: str) -> None:
    """It does not wait for its next look: by a clock that stands still, that never comes."""
    world = World(MemoryJournal(), fresh_mesh())
    async with open_store(database, options=OPTIONS, clock=ManualClock()) as store:
        relay = world.relay(store)
        relay.start()
        await eventually(lambda: relay._waiting)
        began_s = time.monotonic()
        await relay.stop(PATIENCE_S)
        assert time.monotonic() - began_s < PATIENCE_S


async def test_stop_of_one_that_only_waits_is_quick(
    store: Store, world: World, database: str
) -> None:
    """Whoever does not own the outbox has nothing to send."""
    async with open_store(database, options=OPTIONS) as other:
        lease = await other.outbox.claim()
        assert lease is not None
        relay = world.relay(store)
        relay.start()
        await add(store, "a", [1])
        began_s = time.monotonic()
        await relay.stop(2)
        assert time.monotonic() - began_s < 0.5
        assert lease.is_live
    with pytest.raises(StreamNotFoundError):
        await world.sent()
    await world.streams.ensure_log()


async def test_a_full_stream_keeps_rows_waiting(store: Store) -> None:
    """The relay says so, and goes on, in order, when there is room."""
    journal = MemoryJournal()
    world = World(journal, fresh_mesh(), StreamBounds(log_bytes_max=20_000))
    relay = world.relay(store)
    await add(store, "a", range(30), 1_000)
    relay.start()
    await eventually(lambda: relay.statistics().trouble)
    assert 0 < (await store.outbox.counts()).waiting < 30
    before = await world.sent()
    for sequence in range(1, len(before) + 1):
        await journal.delete(world.streams.log, sequence)
    await all_sent(store)
    after = await world.sent()
    await relay.stop(2)
    assert list(range(30)) == [one.number for one in (*before, *after)]


@pytest.mark.parametrize("others", [0, 5, 20, 25])
async def test_a_stream_that_was_made_anew_is_filled_again(
    store: Store, world: World, others: int
) -> None:
    """Before anything new is sent, in the old order; even where it has grown since."""
    relay = world.relay(store)
    relay.start()
    await add(store, "a", range(20))
    await all_sent(store)
    await world.journal.delete_stream(world.streams.log)
    await world.streams.ensure_log()
    await append_others(world, world.journal, others)
    relay.look_again()
    await add(store, "a", [20])
    await eventually(lambda: relay.statistics().given_back == 20)
    await all_sent(store)
    await relay.stop(2)
    sent = await world.sent()
    assert list(range(21)) == [one.number for one in sent if one.key == "a"]
    assert others + 21 == len(sent)


async def test_a_stream_that_counts_from_below_is_filled_again(store: Store, world: World) -> None:
    """Nobody said that it was made anew, and the link was there all the time."""
    relay = world.relay(store)
    relay.start()
    await add(store, "a", range(20))
    await all_sent(store)
    await world.journal.delete_stream(world.streams.log)
    await add(store, "a", [20])
    await eventually(lambda: relay.statistics().given_back == 20)
    await all_sent(store)
    await add(store, "a", [21])
    await all_sent(store)
    await relay.stop(2)
    sent = [one.number for one in await world.sent() if one.key == "a"]
    assert [*range(20), 20, 21] == sorted(sent)
    assert 22 == len(sent)
    assert 20 == relay.statistics().given_back


@pytest.mark.slow
async def test_an_older_copy_of_the_servers_disk_loses_nothing(
    store: Store, start_nats_server: Callable[..., NatsServer], tmp_path: Path
) -> None:
    """What the stream lost is sent again before what is new, whoever appended in between."""
    server = start_nats_server()
    async with connected(server.url) as wire:
        world = World(JetStreamJournal(wire), fresh_mesh())
        relay = world.relay(store)
        wire.on_state(lambda _: relay.look_again())
        relay.start()
        await add(store, "a", range(20))
        await all_sent(store)
        server.kill()
        shutil.copytree(server.store, tmp_path / "copy")
        server.start()
        await add(store, "a", range(20, 40))
        await all_sent(store, 20)
        server.kill()
        shutil.rmtree(server.store)
        shutil.copytree(tmp_path / "copy", server.store)
        await add(store, "a", range(40, 60))
        await add(store, "b", range(5))
        server.start()
        async with connected(server.url) as other:  # the stream has grown before the relay looks
            await append_others(world, JetStreamJournal(other), 3)
        await all_sent(store, 20)
        await eventually(lambda: relay.statistics().given_back >= 20)
        await all_sent(store, 20)
        await relay.stop(2)
        sent = await world.sent()
    assert list(range(60)) == numbers_of(sent, "a")
    assert list(range(5)) == numbers_of(sent, "b")
    assert 68 == len(sent)


@pytest.mark.slow
async def test_another_process_takes_over_from_a_killed_one(
    store: Store, nats_server: NatsServer, database: str
) -> None:
    """Of two one sends; when it is killed the other does, within the lease and two seconds."""
    mesh = fresh_mesh()
    words = ("-m", "tests.work._relays", nats_server.url, mesh, database)
    first = await asyncio.create_subprocess_exec(
        sys.executable, *words, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert first.stdout is not None
        assert b"owner\n" == await asyncio.wait_for(first.stdout.readline(), 20)
        async with connected(nats_server.url) as wire:
            world = World(JetStreamJournal(wire), mesh)
            relay = world.relay(store)
            relay.start()
            await add(store, "a", range(20))
            await all_sent(store)
            assert 0 == relay.statistics().sent
            first.kill()
            killed_s = time.monotonic()
            await add(store, "a", range(20, 30))
            await all_sent(store, 20)
            took_s = time.monotonic() - killed_s
            await relay.stop(2)
            sent = await world.sent()
            await world.journal.delete_stream(world.streams.log)
    finally:
        if first.returncode is None:
            first.kill()
        await first.wait()
    assert list(range(30)) == [one.number for one in sent]
    assert took_s < OPTIONS.outbox_lease_s + 2
