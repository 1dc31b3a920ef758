"""With permissions on, who fires needs the rights that the guide lists, and no others."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

from agent99 import Mesh, Settings
from agent99.schedules import Schedules
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.agent.test_permissions import REGISTRY
from tests.schedules._fired import moment
from tests.schedules.test_firing import store_by_hand

_LOG, _BUCKET = "A99_main_LOG", "KV_a99_main_schedules"
_MAKES = f"""
  "$KV.a99_main_schedules.>", "$JS.API.STREAM.CREATE.{_BUCKET}", "$JS.API.STREAM.MSG.GET.{_BUCKET}"
  "$JS.API.DIRECT.GET.{_BUCKET}.>", "$JS.API.DIRECT.GET.{_BUCKET}"
"""
_FIRES = f"""
  "$JS.API.CONSUMER.CREATE.{_BUCKET}.*", "$JS.API.CONSUMER.DELETE.{_BUCKET}.*", "$JS.FC.>"
  "$JS.API.DIRECT.GET.{_LOG}", "$JS.API.STREAM.MSG.GET.{_LOG}"
  "a99.main.log.*.clerk.*.tea.*", "$JS.API.STREAM.CREATE.{_LOG}", "$JS.API.STREAM.NAMES"
"""
CONFIG = f"""
authorization {{
  users: [
    {{ user: clerk, password: a, permissions: {{
        publish: {{ allow: [{REGISTRY} {_MAKES} {_FIRES}] }}
        subscribe: ["_INBOX.clerk.>"] }} }}
    {{ user: shop, password: b, permissions: {{
        publish: {{ allow: [{REGISTRY} {_MAKES}] }}
        subscribe: ["_INBOX.shop.>"] }} }}
  ]
}}
"""


async def test_the_rights_of_the_table(
    tmp_path: Path, start_nats_server: Callable[..., NatsServer]
) -> None:
    """One makes, lists and cancels, another one fires, in doubt too, by these rights alone."""
    server = await asyncio.to_thread(start_nats_server, config=CONFIG)

    def mesh(user: str) -> Mesh:
        url = f"nats://{user}@127.0.0.1:{server.port}"
        place = {"project": tmp_path, "state_folder": tmp_path}
        return Mesh(settings=Settings(**place, url=url, permissions=True))

    async with mesh("shop:b") as shop, mesh("clerk:a") as clerk:
        making, firing = Schedules(shop), Schedules(clerk)
        await making.at(moment(3600), "tea.over", id="over")
        assert await making.cancel("over")
        await making.at(moment(3600), "tea.over", id="over")
        await making.at(moment(0), "tea.ready")
        doubtful = await making.at(moment(-3600), "tea.doubtful", key="k")
        one = next(one for one in await making.list() if one.id == doubtful)
        await store_by_hand(clerk, one, one.event_id())
        async with firing:
            await eventually(lambda: firing.statistics().fired == 2)
        assert await making.cancel("over")
    assert [] == re.findall(r'Violation.*Subject "([^"]+)"', server.log.read_text())
