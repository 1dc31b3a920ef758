"""With permissions on, a member needs the rights that the guide lists, and no others."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

from agent99 import Mesh, Settings
from agent99.groups import Group
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.agent.test_permissions import REGISTRY
from tests.groups.test_group import Seen, fill, held

_LOG, _BUCKET = "A99_main_LOG", "KV_a99_main_groups"
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
        publish: {{ allow: [{REGISTRY} {_ROOM}] }}
        subscribe: ["_INBOX.clerk.>", "a99.main.one.billing.>"] }} }}
    {{ user: shop, password: b, permissions: {{
        publish: {{ allow: ["a99.main.log.*.shop.*.order.placed" {REGISTRY}
          "$JS.API.STREAM.CREATE.{_LOG}", "$JS.API.STREAM.NAMES"] }}
        subscribe: ["_INBOX.shop.>"] }} }}
  ]
}}
"""


async def test_a_member_needs_the_rights_of_the_table(
    tmp_path: Path, start_nats_server: Callable[..., NatsServer]
) -> None:
    """Members join, share, take over from one that dies, and leave, by these rights alone."""
    server = await asyncio.to_thread(start_nats_server, config=CONFIG)
    seen = Seen()

    def mesh(user: str) -> Mesh:
        url = f"nats://{user}@127.0.0.1:{server.port}"
        place = {"project": tmp_path, "state_folder": tmp_path}
        return Mesh(settings=Settings(**place, url=url, permissions=True))

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
