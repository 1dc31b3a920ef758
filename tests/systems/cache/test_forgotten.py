"""Copies may remember what their owner has evicted: what is deleted stays so for them too."""

from __future__ import annotations

from tests._nats_server import NatsServer
from tests.systems.cache._nodes import Nodes


async def test_what_an_owner_forgot_and_was_told_to_delete_does_not_come_back(
    nats_server: NatsServer,
) -> None:
    """A key that its owner evicted, and that is deleted then, is gone at its copy as well."""
    async with Nodes(nats_server.url) as nodes:
        await nodes.add(2)
        cache = await nodes.client.cache("s", str)
        await cache.set("k", "old")
        owner = nodes.owner("s:k")
        assert owner.stay is not None
        owner.stay.store.limit("s", 1)  # makes room at the owner, and not at the copy
        owner.stay.store.limit("s", None)
        assert await cache.get("k") is None
        assert await cache.delete("k") is False
        await nodes.stop(owner)
        assert await cache.get("k") is None
