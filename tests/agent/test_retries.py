"""What did not run is asked again, within bounds; what may have run is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99 import Agent, Failure, Mesh, Settings, operation, pick
from agent99.agent._retries import (
    BUDGET_FLOOR,
    BUDGET_MAX,
    BUDGET_SHARE,
    PUSH_BACK_S_MAX,
    WAIT_S_MAX,
    WAIT_S_MIN,
    Budget,
    is_harmless,
    wait_s,
)
from agent99.errors import (
    Agent99Error,
    BadRequestError,
    DeadlineExceededError,
    NoAgentError,
    OverloadedError,
    PausedError,
    RequestCancelledError,
    RequestError,
)
from agent99.observe import RequestFinished, RequestRetried
from agent99.testing import ManualClock, MemoryEngine
from tests._wait import PATIENCE_S

# --- pure -----------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 5_000), st.booleans()), max_size=40))
def test_retries_stay_within_a_share_and_a_floor(
    steps: list[tuple[float, int, bool]],
) -> None:
    """Never more than a tenth of the requests, the floor for the time, and what was saved up."""
    budget, now_s, asked, taken = Budget(0.0), 0.0, 0, 0
    for passed_s, requests, wants in steps:
        now_s += passed_s
        asked += requests
        budget.asked += requests
        if wants:
            taken += budget.take(now_s)
        assert taken <= BUDGET_MAX + BUDGET_FLOOR * now_s + BUDGET_SHARE * asked
        assert "Budget(" in repr(budget)


def test_a_budget_is_never_refused_to_who_asks_seldom() -> None:
    """The floor is there for a caller with next to no traffic."""
    budget = Budget(0.0)
    assert [True] * 100 == [budget.take(float(second)) for second in range(100)]


def test_a_budget_saves_no_more_than_its_bound() -> None:
    """After a day of peace a storm is not allowed what the day would have allowed."""
    budget = Budget(0.0)
    budget.asked = 10_000_000
    assert BUDGET_MAX == sum(budget.take(86_400.0) for _ in range(1_000))


@given(st.integers(1, 60), st.floats(0, 1, exclude_max=True), st.floats(allow_nan=True))
def test_waits_are_jittered_and_bounded(attempt: int, fraction: float, asked_s: float) -> None:
    """From nothing up to the bound, which doubles; an overloaded instance may ask for more."""
    most_s = min(WAIT_S_MIN * 2.0 ** (attempt - 1), WAIT_S_MAX)
    assert 0 <= wait_s(PausedError("no"), attempt, fraction) == fraction * most_s
    told = OverloadedError("no", details={"retry_after_s": asked_s})
    assert 0 <= wait_s(told, attempt, fraction) <= max(most_s, PUSH_BACK_S_MAX)
    unreadable = OverloadedError("no", details={"retry_after_s": "soon"})
    assert fraction * most_s == wait_s(unreadable, attempt, fraction)


@pytest.mark.parametrize(
    ("error", "always", "twice"),
    [
        (OverloadedError("no"), True, True),
        (PausedError("no"), True, True),
        (NoAgentError("no"), True, True),
        (RequestCancelledError("stopped"), False, True),
        (Failure("no", retryable=True), False, False),
        (Failure("no"), False, False),
        (DeadlineExceededError("no"), False, False),
        (BadRequestError("no"), False, False),
    ],
)
def test_only_what_does_no_harm_is_made_again(
    error: RequestError, always: bool, twice: bool
) -> None:
    """What did not run; and what may run twice, if it may succeed later."""
    outcomes = [is_harmless(error, may_run_twice=lambda may=may: may) for may in (False, True)]
    assert [always, twice] == outcomes


# --- on a mesh ------------------------------------------------------------------------------------


class Desk(Agent):
    """One request at a time, and nobody waits."""

    capabilities = ("desk",)
    concurrency_max = 1
    waiting_max = 0

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.attempts: list[int] = []

    def _note(self) -> None:
        self.attempts.append(self.context.request.attempt or 1)

    @operation
    async def hold(self) -> str:
        """Take the only place until the gate opens."""
        self._note()
        await self.gate.wait()
        return self.instance

    @operation(idempotent=True)
    async def read(self) -> str:
        """Do as `hold`, and do no harm twice."""
        self._note()
        await self.gate.wait()
        return self.instance

    @operation
    async def write(self) -> str:
        """Return at once."""
        self._note()
        return self.instance

    @operation(idempotent=True)
    async def say(self) -> None:
        """Say no, for now."""
        self._note()
        raise Failure("not now", code="BUSY", retryable=True)


class World:
    """Desks, and a client that asks them; time passes by itself."""

    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        self._stack = stack
        self._engine = MemoryEngine()
        self._settings = Settings(project=folder, state_folder=folder, mesh="t")
        self.meshes: dict[Desk, Mesh] = {}
        self.holding: list[asyncio.Future[str]] = []
        self.retried: list[RequestRetried] = []
        self.finished: list[RequestFinished] = []

    async def mesh(self, **how: Any) -> Mesh:
        """Open one more process's worth of mesh."""
        settings = msgspec.structs.replace(self._settings, **how)
        mesh = Mesh(settings=settings, engine=self._engine)
        return await self._stack.enter_async_context(mesh)

    async def client(self, **how: Any) -> Mesh:
        """Open the mesh that asks."""
        client = await self.mesh(**how)
        client.hooks.listen(RequestRetried, self.retried.append)
        client.hooks.listen(RequestFinished, self.finished.append)
        return client

    async def desk(self) -> Desk:
        """Host one more desk, in a mesh of its own."""
        desk = Desk()
        self.meshes[desk] = await self.mesh()
        await self.meshes[desk].host(desk)
        return desk

    async def full_desk(self, client: Mesh) -> Desk:
        """Host one that refuses everything."""
        desk = await self.desk()
        await client.wait_for("desk")
        (peer,) = await client.discover("desk")
        self.holding.append(asyncio.ensure_future(peer.request("hold", timeout_s=60)))
        while not desk.attempts:
            await asyncio.sleep(0)
        desk.attempts.clear()
        self.finished.clear()
        return desk


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Give a world with nobody in it."""
    async with AsyncExitStack() as stack:
        made = World(stack, tmp_path)
        yield made
        for holding in made.holding:
            holding.cancel()
        await asyncio.gather(*made.holding, return_exceptions=True)


async def test_an_overloaded_instance_is_asked_again_under_the_same_id(world: World) -> None:
    """Its place becomes free meanwhile; the header counts the attempts."""
    client, desk = await world.client(), await world.desk()
    holding = asyncio.ensure_future(client.request("desk", "hold"))
    client.hooks.listen(RequestRetried, lambda _: desk.gate.set())
    while not desk.attempts:
        await asyncio.sleep(0)
    assert desk.instance == await client.request("desk", "write")
    assert desk.instance == await holding
    assert [1, 2] == desk.attempts
    (retry,) = world.retried
    assert ("OVERLOADED", 2, "desk", "write") == (
        retry.code, retry.attempt, retry.target, retry.operation
    )  # fmt: skip
    assert [2] == [one.attempt for one in world.finished if one.event_id == retry.event_id]


async def test_a_paused_instance_is_passed_by(world: World) -> None:
    """A request that meets one just before it has left its groups is made again, elsewhere."""
    client = await world.client()
    desks = [await world.desk() for _ in range(2)]
    await client.registry.wait_until(lambda t: len(t.discover("desk")) == 2, timeout_s=PATIENCE_S)
    running = desks[0]._running
    assert running is not None
    running.dispatcher.refusal = "paused"
    answers = {await client.request("desk", "write") for _ in range(30)}
    assert {desks[1].instance} == answers
    assert {("PAUSED", 2)} == {(retry.code, retry.attempt) for retry in world.retried}


async def test_a_named_peer_that_is_paused_is_not_asked_again(world: World) -> None:
    """That very instance was wanted."""
    client, desk = await world.client(), await world.desk()
    (peer,) = await client.wait_for("desk")
    assert desk._running is not None
    desk._running.dispatcher.refusal = "paused"
    with pytest.raises(PausedError):
        await peer.request("write")
    assert [] == world.retried


async def test_a_pick_is_chosen_anew_for_each_attempt(world: World) -> None:
    """Whoever was chosen and is overloaded is not chosen for ever."""
    client = await world.client()
    desks = [await world.desk() for _ in range(2)]
    await client.registry.wait_until(lambda t: len(t.discover("desk")) == 2, timeout_s=PATIENCE_S)
    holding = asyncio.ensure_future(client.request("desk", "hold"))
    while not (desks[0].attempts or desks[1].attempts):
        await asyncio.sleep(0)
    busy, free = desks if desks[0].attempts else desks[::-1]
    answers = {await client.request(pick("desk"), "write") for _ in range(8)}
    assert {free.instance} == answers
    busy.gate.set()
    await holding


async def test_nobody_who_offers_it_is_no_reason_to_wait(world: World) -> None:
    """The error comes at once, and nothing is made again."""
    client = await world.client()
    with pytest.raises(NoAgentError):
        await client.request("desk", "write")
    await world.desk()
    await client.wait_for("desk")
    with pytest.raises(NoAgentError):
        await client.request("desk", "no_such")
    assert [] == world.retried


async def test_one_who_is_listed_and_does_not_listen_yet_is_asked_again(world: World) -> None:
    """Between leaving and coming back there are some milliseconds."""
    client, desk = await world.client(), await world.desk()
    await client.wait_for("desk")
    running = desk._running
    assert running is not None
    await running._interest.leave()
    client.hooks.listen(RequestRetried, lambda _: running._interest.join())
    assert desk.instance == await client.request("desk", "write")
    assert ["NO_AGENT"] == [retry.code for retry in world.retried]


@pytest.mark.parametrize(
    ("verb", "key", "again"), [("read", None, True), ("hold", "k", True), ("hold", None, False)]
)
async def test_what_was_broken_off_is_made_again_only_where_it_may_run_twice(
    world: World, verb: str, key: str | None, again: bool
) -> None:
    """By its operation's mark or the caller's key: its instance stopped, another one is asked."""
    client = await world.client()
    desks = [await world.desk() for _ in range(2)]
    await client.registry.wait_until(lambda t: len(t.discover("desk")) == 2, timeout_s=PATIENCE_S)
    asking = asyncio.ensure_future(client.request("desk", verb, idempotency_key=key))
    while not (desks[0].attempts or desks[1].attempts):
        await asyncio.sleep(0)
    first, other = desks if desks[0].attempts else desks[::-1]
    other.gate.set()
    world.meshes[first].abandon()
    (outcome,) = await asyncio.gather(asking, return_exceptions=True)
    assert ([1], [2] if again else []) == (first.attempts, other.attempts)
    if again:
        assert other.instance == outcome
    else:
        assert isinstance(outcome, RequestCancelledError)


async def test_what_an_operation_says_is_an_answer(world: World) -> None:
    """Also where it is marked as retryable, and may run twice: when to ask again is not ours."""
    client, desk = await world.client(), await world.desk()
    await client.wait_for("desk")
    with pytest.raises(Failure) as failed:
        await client.request("desk", "say", idempotency_key="k")
    assert ([1], "BUSY", True) == (desk.attempts, failed.value.code, failed.value.retryable)
    assert [] == world.retried


async def test_after_the_last_attempt_its_error_stands(world: World) -> None:
    """Three by default; the error says how many there were."""
    client = await world.client()
    await world.full_desk(client)
    with pytest.raises(OverloadedError) as failed:
        await client.request("desk", "read")
    assert "after 3 attempts" in failed.value.__notes__[0]
    assert [3] == [one.attempt for one in world.finished]


async def test_a_process_may_do_without_retries(world: World) -> None:
    """`request_attempts_max` 1 leaves it to the caller's code."""
    client = await world.client(request_attempts_max=1)
    await world.full_desk(client)
    with pytest.raises(OverloadedError):
        await client.request("desk", "read")
    assert [] == world.retried


async def test_a_storm_of_refusals_is_not_answered_by_a_storm_of_retries(world: World) -> None:
    """Of a thousand refused requests about a tenth, and what was saved up, are made again."""
    client = await world.client()
    await world.full_desk(client)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    asking = [client.request("desk", "read") for _ in range(1_000)]
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    took_s = loop.time() - began_s
    assert all(isinstance(outcome, OverloadedError) for outcome in outcomes)
    most = BUDGET_MAX + BUDGET_FLOOR * took_s + BUDGET_SHARE * 1_000
    assert 0 < len(world.retried) <= most


async def test_no_wait_goes_beyond_the_deadline(tmp_path: Path) -> None:
    """The error of the last attempt is told rather than the time used up."""
    clock = ManualClock()
    engine = MemoryEngine(clock=clock)
    settings = Settings(project=tmp_path, state_folder=tmp_path, mesh="t")
    async with (
        Mesh(settings=settings, engine=engine, clock=clock) as mesh,
        Mesh(settings=settings, engine=engine, clock=clock) as client,
    ):
        desk = Desk()
        await mesh.host(desk)
        holding = asyncio.ensure_future(client.request("desk", "hold"))
        await clock.advance(0)
        asking = asyncio.ensure_future(client.request("desk", "read", timeout_s=1e-6))
        await clock.advance(0)
        with pytest.raises(OverloadedError):
            await asking
        assert 0.0 == clock.monotonic_s()
        desk.gate.set()
        await holding


async def test_a_wait_between_attempts_can_be_cancelled(world: World) -> None:
    """Nothing is asked after that, and the request is told as cancelled."""
    client = await world.client()
    desk = await world.full_desk(client)
    asking = asyncio.ensure_future(client.request("desk", "read"))
    client.hooks.listen(RequestRetried, lambda _: asking.cancel())
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert [] == desk.attempts
    assert ["CANCELLED"] == [one.code for one in world.finished]


async def test_only_the_caller_makes_a_request_again(world: World) -> None:
    """An operation whose own request was refused to the end is not made again by its caller."""

    class Front(Agent):
        """Asks the desk for its caller."""

        capabilities = ("front",)
        runs = 0

        @operation(idempotent=True)
        async def ask(self) -> str:
            """Ask."""
            Front.runs += 1
            answer: str = await self.request("desk", "read")
            return answer

    client = await world.client()
    await world.full_desk(client)
    front = await world.client()
    await front.wait_for("desk")
    await front.host(Front())
    await client.wait_for("front")
    with pytest.raises(Agent99Error) as failed:
        await client.request("front", "ask")
    assert "HANDLER_ERROR" == failed.value.code
    assert (1, 2) == (Front.runs, len(world.retried))
