"""What a namespace may take, at all nodes together."""

from __future__ import annotations

import pytest

from agent99.errors import Failure, UsageError
from agent99.systems.cache._book import TableBook
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.systems.cache._nodes import Nodes

KIB = 1024
QUOTA = 256 * KIB


def _shares(nodes: Nodes, namespace: str) -> list[int | None]:
    stays = [node.stay for node in nodes.agents]
    return [stay.quotas.shares.get(namespace) for stay in stays if stay is not None]


async def test_a_quota_bounds_a_namespace_at_all_nodes(nats_server: NatsServer) -> None:
    """However much is set, what is owned stays within the quota; others are not concerned."""
    async with Nodes(nats_server.url) as nodes:
        await nodes.add(2)
        bounded = await nodes.client.cache("bounded", bytes)
        free = await nodes.client.cache("free", bytes)
        values = {f"k{n}": bytes(KIB) for n in range(1_000)}
        await bounded.set_many(values)
        before = await bounded.statistics()
        assert (before.entries, before.quota_bytes) == (1_000, None)
        await bounded.configure(quota_bytes=QUOTA)
        await eventually(lambda: None not in _shares(nodes, "bounded"))
        assert sum(share or 0 for share in _shares(nodes, "bounded")) <= QUOTA
        await bounded.set_many(values)
        await free.set_many(values)
        after = await bounded.statistics()
        assert after.quota_bytes == QUOTA
        assert QUOTA // 2 < after.bytes <= QUOTA
        assert after.entries == len(await bounded.get_many(values))
        assert (await free.statistics()).entries == 1_000
        await bounded.configure(quota_bytes=None)
        await eventually(lambda: _shares(nodes, "bounded") == [None, None])
        await bounded.set_many(values)
        assert (await bounded.statistics()).entries == 1_000


async def test_shares_follow_the_partitions(nats_server: NatsServer) -> None:
    """Who comes gets a share, and who stays alone has all of it; it is known to later nodes."""
    async with Nodes(nats_server.url) as nodes:
        await nodes.add(1)
        cache = await nodes.client.cache("s", bytes)
        await cache.configure(quota_bytes=QUOTA)
        await eventually(lambda: _shares(nodes, "s") == [QUOTA])
        await nodes.add(1)
        await eventually(lambda: _shares(nodes, "s") == [QUOTA // 2, QUOTA // 2])
        await nodes.leave(nodes.agents[0])
        await eventually(lambda: _shares(nodes, "s") == [QUOTA])


async def test_a_value_larger_than_the_share_is_refused(nats_server: NatsServer) -> None:
    """It is not set and lost at once: the caller is told, and what was there stays."""
    async with Nodes(nats_server.url) as nodes:
        await nodes.add(1)
        cache = await nodes.client.cache("s", bytes)
        await cache.set("k", b"old")
        await cache.configure(quota_bytes=10 * KIB)
        await eventually(lambda: _shares(nodes, "s") == [10 * KIB])
        with pytest.raises(Failure) as caught:
            await cache.set("k", bytes(10 * KIB))
        assert caught.value.code == "VALUE_TOO_LARGE"
        assert await cache.get("k") == b"old"


@pytest.mark.parametrize("quota", [0, -1, True, 1.5, "1", 2**62])
async def test_a_quota_that_is_none_is_refused(nats_server: NatsServer, quota: int) -> None:
    """Nothing is written."""
    async with Nodes(nats_server.url) as nodes:
        cache = await nodes.client.cache("s", bytes)
        with pytest.raises(UsageError):
            await cache.configure(quota_bytes=quota)
        assert (await cache.statistics()).quota_bytes is None


async def test_rules_that_cannot_be_read_hold_for_nothing(nats_server: NatsServer) -> None:
    """Whoever writes nonsense into the bucket harms no node, and the next rules hold."""
    async with Nodes(nats_server.url) as nodes:
        await nodes.add(1)
        cache = await nodes.client.cache("s", bytes)
        book: TableBook = cache._client.book
        bucket = await book.bucket()
        for nonsense in (b"", b"{", b"7", b'{"quota_bytes":-1}', b'{"quota_bytes":"x"}', b"\xff"):
            await bucket.put("ns.s", nonsense)
        await bucket.put("strange", b"?")
        await bucket.delete("strange")
        await cache.configure(quota_bytes=QUOTA)
        await eventually(lambda: _shares(nodes, "s") == [QUOTA])
        await bucket.delete("ns.s")
        await eventually(lambda: _shares(nodes, "s") == [None])
        await cache.set("k", b"v")
