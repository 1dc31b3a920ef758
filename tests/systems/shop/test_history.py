"""The read model of the orders: a fold that takes events in any order, and where it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.clock import SystemClock
from agent99.errors import Failure
from agent99.ids import SystemIds
from agent99.systems.shop._events import Told, read_told
from agent99.systems.shop._history import History
from agent99.systems.shop._history_model import (
    Digest,
    OrderRecord,
    digest_of,
    fold,
    fold_all,
)
from agent99.systems.shop._opening import open_history
from agent99.systems.shop._settings import settings_on
from tests.systems.shop._shop import an_id
from tests.systems.shop._told import WAYS, story_of, tellings


def _records(told: Iterable[Told]) -> list[OrderRecord]:
    records: dict[object, OrderRecord] = {}
    for each in told:
        before = records.get(each.order_id, OrderRecord(order_id=each.order_id))
        records[each.order_id] = fold(before, each)
    return list(records.values())


@given(tellings())
def test_the_order_and_number_of_events_make_no_difference(
    telling: tuple[list[Told], list[Told]],
) -> None:
    """The same events, in any order and told once or more, are one model with one hash."""
    story, shuffled = telling
    told, again = _records(story), _records(shuffled)
    assert {each.order_id: each for each in told} == {each.order_id: each for each in again}
    assert digest_of(told) == digest_of(again)


@given(st.sampled_from(WAYS), st.data())
def test_one_event_less_is_another_hash(way: str, data: st.DataObject) -> None:
    """A hash tells of each event, but for a shipment's first state once its last one is known."""
    story = story_of("tea", way)
    missing = data.draw(st.sampled_from(story))
    less = [each for each in story if each is not missing]
    is_superseded = type(missing).__name__ == "ShipmentPrepared"
    same = digest_of([fold_all(an_id("tea"), each) for each in [story]]) == digest_of(
        [fold_all(an_id("tea"), less)]
    )
    assert is_superseded == same


def test_events_that_contradict_each_other_make_no_difference_either() -> None:
    """Of two events with one name it is the same one that counts, in whatever order they come."""
    first, second = story_of("tea", "confirmed"), story_of("tea", "late")
    order_id = an_id("tea")
    assert fold_all(order_id, [*first, *second]) == fold_all(order_id, [*second, *first])


def test_a_record_says_what_became_of_an_order() -> None:
    """State and reason are the last step's, money is summed, shipments are as they ended."""
    record = fold_all(an_id("tea"), reversed(story_of("tea")))
    assert ("confirmed", None, 520, 100) == (
        record.state, record.reason, record.total_pence, record.refunded_pence
    )  # fmt: skip
    assert [0, 1, 2, 3, 4] == [each.step for each in record.steps]
    assert [(1, "shipped"), (2, "cancelled")] == [(s.part, s.state) for s in record.shipments]
    assert ["order_confirmation"] == [each.type for each in record.messages]
    assert (1_000, 3_000) == (record.received_us, record.changed_us)
    record = fold_all(an_id("mug"), story_of("mug", "rejected"))
    assert ("rejected", "PAYMENT_ERROR", 0) == (record.state, record.reason, record.refunded_pence)


def test_a_hash_takes_its_records_by_their_ids() -> None:
    """One that comes out of its turn, or twice, is an error and no other hash."""
    digest = Digest()
    digest.add("b", "{}")
    for order_id in ("a", "b"):
        with pytest.raises(ValueError, match="comes after"):
            digest.add(order_id, "{}")


def test_other_topics_are_none_of_the_shops() -> None:
    """What the checker or somebody else tells is passed over."""
    assert read_told("shop.violation", b"{}") is None
    assert read_told("order.lost", {}) is None


# --- in SQL ---------------------------------------------------------------------------------------


@pytest.fixture
async def histories(url: str) -> AsyncIterator[tuple[History, History]]:
    """Give the read model twice, as two processes have it, on either kind of database."""
    opened = [await open_history(settings_on(url), SystemClock(), SystemIds()) for _ in range(2)]
    yield opened[0][1], opened[1][1]
    for store, _ in opened:
        await store.aclose()


async def _rebuilt(history: History, told: list[Told]) -> int:
    generation = await history.begin()
    await history.add(generation, told)
    return generation


async def test_two_processes_hear_at_once(histories: tuple[History, History]) -> None:
    """Every event is in the model, whoever hears it, and whoever hears it too."""
    story = [told for number in range(5) for told in story_of(number)]
    await asyncio.gather(*(history.hear(told) for told in story for history in histories))
    digest = await histories[0].digest()
    assert (5, {"confirmed": 5}) == (digest.orders, digest.by_state)
    assert digest_of(_records(story)) == digest.hash
    assert _records(story_of(3)) == [await histories[1].record(an_id(3))]


async def test_an_order_of_which_nobody_told(histories: tuple[History, History]) -> None:
    """It is not found; an empty model has a hash of its own."""
    with pytest.raises(Failure, match="no event tells of an order") as caught:
        await histories[0].record(an_id("none"))
    assert "ORDER_NOT_FOUND" == caught.value.code
    digest = await histories[0].digest()
    assert (0, {}, digest_of([])) == (digest.orders, digest.by_state, digest.hash)


async def test_what_is_heard_while_it_is_built_is_in_both(
    histories: tuple[History, History],
) -> None:
    """A model made anew lacks nothing that was told meanwhile, and forgets what no event tells."""
    history, other = histories
    before, meanwhile = story_of("tea"), story_of("mug", "rejected")
    for told in [*before, *story_of("never")]:
        await history.hear(told)
    generation = await history.begin()
    for told in meanwhile:
        await other.hear(told)
    await history.add(generation, before)
    live, built = await history.compare(generation)
    assert digest_of(_records([*before, *meanwhile])) == built.hash != live.hash
    assert live == await other.digest()
    await history.replace(generation)
    assert built == await other.digest()
    await history.hear(meanwhile[0])
    assert built == await history.digest()


async def test_of_two_that_build_the_later_wins(histories: tuple[History, History]) -> None:
    """The earlier is told so, retryable, and changes nothing; so is one that was killed."""
    history, other = histories
    await history.hear(story_of("tea")[0])
    live = await history.digest()
    first = await _rebuilt(history, story_of("mug"))
    second = await _rebuilt(other, story_of("tea")[:1])
    for late in (
        history.add(first, story_of("mug")),
        history.compare(first),
        history.replace(first),
    ):
        with pytest.raises(Failure) as caught:
            await late
        assert ("REBUILD_SUPERSEDED", True) == (caught.value.code, caught.value.retryable)
    assert (live, live) == await other.compare(second)
    await other.replace(second)
    assert live == await history.digest()
