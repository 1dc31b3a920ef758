"""With permissions on, a member needs the rights that the guide lists, and no others."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from agent99 import Mesh, Settings
from agent99.groups import Broadcast, Group
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.agent.test_permissions import REGISTRY
from tests.groups.test_again import Desk, kept_one
from tests.groups.test_event_group import QUICK as BY_EVENT
from tests.groups.test_event_group import Heard
from tests.groups.test_group import Seen, fill, held

_LOG, _BUCKET = "A99_main_LOG", "KV_a99_main_groups"
_DEAD = "A99_main_DEAD_billing"
_LOST = "A99_main_DEAD_prices"
_ROOM = f"""
  "a99.main.one.billing.*.ping.clerk", "_INBOX.>", "$KV.a99_main_groups.billing.>"
  "$JS.API.STREAM.CREATE.{_LOG}", "$JS.API.STREAM.INFO.{_LOG}"
  "$JS.API.CONSUMER.CREATE.{_LOG}.*", "$JS.API.CONSUMER.MSG.NEXT.{_LOG}.*"
  "$JS.API.CONSUMER.DELETE.{_LOG}.*"
  "$JS.API.STREAM.CREATE.{_BUCKET}", "$JS.API.DIRECT.GET.{_BUCKET}"
  "$JS.API.DIRECT.GET.{_BUCKET}.>"
  "$JS.API.CONSUMER.CREATE.{_BUCKET}.*", "$JS.API.CONSUMER.DELETE.{_BUCKET}.*", "$JS.FC.>"
"""
CONFIG = f"""
authorization {{
  users: [
    {{ user: clerk, password: a, permissions: {{
        publish: {{ allow: [{REGISTRY} {_ROOM}
          "$JS.API.STREAM.CREATE.{_DEAD}", "$JS.API.STREAM.NAMES", "a99.main.dead.billing.batch"] }}
        subscribe: ["_INBOX.clerk.>", "a99.main.one.billing.>"] }} }}
    {{ user: shop, password: b, permissions: {{
        publish: {{ allow: ["a99.main.log.*.shop.*.order.placed" {REGISTRY}
          "$JS.API.STREAM.CREATE.{_LOG}", "$JS.API.STREAM.NAMES"] }}
        subscribe: ["_INBOX.shop.>"] }} }}
    {{ user: mender, password: c, permissions: {{
        publish: {{ allow: [{REGISTRY}
          "$JS.API.STREAM.LIST", "$JS.API.DIRECT.GET.{_DEAD}", "$JS.API.STREAM.MSG.DELETE.{_DEAD}"
          "$JS.API.DIRECT.GET.{_LOST}", "$JS.API.STREAM.MSG.DELETE.{_LOST}"
          "a99.main.again.*.billing.>", "a99.main.again.*.prices.>"
          "a99.main.name.prices.hears.mender"
          "$JS.API.STREAM.CREATE.{_BUCKET}", "$JS.API.DIRECT.GET.{_BUCKET}.>"] }}
        subscribe: ["_INBOX.mender.>"] }} }}
    {{ user: board, password: d, permissions: {{
        publish: {{ allow: [{REGISTRY} "_INBOX.>"
          "$JS.API.STREAM.CREATE.{_LOG}", "$JS.API.STREAM.INFO.{_LOG}"
          "$JS.API.CONSUMER.CREATE.{_LOG}.*", "$JS.API.CONSUMER.MSG.NEXT.{_LOG}.*"
          "$JS.API.CONSUMER.DELETE.{_LOG}.*"
          "$JS.API.STREAM.CREATE.{_LOST}", "$JS.API.STREAM.NAMES", "a99.main.dead.prices.event"] }}
        subscribe: ["_INBOX.board.>", "a99.main.name.prices.hears.*"] }} }}
  ]
}}
"""


async def test_a_member_needs_the_rights_of_the_table(
    tmp_path: Path, start_nats_server: Callable[..., NatsServer]
) -> None:
    """Members join, share, take over from one that dies, and leave, by these rights alone."""
    server = await asyncio.to_thread(start_nats_server, config=CONFIG)
    seen = Seen()
    mesh = partial(mesh_of, tmp_path, server)
    async with mesh("shop:b") as shop, mesh("clerk:a") as one, mesh("clerk:a") as two:
        await fill(shop, 10, range(2))
        first, second = (Group(each, "billing", ["order.*"], seen.handle) for each in (one, two))
        async with first:
            await second.__aenter__()
            await eventually(lambda: held(first, second) == [32, 32])
            await two.aclose()
            await eventually(lambda: held(first) == [64])
            await second.__aexit__(None, None, None)
            await fill(shop, 10, range(2, 4))
            await eventually(lambda: seen.count >= 40)
    assert [] == re.findall(r'Violation.*Subject "([^"]+)"', server.log.read_text())


async def test_who_redrives_needs_the_rights_of_the_table(
    tmp_path: Path, start_nats_server: Callable[..., NatsServer]
) -> None:
    """Who may redrive to a group finds what it has refused, and gives it back, by these alone."""
    server = await asyncio.to_thread(start_nats_server, config=CONFIG)
    mesh = partial(mesh_of, tmp_path, server)
    async with mesh("shop:b") as shop, mesh("clerk:a") as clerk, mesh("mender:c") as mender:
        desk = Desk(clerk, 1)
        await fill(shop, 1, range(2))
        async with Group(clerk, "billing", ["order.*"], desk.handle):
            kept = await kept_one(mender)
            desk.poison.clear()
            await mender.quarantine.redrive(kept)
            await desk.reach(2)
    assert [] == re.findall(r'Violation.*Subject "([^"]+)"', server.log.read_text())


async def test_a_broadcast_needs_the_rights_of_the_table(
    tmp_path: Path, start_nats_server: Callable[..., NatsServer]
) -> None:
    """An instance hears, gives up, and is given once more, by these rights alone."""
    server = await asyncio.to_thread(start_nats_server, config=CONFIG)
    mesh = partial(mesh_of, tmp_path, server)
    async with mesh("shop:b") as shop, mesh("board:d") as board, mesh("mender:c") as mender:
        heard = Heard(("k0", 1))
        async with Broadcast(board, "prices", ["order.*"], heard.handle, options=BY_EVENT):
            await fill(shop, 1, range(2))
            kept = await kept_one(mender)
            heard.poison.clear()
            await mender.quarantine.redrive(kept)
            await eventually(lambda: heard.done["k0"] == [0, 1])
    assert [] == re.findall(r'Violation.*Subject "([^"]+)"', server.log.read_text())


def mesh_of(tmp_path: Path, server: NatsServer, user: str) -> Mesh:
    """Return a mesh of one of the users, not yet open."""
    url = f"nats://{user}@127.0.0.1:{server.port}"
    place = {"project": tmp_path, "state_folder": tmp_path}
    return Mesh(settings=Settings(**place, url=url, permissions=True))
