"""A saga comes to the same end wherever its process dies, and however often."""

from __future__ import annotations

import random

import pytest
from hypothesis import example, given, settings

from agent99.saga._history import History
from agent99.saga._records import Cancel, Failed, Result
from tests.saga._programme import Act, Deaths, check, play, programmes

_PAIR = (Act("a"), Act("b", beside=True))


@settings(max_examples=60)
@given(programmes())
@example((_PAIR, True))
async def test_ends_as_the_model(drawn: tuple[tuple[Act, ...], bool]) -> None:
    """Left alone, a saga does what its steps say, once, and undoes it in reverse if it fails."""
    acts, fails = drawn
    check(await play(acts, fails=fails, deaths=Deaths()), acts, fails=fails)


@settings(max_examples=15)
@given(programmes())
@example((_PAIR, True))
@example((_PAIR, False))
async def test_every_crash_point(drawn: tuple[tuple[Act, ...], bool]) -> None:
    """Wherever its process dies once, the next one brings it to the same end."""
    acts, fails = drawn
    points = Deaths()
    await play(acts, fails=fails, deaths=points)
    for point in range(1, points.points + 1):
        ending = await play(acts, fails=fails, deaths=Deaths(point))
        assert 2 == ending.runs
        check(ending, acts, fails=fails)


async def test_many_crashes(seed: int) -> None:
    """However many processes die of it, a saga does everything once."""
    luck = random.Random(seed)
    acts = (Act("a"), Act("b", "is silent, and did"), Act("c", "is silent, and did not"), Act("d"))
    for fails in (False, True):
        for _ in range(20):
            deaths = Deaths(*luck.sample(range(1, 120), 25))
            check(await play(acts, fails=fails, deaths=deaths), acts, fails=fails)


@settings(max_examples=30)
@given(programmes())
async def test_every_prefix(drawn: tuple[tuple[Act, ...], bool]) -> None:
    """Each beginning of a journal is a legal one, and only the whole of it is at an end."""
    acts, fails = drawn
    ending = await play(acts, fails=fails, deaths=Deaths())
    history, known = History(), 0
    for sequence, record in enumerate(ending.records, 1):
        assert history.finished is None
        history.apply(record, sequence)
        outcomes = sum(
            isinstance(each.outcome, (Result, Failed)) for each in history.steps.values()
        )
        assert known <= outcomes <= len(history.steps)
        known = outcomes
        undone = {each.step for each in history.steps.values() if each.undone_us}
        assert not undone & {each.step for each in history.undos()}
    assert history.finished is not None
    assert [] == history.undos() or history.state == "done"


@pytest.mark.parametrize("where", [1, 2, 3])
async def test_pivot_goes_forward_alone(where: int) -> None:
    """What fails after a pivot undoes nothing: the saga is stuck, and says so."""
    acts = [Act("a"), Act("b"), Act("c"), Act("d")]
    acts[where - 1] = Act(acts[where - 1].name, is_pivot=True)
    ending = await play(tuple(acts), fails=True, deaths=Deaths())
    assert "stuck" == ending.history.state
    assert [] == ending.world.undone
    assert not ending.history.may_turn_back
    ending.history.apply(Cancel(at_us=0), ending.history.sequence + 1)
    assert not ending.history.is_cancelled
