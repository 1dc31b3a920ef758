"""A group on a server that is killed and comes back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from agent99 import Mesh
from agent99.groups import Group
from agent99.ids import SystemIds
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.groups.test_group import QUICK, Seen, fill, held


@pytest.mark.may_block("the server is killed and started here")
async def test_a_server_that_is_killed(start_nats_server: Callable[..., NatsServer]) -> None:
    """Across a kill -9 of the server the same members go on; nobody takes another one for dead."""
    server = start_nats_server()
    seen = Seen()
    name = f"t{SystemIds().token().decode()[:12]}"
    async with Mesh(server.url, mesh=name) as one, Mesh(server.url, mesh=name) as two:
        groups = [Group(mesh, "billing", [">"], seen.handle, options=QUICK) for mesh in (one, two)]
        async with groups[0], groups[1]:
            await eventually(lambda: held(*groups) == [32, 32])
            await fill(one, 20, range(5))
            await eventually(lambda: seen.count == 100)
            server.restart()
            await fill(one, 20, range(5, 10))
            await eventually(lambda: seen.count >= 200, timeout_s=15)
            assert [32, 32] == held(*groups)
            assert [0, 0] == [group.statistics().fenced for group in groups]
    seen.check(20, 10)
