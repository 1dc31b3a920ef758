"""What cannot go on says why: in its counts, to whoever looks from outside, and in the log."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent99 import Mesh
from agent99.envelope import parse_key, partition_of
from agent99.errors import StreamFullError
from agent99.groups import Batch, EventGroup, Group, inspect_group
from agent99.groups import _event_lane as event_lane
from tests._wait import eventually
from tests.groups.test_again import QUICK
from tests.groups.test_event_group import QUICK as BY_EVENT
from tests.groups.test_event_group import Heard
from tests.groups.test_group import Seen, fill

PART = partition_of(parse_key("k0"))


async def held_up_when(mesh: Mesh, reason: str) -> dict[int, str]:
    """Return what holds up the group, as seen from outside, once a reason has that in it."""

    async def found() -> dict[int, str]:
        held_up = (await inspect_group(mesh, "mails")).held_up
        return held_up if any(reason in why for why in held_up.values()) else {}

    there: dict[int, str] = await eventually(found)
    return there


async def go_on(mesh: Mesh) -> None:
    """Wait until nothing holds up the group, as seen from outside."""

    async def is_free() -> bool:
        return not (await inspect_group(mesh, "mails")).held_up

    await eventually(is_free)


async def test_a_quarantine_that_is_full(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A group whose quarantine is full says so, in the log once, and goes on when there is room."""
    monkeypatch.setattr(event_lane, "BURY_AGAIN_S", 0.01)
    heard, refusals, is_full = Heard(("k0", 0)), 0, True
    group = EventGroup(mesh, "mails", [">"], heard.handle, options=BY_EVENT)
    bury = group.bury

    async def refuse(*how: Any) -> None:
        nonlocal refusals
        if is_full:
            refusals += 1
            raise StreamFullError("DEAD_mails is full")
        await bury(*how)

    group.bury = refuse  # type: ignore[method-assign]  # a quarantine that is full
    await fill(mesh, 1, range(2))
    async with group:
        found = await held_up_when(mesh, "full")
        assert {PART: found[PART]} == group.statistics().held_up == found
        assert "event 1 cannot go into quarantine" in found[PART]
        await eventually(lambda: refusals > 5)
        assert 1 == caplog.text.count("is held up, and tries on: event 1 cannot")
        assert 0 == heard.count
        is_full = False
        await eventually(lambda: heard.done["k0"] == [1])
        await go_on(mesh)
        assert {} == group.statistics().held_up
    assert 1 == group.statistics().buried


async def test_a_handler_of_batches_that_fails(mesh: Mesh) -> None:
    """A group whose handler fails at a batch says at what, as long as it does."""
    seen, is_broken = Seen(), True

    async def handle(batch: Batch) -> None:
        if is_broken:
            raise ValueError("x" * 1_000)
        await seen.handle(batch)

    options = msgspec.structs.replace(QUICK, retry_s_max=0.1)
    await fill(mesh, 1, range(2))
    async with Group(mesh, "mails", [">"], handle, options=options) as group:
        found = await held_up_when(mesh, "raised ValueError: xxx")
        assert found == group.statistics().held_up
        assert ([PART], 200) == (list(found), len(found[PART]))
        is_broken = False
        await seen.reach(2)
        await go_on(mesh)
        assert {} == group.statistics().held_up


async def test_who_takes_over_is_not_held_up_by_what_was(mesh: Mesh) -> None:
    """A reason that the owner before has left is gone with the first look of the next one."""

    async def fail(batch: Batch) -> None:
        raise ValueError("broken")

    await fill(mesh, 1, range(2))
    async with Group(mesh, "mails", [">"], fail, options=QUICK):
        await held_up_when(mesh, "broken")
    assert [PART] == list(await held_up_when(mesh, "broken"))
    seen = Seen()
    async with Group(mesh, "mails", [">"], seen.handle, options=QUICK):
        await go_on(mesh)
