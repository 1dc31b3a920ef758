"""To ask again, or somebody else, changes nothing that was promised."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from agent99 import Agent, Mesh, Settings, operation, pick
from agent99.agent._answers import pass_on
from agent99.clock import SystemClock
from agent99.envelope import Header, encode_body, encode_error, encode_message
from agent99.errors import Failure, OverloadedError, RequestError, UnknownOperationError
from agent99.observe import RequestFinished, RequestRetried, RequestSent
from agent99.testing import MemoryEngine
from agent99.wire import Message
from tests._wait import PATIENCE_S
from tests.agent.test_health import NOTICED_S
from tests.agent.test_health import World as HungWorld


class Payment(Agent):
    """Its name is another's capability."""

    capabilities = ("billing",)

    @operation
    async def charge(self) -> str:
        """Take money: never twice."""
        return "charged"

    @operation(idempotent=True)
    async def balance(self) -> str:
        """Say how much there is."""
        return "enough"


class Other(Agent):
    """Offers what the first is called."""

    capabilities = ("payment",)

    @operation(idempotent=True)
    async def charge(self) -> str:
        """Do no harm."""
        return "nothing"


class Desk(Agent):
    """Holds what it is asked until its gate opens."""

    capabilities = ("desk",)
    concurrency_max = 1
    waiting_max = 0

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.left_us: list[int] = []

    @operation(idempotent=True)
    async def read(self) -> str:
        """Hold it."""
        self.left_us.append(self.context.request.ttl_us or 0)
        await self.gate.wait()
        return self.instance

    async def process_request(self, payload: dict[str, Any]) -> str:
        """Return at once."""
        return str(payload)


@pytest.fixture
async def meshes(tmp_path: Path) -> AsyncIterator[list[Mesh]]:
    """Give three processes' worth of one mesh."""
    engine = MemoryEngine()
    settings = Settings(project=tmp_path, state_folder=tmp_path, mesh="t")
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(Mesh(settings=settings, engine=engine))
            for _ in range(3)
        ]


async def test_who_is_asked_says_whether_it_may_run_twice(meshes: list[Mesh]) -> None:
    """And nobody who offers what that agent is called: by capability, peer and `pick` alike."""
    client = meshes[2]
    await meshes[0].host(Payment())
    await meshes[1].host(Other())
    await client.wait_for("billing")
    await client.wait_for("payment")
    link = client._link
    assert link is not None
    (peer,) = await client.discover("billing")
    for target in ("billing", peer, pick("billing")):
        assert not link.is_idempotent(link.destination(target, "charge"))
        assert link.is_idempotent(link.destination(target, "balance"))
    assert link.is_idempotent(link.destination("payment", "charge"))


async def test_a_later_attempt_has_the_time_that_is_left(meshes: list[Mesh]) -> None:
    """No more: all attempts are within the one deadline."""
    client, desks = meshes[2], [Desk(), Desk()]
    for mesh, desk in zip(meshes, desks, strict=False):
        await mesh.host(desk)
    await client.registry.wait_until(lambda t: len(t.discover("desk")) == 2, timeout_s=PATIENCE_S)
    asking = asyncio.ensure_future(client.request("desk", "read", timeout_s=5.0))
    while not (desks[0].left_us or desks[1].left_us):
        await asyncio.sleep(0)
    first, other = (0, 1) if desks[0].left_us else (1, 0)
    desks[other].gate.set()
    meshes[first].abandon()
    assert desks[other].instance == await asking
    assert 0 < desks[other].left_us[0] < desks[first].left_us[0]
    assert 5_000_000 == pytest.approx(desks[first].left_us[0], abs=2)


async def test_no_attempt_has_more_time_than_the_caller_gave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its deadline and what is left of it count from one moment, however long the sending takes."""
    looks, hurried = itertools.count(), SystemClock()
    monkeypatch.setattr(hurried, "monotonic_s", lambda: time.monotonic() + next(looks) * 1e-3)
    settings = Settings(project=tmp_path, state_folder=tmp_path, mesh="t")
    engine, desk = MemoryEngine(), Desk()
    desk.gate.set()
    async with (
        Mesh(settings=settings, engine=engine) as there,
        Mesh(settings=settings, engine=engine, clock=hurried) as client,
    ):
        await there.host(desk)
        await client.wait_for("desk")
        await client.request("desk", "read", timeout_s=5.0)
    assert 5_000_000 == pytest.approx(desk.left_us[0], abs=2)


async def test_what_is_broken_off_in_this_process_is_made_again_elsewhere(
    meshes: list[Mesh],
) -> None:
    """That the first attempt did not travel makes no difference; its end is told once."""
    here, elsewhere = Desk(), Desk()
    elsewhere.gate.set()
    await meshes[0].host(here)
    await meshes[1].host(elsewhere)
    await meshes[0].registry.wait_until(
        lambda t: len(t.discover("desk")) == 2, timeout_s=PATIENCE_S
    )
    told: list[RequestFinished] = []
    meshes[0].hooks.listen(RequestFinished, told.append)
    asking = asyncio.ensure_future(meshes[0].request("desk", "read"))
    while not here.left_us:
        await asyncio.sleep(0)
    assert here._running is not None
    here._running.dispatcher.refusal = "draining"
    meshes[0].abandon()
    assert elsewhere.instance == await asking
    assert ["OK"] == [one.code for one in told if one.side == "caller"]


async def test_an_attempt_is_told_once_wherever_it_goes(meshes: list[Mesh]) -> None:
    """An instance in this process that is at its bounds is passed by: the attempt is the same."""
    here = Desk()
    await meshes[0].host(here)
    told: list[RequestSent] = []
    meshes[0].hooks.listen(RequestSent, told.append)
    meshes[0].hooks.listen(RequestRetried, lambda _: here.gate.set())
    asking = [asyncio.ensure_future(meshes[0].request("desk", "read")) for _ in range(2)]
    await asyncio.gather(*asking, return_exceptions=True)
    attempts = [(one.event_id, one.attempt) for one in told]
    assert len(attempts) == len(set(attempts)) >= 3


async def test_a_request_that_fits_nothing_here_is_told_and_named(meshes: list[Mesh]) -> None:
    """As if it had travelled: its end is told, and its error has its id."""

    class Clerk(Agent):
        """Has no default operation."""

        capabilities = ("clerk",)

        @operation
        async def work(self) -> None:
            """Work."""

    await meshes[0].host(Clerk())
    told: list[RequestFinished] = []
    meshes[0].hooks.listen(RequestFinished, told.append)
    with pytest.raises(UnknownOperationError) as failed:
        await meshes[0].request("clerk", payload={"operation": "no_such"})
    assert [("caller", "UNKNOWN_OPERATION", failed.value.event_id)] == [
        (one.side, one.code, one.event_id) for one in told
    ]


def _answer(error: RequestError | None) -> Message:
    header = Header(
        type="response",
        from_uuid="i",
        to_uuid="",
        event_uuid="e",
        timestamp=1,
        outcome="ok" if error is None else "error",
    )
    body = encode_body({}) if error is None else encode_error(error, bytes_max=10_000)
    return Message(b"s", b"", encode_message(header, body))


@pytest.mark.parametrize(
    ("error", "counts"),
    [(None, True), (Failure("no"), True), (OverloadedError("full"), False)],
)
async def test_a_refused_second_attempt_says_nothing_of_the_first(
    error: RequestError | None, counts: bool
) -> None:
    """The first may run: only an answer of who ran it counts."""
    loop = asyncio.get_running_loop()
    first: asyncio.Future[Message] = loop.create_future()
    second: asyncio.Future[Message] = loop.create_future()
    second.set_result(_answer(error))
    pass_on(first, second)
    assert counts is first.done()


async def test_a_second_who_hangs_is_left_out_too(tmp_path: Path) -> None:
    """While one is left out requests are addressed, and watched all the same."""
    async with AsyncExitStack() as stack:
        world = HungWorld(stack, tmp_path)
        world.caller = await world.mesh()
        workers = [await world.add() for _ in range(6)]
        for count, worker in enumerate(workers[:2], start=1):
            world.wires[worker].is_frozen = True
            await world.ask_at_once(30)
            await world.clock.advance(NOTICED_S)
            assert set(workers[:count]) == world.ejected
        assert await world.ask_many() == set(workers[2:])
        for wire in world.wires.values():
            wire.thaw()
        await world.clock.advance(0)
        for task in world.vain:
            task.cancel()
        await asyncio.gather(*world.vain, return_exceptions=True)
