"""What an operator can look at and ask for, in memory and on a server alike.

The sagas are written by hand: nobody runs them, so that nothing moves but what a test moves.
"""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from agent99 import Mesh
from agent99.errors import JournalError, StreamNotFoundError, UsageError
from agent99.saga import Desk, SagaView, _desk
from agent99.saga._records import Cancel, Doubt, Record, Retry
from tests.saga._journals import SOLD_OUT, Hand, done, id_of, intent, result, started, stuck

NO_RECORD = b'{"kind":"of a later version"}'


@pytest.fixture
def hand(mesh: Mesh) -> Hand:
    """Give what writes journals."""
    return Hand(mesh)


@pytest.fixture
def desk(client: Mesh) -> Desk:
    """Give a desk in another process."""
    return Desk(client)


def _ids(views: tuple[SagaView, ...] | list[SagaView]) -> list[str]:
    return [view.saga_id for view in views]


# --- look -----------------------------------------------------------------------------------------


async def test_mesh_without_sagas(client: Mesh, desk: Desk) -> None:
    """Where no saga was ever begun there is nothing to see, and looking makes nothing."""
    assert (0, ()) == ((await desk.open_sagas()).count, (await desk.last_sagas()).sagas)
    assert (0, [], []) == (await desk.count_open(), await desk.open_ids(), await desk.every_saga())
    assert await desk.find(str(uuid4())) is None
    with pytest.raises(StreamNotFoundError):
        await client.link.journal.stream_state(f"KV_a99_{client.name}_sagas")


async def test_open_sagas_come_oldest_first(desk: Desk, hand: Hand) -> None:
    """By when they were begun, and not by when they were written to."""
    for number in (3, 1, 2):
        await hand.open(number)
    await hand.write(1, intent("flight"))
    listing = await desk.open_sagas()
    assert [id_of(1), id_of(2), id_of(3)] == _ids(listing.sagas) == await desk.open_ids()
    assert (3, 3) == (listing.count, await desk.count_open())


async def test_a_limit_leaves_out_the_younger(desk: Desk, hand: Hand) -> None:
    """What is left out is counted."""
    for number in range(1, 6):
        await hand.open(number)
    listing = await desk.open_sagas(count_max=2)
    assert ([id_of(1), id_of(2)], 5) == (_ids(listing.sagas), listing.count)


async def test_ended_saga_takes_no_place(desk: Desk, hand: Hand) -> None:
    """A marker whose saga has ended, or was never begun, counts as little as it is shown."""
    for number in (1, 4):
        await hand.open(number, done())
    await hand.mark(2, started_us=2)
    for number in (3, 5, 6):
        await hand.open(number)
    listing = await desk.open_sagas(count_max=2)
    assert ([id_of(3), id_of(5)], 3) == (_ids(listing.sagas), listing.count)


async def test_sagas_of_one_agent(desk: Desk, hand: Hand) -> None:
    """Each look may be for one agent."""
    await hand.open(1, agent="cars")
    await hand.open(2)
    for listing in (await desk.open_sagas("cars"), await desk.last_sagas("cars")):
        assert ([id_of(1)], 1) == (_ids(listing.sagas), listing.count)
    assert [id_of(1)] == await desk.open_ids(agent="cars") == _ids(await desk.every_saga("cars"))
    assert (1, 2) == (await desk.count_open("cars"), await desk.count_open())


async def test_stuck_sagas(desk: Desk, hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, however many, and those alone; one that cannot be read is none of them."""
    monkeypatch.setattr(_desk, "COUNT_MAX", 2)
    for number in range(1, 6):
        await hand.open(number, stuck())
    await hand.write(2, Retry(at_us=9))
    await hand.write(4, NO_RECORD)
    await hand.open(6, stuck(), agent="cars")
    assert [id_of(1), id_of(3), id_of(5), id_of(6)] == _ids(await desk.stuck_sagas())
    assert [id_of(6)] == _ids(await desk.stuck_sagas("cars"))


async def test_last_sagas(desk: Desk, hand: Hand) -> None:
    """Ended or not, the newest last; the limit leaves out the oldest."""
    for number in range(1, 6):
        await hand.open(number)
    await hand.write(2, done())
    assert [id_of(number) for number in range(1, 6)] == _ids((await desk.last_sagas()).sagas)
    listing = await desk.last_sagas(count_max=4)
    assert ([id_of(number) for number in range(2, 6)], 5) == (_ids(listing.sagas), listing.count)
    assert ["done", *["running"] * 3] == [view.history.state for view in listing.sagas]


async def test_beginning_of_an_id(desk: Desk, hand: Hand) -> None:
    """Open sagas alone are found by it."""
    for number in (1, 2):
        await hand.open(number)
    await hand.write(3, started(), done())
    assert [id_of(1)] == await desk.open_ids(id_of(1)[:6])
    assert [] == await desk.open_ids(id_of(3))


async def test_find(desk: Desk, hand: Hand) -> None:
    """One by its id, in whatever letters; None where there is none of it."""
    saga_id = await hand.open(1, intent("flight"), result("flight"))
    view = await desk.find(saga_id.upper())
    assert view is not None
    assert (saga_id, "trips", 3) == (view.saga_id, view.agent, len(view.records))
    assert await desk.find(str(uuid4())) is None


@pytest.mark.parametrize("word", ["", "*", "3f2a", "a.b", "x" * 36, ">"])
async def test_bad_id(desk: Desk, word: str) -> None:
    """What is no id is refused before anything is read."""
    for call in (desk.find, desk.cancel, desk.retry):
        with pytest.raises(UsageError, match="is no saga's id"):
            await call(word)


# --- what cannot be read --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(NO_RECORD, id="of a later version"),
        pytest.param(b"\xff", id="no JSON"),
        pytest.param(result("room"), id="of a step that was not begun"),
        pytest.param(started(), id="a second beginning"),
    ],
)
async def test_a_journal_that_cannot_be_read(
    desk: Desk, hand: Hand, record: Record | bytes
) -> None:
    """It is told by saga and record; the others are listed, and itself as far as it is known."""
    await hand.open(1)
    saga_id = await hand.open(2, intent("flight"), record, result("flight"))
    await hand.open(3)
    for call in (desk.find, desk.cancel, desk.retry):
        with pytest.raises(JournalError, match=f"saga {saga_id} cannot be read: record 4 of"):
            await call(saga_id)
    for views in (
        (await desk.open_sagas()).sagas,
        (await desk.last_sagas()).sagas,
        await desk.every_saga(),
    ):
        assert [id_of(1), saga_id, id_of(3)] == _ids(views)
        assert ["running", "unreadable", "running"] == [view.standing(0) for view in views]
        assert ("", 2) == (views[0].unreadable, len(views[1].records))
        assert "record 4 of its journal" in views[1].unreadable


# --- say ------------------------------------------------------------------------------------------


async def test_what_is_asked_for_is_a_record(desk: Desk, hand: Hand) -> None:
    """`cancel` and `retry` stand in the journal, and the marker says to look there."""
    saga_id = await hand.open(1, intent("flight"), stuck("flight"))
    assert 4 == await desk.retry(saga_id)
    assert "look" == await hand.flag(saga_id)
    assert 5 == await desk.cancel(saga_id.upper())
    view = await desk.find(saga_id)
    assert view is not None
    assert [Retry, Cancel] == [type(record) for record in view.records[-2:]]
    assert ("running", True) == (view.history.state, view.history.is_cancelled)


async def test_retry_of_one_that_runs(desk: Desk, hand: Hand) -> None:
    """It is allowed: what waits for its next attempt is tried at once."""
    saga_id = await hand.open(1, intent("flight"))
    await desk.retry(saga_id)
    assert "look" == await hand.flag(saga_id)


async def test_many_ask_at_once(desk: Desk, hand: Hand) -> None:
    """Whoever is late reads on, and writes after the others."""
    saga_id = await hand.open(1, stuck())
    sequences = await asyncio.gather(*(desk.retry(saga_id) for _ in range(5)))
    assert [3, 4, 5, 6, 7] == sorted(sequences)


async def test_what_has_ended_stays_so(desk: Desk, hand: Hand) -> None:
    """Nothing is written to it."""
    saga_id = await hand.open(1, done())
    for call in (desk.cancel, desk.retry):
        with pytest.raises(UsageError, match=f"saga {saga_id} has ended: done"):
            await call(saga_id)
    view = await desk.find(saga_id)
    assert view is not None
    assert 2 == len(view.records)


async def test_unknown_saga(desk: Desk, hand: Hand) -> None:
    """Nothing can be asked of what is not there."""
    await hand.open(1)
    unknown = str(UUID(int=7))
    for call in (desk.cancel, desk.retry):
        with pytest.raises(UsageError, match=f"there is no saga '{unknown}'"):
            await call(unknown)
    with pytest.raises(UsageError, match="there is no saga"):
        await desk.wait_settled(unknown, timeout_s=0)


async def test_no_way_back(desk: Desk, hand: Hand) -> None:
    """Past its pivot, or maybe so, a saga cannot be cancelled; it can be retried."""
    pivot = intent("payment", is_pivot=True)
    past = await hand.open(1, pivot, result("payment"), stuck())
    with pytest.raises(UsageError, match="is past its pivot, after which it only goes forward"):
        await desk.cancel(past)
    doubt = Doubt(step=pivot.step, error=SOLD_OUT, at_us=3)
    maybe = await hand.open(2, pivot, doubt)
    with pytest.raises(UsageError, match="may be past its pivot, whose outcome is unknown"):
        await desk.cancel(maybe)
    await desk.retry(past)
    await desk.retry(maybe)


async def test_wait_settled(desk: Desk, hand: Hand) -> None:
    """It waits until a saga has ended or is stuck; what it was before the wish does not count."""
    saga_id = await hand.open(1, intent("flight"), stuck("flight"))
    assert "stuck" == (await desk.wait_settled(saga_id, timeout_s=0)).history.state
    asked = await desk.retry(saga_id)
    waiting = asyncio.create_task(
        desk.wait_settled(saga_id, timeout_s=10, from_sequence=asked),
    )
    await asyncio.sleep(0)
    await hand.write(1, stuck("flight"))
    assert "stuck" == (await waiting).history.state
    asked = await desk.cancel(saga_id)
    later = await desk.wait_settled(saga_id, timeout_s=0, from_sequence=asked)
    assert ("running", False) == (later.history.state, later.is_settled)
    before = await desk.wait_settled(saga_id, timeout_s=0, from_sequence=asked + 1)
    assert asked == before.history.sequence
