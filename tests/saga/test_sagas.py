"""Durable functions on a mesh, in memory and on a server alike."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from agent99 import Failure, Mesh, Settings
from agent99.errors import RemoteError, RequestError, StreamFullError, UsageError
from agent99.saga import PENDING, SAGA_CANCELLED, SAGA_FAILED, SAGA_STUCK, Desk, SagaView
from agent99.saga._records import Failed, StepId
from agent99.testing import MemoryEngine
from tests._wait import eventually
from tests.saga._trips import Ticket, Trips, World, no_answer, nobody, refusal
from tests.saga.conftest import OpenMesh

ROME = {"to": "Rome"}


@pytest.fixture
async def world(mesh: Mesh) -> World:
    """Give the world of an agent that is hosted."""
    made = World()
    await mesh.host(Trips(made))
    return made


async def _only(mesh: Mesh) -> SagaView:
    (view,) = await Desk(mesh).every_saga()
    return view


async def _until(mesh: Mesh, *states: str) -> SagaView:
    """Return the only saga, once it is in one of these states."""
    until_s = time.monotonic() + 10
    while True:
        found = await Desk(mesh).every_saga()
        if found and found[0].history.state in states:
            return found[0]
        assert time.monotonic() < until_s, found
        await asyncio.sleep(0)


async def test_answer(client: Mesh, world: World) -> None:
    """A saga that comes through answers like any operation, and leaves no marker behind."""
    got = await client.request("trips", "book", ROME, returns=list[Ticket])
    assert [Ticket(1, "Rome"), Ticket(2, "1 days in Rome")] == got
    view = await _only(client)
    assert "done" == view.history.state
    assert ["flight", "room"] == [each.step.name for each in view.history.steps.values()]
    assert [] == world.undone
    while await Desk(client).count_open():
        await asyncio.sleep(0)


async def test_same_key(client: Mesh, world: World) -> None:
    """The same key is the same saga: it runs once, and answers as often as it is asked."""
    how: dict[str, Any] = {"returns": list[Ticket], "idempotency_key": "k"}
    calls = (client.request("trips", "book", ROME, **how) for _ in range(20))
    answers = await asyncio.gather(*calls)
    answers.append(await client.request("trips", "book", ROME, **how))
    assert all(answers[0] == answer for answer in answers)
    assert {"flight": 1, "room": 1} == world.attempts
    assert 1 == len(await Desk(client).every_saga())


async def test_key_of_another_request(client: Mesh, world: World) -> None:
    """The same key with another request is a conflict, and changes nothing."""
    await client.request("trips", "book", ROME, idempotency_key="k")
    with pytest.raises(RemoteError) as refused:
        await client.request("trips", "book", {"to": "Oslo"}, idempotency_key="k")
    assert "IDEMPOTENCY_CONFLICT" == refused.value.code
    assert {"flight": 1, "room": 1} == world.attempts


async def test_without_a_key(client: Mesh, world: World) -> None:
    """Two requests without a key are two sagas."""
    await client.request("trips", "book", ROME)
    await client.request("trips", "book", ROME)
    assert 2 == world.attempts["flight"]
    assert 4 == len(set(world.keys))


async def test_failure_of_the_function(client: Mesh, world: World) -> None:
    """What its code raises undoes every step, the last first, and is then the answer."""
    with pytest.raises(RemoteError) as failed:
        await client.request("trips", "book", {"to": "Rome", "days": 101})
    assert ("TOO_LONG", {"days": 101}) == (failed.value.code, failed.value.details)
    assert ["room", "flight"] == [name for name, _ in world.undone]
    assert [Ticket(2, "101 days in Rome"), Ticket(1, "Rome")] == [got for _, got in world.undone]
    assert {} == world.booked
    assert "failed" == (await _only(client)).history.state


async def test_refused_step(client: Mesh, world: World) -> None:
    """A step that is refused took no effect: what was before it is undone, and itself is not."""
    world.fails["room"] = [refusal()]
    with pytest.raises(RemoteError) as failed:
        await client.request("trips", "book", ROME)
    assert "SOLD_OUT" == failed.value.code
    assert [("flight", Ticket(1, "Rome"))] == world.undone
    assert 1 == world.attempts["room"]


async def test_failed_saga_answers_again(client: Mesh, world: World) -> None:
    """Whoever asks again with the key of a saga that failed gets its error, and nothing runs."""
    world.fails["room"] = [refusal()]
    for _ in range(2):
        with pytest.raises(RemoteError) as failed:
            await client.request("trips", "book", ROME, idempotency_key="k")
        assert "SOLD_OUT" == failed.value.code
    assert 1 == world.attempts["flight"]


async def test_what_did_not_run_is_tried_again(client: Mesh, world: World) -> None:
    """A step that says that it did not run is tried again, without a doubt in the journal."""
    world.fails["flight"] = [nobody(), Failure("busy", code="BUSY", retryable=True)]
    await client.request("trips", "book", ROME)
    (flight, _) = (await _only(client)).history.steps.values()
    assert (3, None) == (world.attempts["flight"], flight.doubt)


async def test_unknown_outcome(client: Mesh, world: World) -> None:
    """A step whose answer did not come is repeated under its key, and the doubt is written down."""
    world.fails_after["flight"] = [no_answer(), ConnectionResetError("gone"), TimeoutError()][:1]
    await client.request("trips", "book", ROME)
    (flight, _) = (await _only(client)).history.steps.values()
    assert flight.doubt is not None
    assert "DEADLINE_EXCEEDED" == flight.doubt.code
    assert (2, 2) == (world.attempts["flight"], len(world.booked))


async def test_unknown_outcome_is_asked_for(client: Mesh, world: World) -> None:
    """Where a step has a query, that tells what became of it: it is not repeated."""
    world.fails_after["flight"] = [no_answer()]
    assert Ticket(1, "Rome") == await client.request("trips", "hasty", ROME, returns=Ticket)
    assert {"flight": 1, "find": 1} == world.attempts


async def test_query_says_no(client: Mesh, world: World) -> None:
    """Where the query finds nothing, the step is repeated, until patience is at its end."""
    world.fails["flight"] = [no_answer() for _ in range(50)]
    with pytest.raises(RemoteError, match="no answer; what took effect is undone"):
        await client.request("trips", "hasty", ROME)
    assert world.attempts["flight"] == world.attempts["find"] > 1
    assert [("flight", None)] == world.undone


async def test_patience_at_its_end(client: Mesh, world: World) -> None:
    """What may have taken effect and cannot be told is undone, with no result in hand."""
    world.fails_after["flight"] = [no_answer() for _ in range(50)]
    with pytest.raises(RemoteError, match="no answer; what took effect is undone"):
        await client.request("trips", "impatient", ROME)
    assert [("flight", None)] == world.undone
    assert {} == world.booked
    (flight,) = (await _only(client)).history.steps.values()
    assert isinstance(flight.outcome, Failed)
    assert "unknown" == flight.outcome.effect


async def test_a_step_that_says_later_for_too_long(client: Mesh, world: World) -> None:
    """Its saga has failed for good: nobody is told to ask again for an end that is known."""
    world.fails["flight"] = [Failure("busy", code="BUSY", retryable=True) for _ in range(50)]
    for _ in range(2):
        with pytest.raises(RemoteError, match="busy; what took effect is undone") as failed:
            await client.request("trips", "impatient", ROME, idempotency_key="k")
        assert (SAGA_FAILED, "BUSY") == (failed.value.code, failed.value.details["cause"])
        assert not failed.value.retryable


async def test_broken_step(client: Mesh, world: World) -> None:
    """A step whose code breaks is not tried again, and is undone: nobody knows how far it came."""
    world.fails_after["room"] = [ZeroDivisionError("oops")]
    with pytest.raises(RemoteError, match="ZeroDivisionError: oops"):
        await client.request("trips", "book", ROME)
    assert [("room", None), ("flight", Ticket(1, "Rome"))] == world.undone
    assert {"flight": 1, "room": 1, "undo room": 1, "undo flight": 1} == world.attempts


async def test_side_by_side(client: Mesh, world: World) -> None:
    """Steps may run side by side; if one fails, the others come to their end and are undone."""
    assert 2 == len(await client.request("trips", "both", ROME))
    world.fails["room"] = [refusal()]
    world.undone.clear()
    with pytest.raises(RemoteError):
        await client.request("trips", "both", ROME)
    assert ["flight"] == [name for name, _ in world.undone]


async def test_pending(client: Mesh, world: World) -> None:
    """Who cannot wait learns the saga's id; it goes on, and the same key gets its answer."""
    world.gate.clear()
    with pytest.raises(RemoteError) as pending:
        await client.request("trips", "book", ROME, idempotency_key="k", timeout_s=0.5)
    assert (PENDING, True) == (pending.value.code, pending.value.retryable)
    assert (await _only(client)).saga_id == pending.value.details["saga_id"]
    world.gate.set()
    assert 2 == len(await client.request("trips", "book", ROME, idempotency_key="k"))
    assert {"flight": 1, "room": 1} == world.attempts


async def test_journals_that_are_full(client: Mesh, world: World) -> None:
    """Their bound is told by its code, and may be gone the next time; the agent is not broken."""

    async def fill() -> None:
        for _ in range(40):
            await client.request("trips", "hasty", {"to": "x" * 300_000})

    with pytest.raises(RemoteError) as full:
        await fill()
    assert ("STREAM_FULL", True) == (full.value.code, full.value.retryable)
    assert 0 < world.attempts["flight"] < 40


async def test_caller_who_gives_up(client: Mesh, world: World) -> None:
    """A saga does not end with its caller."""
    world.gate.clear()
    call = asyncio.create_task(client.request("trips", "book", ROME, idempotency_key="k"))
    await _until(client, "running")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    world.gate.set()
    await _until(client, "done")
    assert 2 == len(world.booked)


async def test_time_and_ids(client: Mesh, world: World) -> None:
    """Times come from the journal, and ids from the saga's own."""
    del world
    first, second, one, two = await client.request("trips", "times")
    assert first < second
    assert one != two


async def test_no_place_to_begin(tmp_path: Path) -> None:
    """A saga that cannot be stored is not begun, which its caller learns; its marker is let be."""
    settings = Settings(
        project=tmp_path, state_folder=tmp_path, mesh="full", saga_bytes_max=1024**2
    )
    world = World()
    async with Mesh(settings=settings, engine=MemoryEngine()) as mesh:
        await mesh.host(Trips(world))
        await mesh.request("trips", "book", ROME)
        while await Desk(mesh).count_open():
            await asyncio.sleep(0)
        size = 1_000_000
        while size:  # ever smaller records, until none has room
            try:
                await mesh.link.journal.append("a99.full.saga.trips.other", b"x" * size)
            except StreamFullError:
                size //= 10
        with pytest.raises(RequestError):
            await mesh.request("trips", "book", ROME)
        assert 2 == sum(world.attempts.values())
        assert 1 == await Desk(mesh).count_open()


async def test_undo_that_fails(client: Mesh, world: World) -> None:
    """An undo that fails is repeated until it is done, and how often it failed stands there."""
    world.fails["room"] = [refusal()]
    world.fails["undo flight"] = [ConnectionError("not now")] * 2
    with pytest.raises(RemoteError, match="sold out"):
        await client.request("trips", "book", ROME)
    (flight, _) = (await _only(client)).history.steps.values()
    assert (3, 2) == (world.attempts["undo flight"], flight.undo_attempts)
    assert flight.undone_us


async def test_cancel(client: Mesh, world: World) -> None:
    """A saga that is cancelled is undone as far as it has come, and says that it was cancelled."""
    call = asyncio.create_task(client.request("trips", "patient", {"trip": ROME, "seconds": 3600}))
    view = await _until(client, "running")
    await eventually(lambda: world.booked)
    await Desk(client).cancel(view.saga_id)
    with pytest.raises(RemoteError, match="the saga was cancelled") as cancelled:
        await call
    assert SAGA_CANCELLED == cancelled.value.code
    assert ["flight"] == [name for name, _ in world.undone]
    assert "cancelled" == (await _only(client)).history.state
    with pytest.raises(UsageError, match="has ended: cancelled"):
        await Desk(client).cancel(view.saga_id)


async def test_beyond_the_pivot(client: Mesh, world: World) -> None:
    """After a pivot nothing is undone: what is refused leaves the saga stuck until it is mended."""
    world.fails["print"] = [refusal()]
    with pytest.raises(RemoteError) as stuck:
        await client.request("trips", "paid", ROME, idempotency_key="k", timeout_s=2)
    assert (SAGA_STUCK, "SOLD_OUT") == (stuck.value.code, stuck.value.details["cause"])
    view = await _until(client, "stuck")
    assert view.history.stuck is not None
    assert StepId("print") == view.history.stuck.step
    with pytest.raises(UsageError, match="past its pivot"):
        await Desk(client).cancel(view.saga_id)
    await Desk(client).retry(view.saga_id)
    await _until(client, "done")
    got = await client.request("trips", "paid", ROME, idempotency_key="k", returns=Ticket)
    assert Ticket(1, "Rome") == got
    assert [] == world.undone


async def test_refused_pivot(client: Mesh, world: World) -> None:
    """A pivot that is refused took no effect: there is a way back, and it is taken."""
    world.fails["payment"] = [no_answer(), refusal()]
    with pytest.raises(RemoteError, match="sold out"):
        await client.request("trips", "paid", ROME)
    assert ["flight"] == [name for name, _ in world.undone]


async def test_hand_over(open_mesh: OpenMesh, client: Mesh) -> None:
    """A saga whose instance stops goes on at another one, where it is; its wait too."""
    world = World()
    one, two = await open_mesh(), await open_mesh()
    first = await one.host(Trips(world))
    call = asyncio.create_task(
        client.request("trips", "patient", {"trip": ROME, "seconds": 0.5}, idempotency_key="k")
    )
    await eventually(lambda: world.booked)
    await two.host(Trips(world))
    del first
    await one.aclose()
    assert {"number": 1, "of": "Rome"} == await call
    await _until(client, "done")
    assert 1 == world.attempts["flight"]
