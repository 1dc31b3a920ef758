"""With permissions on, a saga needs the rights that the guide lists, and no others."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

from agent99 import Mesh, Settings
from agent99.saga import Desk
from tests._nats_server import NatsServer
from tests.agent.test_permissions import REGISTRY
from tests.saga._trips import Ticket, Trips, World

_ROOM = """
  "a99.main.saga.trips.*", "$JS.API.STREAM.CREATE.A99_main_SAGA", "$JS.API.STREAM.NAMES"
  "$JS.API.DIRECT.GET.A99_main_SAGA", "$JS.API.STREAM.MSG.GET.A99_main_SAGA"
  "$JS.API.DIRECT.GET.A99_main_SAGA.a99.main.saga.trips.*"
  "$JS.API.STREAM.MSG.DELETE.A99_main_SAGA"
  "$JS.API.STREAM.CREATE.KV_a99_main_sagas", "$KV.a99_main_sagas.trips.*"
  "$JS.API.DIRECT.GET.KV_a99_main_sagas", "$JS.API.DIRECT.GET.KV_a99_main_sagas.>"
  "$SRV.PING.trips.*"
"""
CONFIG = f"""
authorization {{
  users: [
    {{ user: agency, password: a, permissions: {{
        publish: {{ allow: ["_INBOX.>" {REGISTRY} {_ROOM}] }}
        subscribe: ["_INBOX.agency.>", "a99.main.cap.trips.>", "a99.main.name.trips.>"
          "a99.main.one.trips.>", "a99.main.cancel.trips.*", "a99.main.ctl.>", "$SRV.>"] }} }}
    {{ user: ada, password: b, permissions: {{
        publish: {{ allow: ["a99.main.cap.trips.*.ada", "a99.main.cancel.trips.ada" {REGISTRY}
          "$JS.API.DIRECT.GET.A99_main_SAGA", "$JS.API.DIRECT.GET.KV_a99_main_sagas"
          "$JS.API.STREAM.CREATE.KV_a99_main_sagas", "$JS.API.STREAM.MSG.GET.A99_main_SAGA"] }}
        subscribe: ["_INBOX.ada.>"] }} }}
  ]
}}
"""


def _settings(folder: Path, server: NatsServer, user: str) -> Settings:
    url = f"nats://{user}@127.0.0.1:{server.port}"
    return Settings(project=folder, state_folder=folder, url=url, permissions=True)


async def test_a_saga_needs_the_rights_of_the_table(
    tmp_path: Path, start_nats_server: Callable[..., NatsServer]
) -> None:
    """It is begun, goes on at another instance, and can be looked at by who may read."""
    server = await asyncio.to_thread(start_nats_server, config=CONFIG)
    world = World()
    async with Mesh(settings=_settings(tmp_path, server, "ada:b")) as ada:
        async with Mesh(settings=_settings(tmp_path, server, "agency:a")) as first:
            await first.host(Trips(world))
            await ada.wait_for("trips")
            answer = await ada.request("trips", "book", {"to": "Rome"}, returns=list[Ticket])
            assert 2 == len(answer)
            async with Mesh(settings=_settings(tmp_path, server, "agency:a")) as second:
                await second.host(Trips(world))
                trip = {"trip": {"to": "Rome"}, "seconds": 0.5}
                call = asyncio.create_task(ada.request("trips", "patient", trip, returns=Ticket))
                while len(world.booked) < 3:
                    await asyncio.sleep(0)
                await first.aclose()
                assert Ticket(3, "Rome") == await call
        states = {view.history.state for view in await Desk(ada).every_saga()}
        assert {"done"} == states
    assert [] == re.findall(r'Violation.*Subject "([^"]+)"', server.log.read_text())
