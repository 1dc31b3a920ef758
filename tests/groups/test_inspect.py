"""What is seen of a group from outside."""

from __future__ import annotations

import msgspec
import pytest

from agent99 import Mesh, UsageError
from agent99.groups import EventGroup, Group, inspect_group, list_groups
from agent99.groups._parts import open_bucket
from agent99.groups._place import Membership, Place, claimed, encode
from agent99.groups._view import Keys
from tests._wait import eventually
from tests.groups.conftest import OpenMesh
from tests.groups.test_event_group import QUICK, Heard
from tests.groups.test_group import Seen, fill


async def test_what_waits(open_mesh: OpenMesh) -> None:
    """The lag is what is in the log and not done, with members and without."""
    mesh, viewer, seen = await open_mesh(), await open_mesh(), Seen()
    assert () == await list_groups(viewer)
    await fill(mesh, 5, range(2))
    async with Group(mesh, "billing", ["order.*"], seen.handle) as group:
        await eventually(lambda: seen.count == 10)
        state = await inspect_group(viewer, "billing")
        assert ((group.member,), 64, 64) == (state.members, state.owned, state.partitions)
    assert ("billing",) == await list_groups(viewer)
    state = await inspect_group(viewer, "billing")
    assert ((), 0, 10, 0, None) == (
        state.members,
        state.owned,
        state.events,
        state.lag,
        state.oldest_us,
    )
    first = await mesh.append("order.placed", {"number": 2}, key="k0")
    await mesh.append("invoice.sent", {"number": 2}, key="k0")
    await fill(mesh, 5, range(3, 4))
    state = await inspect_group(viewer, "billing")
    stored = await mesh.link.journal.get(mesh.link.durable.streams.log, 11)
    assert stored is not None
    assert first in stored.payload.decode()
    assert (6, stored.stored_us) == (state.lag, state.oldest_us)


async def test_a_group_that_died_as_a_whole(mesh: Mesh) -> None:
    """Who does not answer is not there, though nobody is left to remove its entry."""
    heard, keys, ghost = Heard(), Keys("mails"), "0123456789ab"
    await fill(mesh, 1, range(3))
    async with EventGroup(mesh, "mails", [">"], heard.handle, options=QUICK) as group:
        await eventually(lambda: heard.count == 3)
    bucket = await open_bucket(group.parts)
    await bucket.put(keys.member(ghost), encode(Membership(1)))
    await bucket.put(keys.place(3), encode(claimed(Place(), ghost)))
    state = await inspect_group(mesh, "mails")
    assert ((), 0) == (state.members, state.owned)


async def test_what_failed(mesh: Mesh) -> None:
    """Attempts that failed are counted, and what went into quarantine; what failed waits."""
    heard = Heard(("k0", 1))
    await fill(mesh, 3, range(3))
    one = msgspec.structs.replace(QUICK, active="one")
    async with EventGroup(mesh, "mails", [">"], heard.handle, options=one):
        await eventually(lambda: heard.count == 8)
    state = await inspect_group(mesh, "mails")
    assert (True, 1, 9, 3, 1, 0) == (
        state.is_exclusive,
        state.partitions,
        state.events,
        state.failures,
        state.buried,
        state.lag,
    )


async def test_what_is_no_group(mesh: Mesh) -> None:
    """A group that is not there is named."""
    with pytest.raises(UsageError, match="no group 'mails'"):
        await inspect_group(mesh, "mails")
