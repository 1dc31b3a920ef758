"""Values that are larger than a message: whole or not there, whatever happens on their way."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode

import pytest

from agent99.errors import Failure
from tests._nats_server import NatsServer
from tests.systems.cache._nodes import Nodes

MB = 1024 * 1024


def _blob(size: int, salt: str = "") -> bytes:
    """Return bytes of which no two parts are the same."""
    return hashlib.shake_128(salt.encode()).digest(size)


async def test_a_value_of_any_size_comes_back_as_it_was(nats_server: NatsServer) -> None:
    """What was set is what is got, on both sides of a message's bound."""
    async with Nodes(nats_server.url) as nodes:
        await nodes.add(2)
        cache = await nodes.client.cache("s", bytes)
        for size in (0, 384 * 1024, 384 * 1024 + 1, MB, 10 * MB):
            value = _blob(size)
            await cache.set("k", value)
            assert await cache.get("k") == value, size
            hit = await cache.fetch("k")
            assert hit is not None
            assert hit.value == value, size


async def test_a_large_value_outlives_its_owner(nats_server: NatsServer) -> None:
    """With one copy, the death of the owner takes nothing of 10 MiB."""
    value = _blob(10 * MB)
    async with Nodes(nats_server.url) as nodes:
        await nodes.add(3)
        cache = await nodes.client.cache("s", bytes)
        await cache.set("k", value)
        await nodes.stop(nodes.owner("s:k"))
        assert await cache.get("k") == value


@pytest.mark.slow
async def test_a_large_value_moves_to_a_new_node(nats_server: NatsServer) -> None:
    """A partition with a value larger than a message is streamed, and then served there."""
    values = {f"k{number}": _blob(MB, str(number)) for number in range(12)}
    async with Nodes(nats_server.url) as nodes:
        await nodes.add(1)
        cache = await nodes.client.cache("s", bytes)
        await cache.set_many(values)
        await nodes.add(1)
        await nodes.leave(nodes.agents[0])
        assert await cache.get_many(values) == values


async def test_an_append_may_grow_beyond_a_message(nats_server: NatsServer) -> None:
    """What is appended is small, what comes of it is not: the copies have all of it, too."""
    piece = _blob(300 * 1024)
    async with Nodes(nats_server.url) as nodes:
        await nodes.add(2)
        cache = await nodes.client.cache("s", bytes)
        for _ in range(5):
            await cache.append("k", piece)
        await nodes.stop(nodes.owner("s:k"))
        assert await cache.get("k") == piece * 5


async def test_a_value_that_changes_while_it_is_read_is_never_torn(
    nats_server: NatsServer,
) -> None:
    """Each read returns one of the values that were set, whole."""
    values = [_blob(2 * MB, "a"), _blob(3 * MB, "b")]
    async with Nodes(nats_server.url) as nodes:
        await nodes.add(1, replicas=0)
        cache = await nodes.client.cache("s", bytes)
        await cache.set("k", values[0])

        async def write() -> None:
            for number in range(6):
                await cache.set("k", values[number % 2])

        writing = asyncio.create_task(write())
        reads = 0
        while not writing.done() or not reads:
            assert await cache.get("k") in values
            reads += 1
        await writing


async def test_a_value_too_large_for_its_node_is_refused(nats_server: NatsServer) -> None:
    """A fifth of a node's memory is the bound; the answer is a code, and nothing stays staged."""
    async with Nodes(nats_server.url) as nodes:
        await nodes.add(2, memory_bytes=10 * MB)
        cache = await nodes.client.cache("s", bytes)
        with pytest.raises(Failure) as caught:
            await cache.set("k", _blob(2 * MB + 1))
        assert caught.value.code == "VALUE_TOO_LARGE"
        await cache.set("k", _blob(2 * MB))
        with pytest.raises(Failure) as caught:
            await cache.append("k", b"x")
        assert caught.value.code == "VALUE_TOO_LARGE"
        assert [len(one.stay.uploads) for one in nodes.agents if one.stay is not None] == [0, 0]


async def test_a_smaller_node_has_no_copy_of_what_it_cannot_hold(nats_server: NatsServer) -> None:
    """A write does not fail because the copy's node is small: there it counts as evicted."""
    async with Nodes(nats_server.url) as nodes:
        await nodes.add(1, memory_bytes=64 * MB)
        await nodes.add(1, memory_bytes=2 * MB)
        large, small = nodes.agents
        cache = await nodes.client.cache("s", bytes)
        key = next(f"k{n}" for n in range(999) if nodes.owner(f"s:k{n}") is large)
        await cache.set(key, b"old")
        await cache.set(key, _blob(4 * MB))
        assert len(await cache.get(key) or b"") == 4 * MB
        await nodes.leave(large)
        assert nodes.agents == [small]
        assert await cache.get(key) is None


async def test_many_large_values_at_once_share_the_room_for_uploads(
    nats_server: NatsServer,
) -> None:
    """Where not all fit at once they wait for each other; each ends up whole."""
    values = {f"k{number}": _blob(MB, str(number)) for number in range(10)}
    async with Nodes(nats_server.url) as nodes:
        await nodes.add(2, memory_bytes=20 * MB)
        cache = await nodes.client.cache("s", bytes)
        await asyncio.gather(*(cache.set(key, value) for key, value in values.items()))
        assert await cache.get_many(values) == values


async def test_a_write_whose_parts_never_came_changes_nothing(nats_server: NatsServer) -> None:
    """A change that names an upload which is not there, or not whole, is not made."""
    async with Nodes(nats_server.url) as nodes:
        await nodes.add(1, replicas=0)
        (node,) = nodes.agents
        part = {
            "upload": "u",
            "index": 0,
            "size": MB,
            "data": b64encode(_blob(256 * 1024)).decode(),
        }
        staged = await nodes.ask(node, "stage", part)
        assert staged == {"verdict": 0}
        change = [0, "s:k", ""]
        for upload in ("u", "u", "nobody's"):
            write = {"epoch": 0, "changes": [change], "upload": upload}
            written = await nodes.ask(node, "write", write)
            assert written["outcomes"] == []
        assert await (await nodes.client.cache("s", bytes)).get("k") is None
