"""With permissions on, the server proves who asks, and nobody lends out his own rights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nats
import pytest

from agent99 import Mesh, Settings
from agent99.envelope import Header, encode_message
from agent99.errors import PermissionDeniedError, UsageError
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.agent._agents import Shop

CONFIG = """
authorization {
  users: [
    { user: shopkeeper, password: a, permissions: {
        publish: ["_INBOX.>", "a99.main.*.*.*.shopkeeper", "$JS.API.>", "$KV.>", "evil.>"]
        subscribe: [">"] } }
    { user: alice, password: b, permissions: {
        publish: ["a99.main.cap.*.*.alice", "a99.main.ctl.*.*.*.alice", "$JS.API.>", "$KV.>"]
        subscribe: ["_INBOX.alice.>", "$KV.>", "a99.follow.>", "_deliver.>", ">"] } }
    { user: stock, password: c }
  ]
}
"""


def settings(folder: Path, server: NatsServer, user: str) -> Settings:
    """Return the settings of a process that logs in as `user`."""
    url = f"nats://{user}@127.0.0.1:{server.port}"
    return Settings(project=folder, state_folder=folder, url=url, permissions=True)


async def test_the_user_is_the_sender_and_a_forged_reply_is_dropped(
    tmp_path: Path, start_nats_server: Callable[..., NatsServer]
) -> None:
    """The agent learns who asks; a request that wants its answer elsewhere gets none."""
    server = start_nats_server(config=CONFIG)
    shop = Shop()
    async with (
        Mesh(settings=settings(tmp_path, server, "shopkeeper:a")) as mesh,
        Mesh(settings=settings(tmp_path, server, "alice:b")) as alice,
    ):
        await mesh.host(shop)
        await alice.wait_for("shop")
        assert (await alice.request("shop", "whoami"))["sender"] == "alice"
        stolen: list[bytes] = []
        stock = await nats.connect(server.url, user="stock", password="c")

        async def keep(message: object) -> None:
            stolen.append(getattr(message, "data", b""))

        await stock.subscribe("evil.>", cb=keep)
        header = Header(type="request", from_uuid="x", to_uuid="shop", event_uuid="e", timestamp=1)
        await stock.publish(
            "a99.main.cap.shop.whoami.alice", encode_message(header, b"{}"), reply="evil.inbox"
        )
        await stock.flush()
        running = shop._running
        assert running is not None
        await eventually(lambda: running.dispatcher.statistics().dropped == {"forged_reply": 1})
        assert stolen == []
        await stock.close()


async def test_another_senders_name_is_refused_by_the_server(
    tmp_path: Path, start_nats_server: Callable[..., NatsServer]
) -> None:
    """A denied request is a typed error within a round trip, not a timeout."""
    server = start_nats_server(config=CONFIG)
    async with Mesh(settings=settings(tmp_path, server, "alice:b")) as alice:
        wire = alice._link.wire if alice._link is not None else None
        assert wire is not None
        deadline_s = alice._clock.monotonic_s() + 20
        with pytest.raises(PermissionDeniedError):
            await wire.request(b"a99.main.cap.shop.whoami.bob", b"{}", deadline_s=deadline_s)


async def test_a_comma_in_a_password_parts_nothing(
    tmp_path: Path, start_nats_server: Callable[..., NatsServer]
) -> None:
    """Several addresses are parted where another begins."""
    config = 'authorization { users: [ { user: ada, password: "a,b" } ] }'
    server = start_nats_server(config=config)
    async with Mesh(settings=settings(tmp_path, server, "ada:a,b")) as mesh:
        assert mesh.url == server.url


async def test_permissions_need_a_user(tmp_path: Path) -> None:
    """Without one there is nobody to prove."""
    for url in ("nats://127.0.0.1:9", None):
        with pytest.raises(UsageError, match="must name a user"):
            async with Mesh(
                settings=Settings(
                    project=tmp_path, state_folder=tmp_path, url=url, permissions=True
                )
            ):
                pytest.fail("it has no user")
