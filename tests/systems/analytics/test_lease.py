"""Who closes which windows: one processor each, and another one when it dies."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent99.systems.analytics._lease import LEASE_S, Claim, Leases


def claim(pipeline: str, owner: str = "", epoch: int = 0, beats: int = 0) -> Claim:
    return Claim(pipeline, owner, epoch, beats)


def test_what_is_free_is_taken_at_once() -> None:
    """A pipeline that nobody has is taken, without waiting for a lease to run out."""
    plan = Leases("me").plan([claim("a"), claim("b")], {}, members=1, now_s=0.0)
    assert ["a", "b"] == [one.pipeline for one in plan.take]
    assert ([], []) == (plan.lost, plan.give)


def test_beats_that_stand_still_are_waited_for() -> None:
    """Another one's pipeline is taken when its beats have stood still for the lease, not before."""
    leases = Leases("me")
    still = [claim("a", "other", 1, 7)]
    assert [] == leases.plan(still, {}, 2, now_s=0.0).take
    assert [] == leases.plan(still, {}, 2, now_s=LEASE_S * 0.9).take
    beating = [claim("a", "other", 1, 8)]
    assert [] == leases.plan(beating, {}, 2, now_s=LEASE_S).take
    assert [] == leases.plan(beating, {}, 2, now_s=LEASE_S * 1.9).take
    assert beating == leases.plan(beating, {}, 2, now_s=LEASE_S * 2).take


def test_a_higher_epoch_is_a_lost_lease() -> None:
    """Who was taken over from lets go."""
    plan = Leases("me").plan([claim("a", "other", 2, 9)], {"a": 1}, members=2, now_s=0.0)
    assert (["a"], [], []) == plan


def test_who_has_too_much_gives_back() -> None:
    """When others come, what is above one's share is given back."""
    claims = [claim(name, "me", 1) for name in "abcd"]
    plan = Leases("me").plan(claims, dict.fromkeys("abcd", 1), members=2, now_s=0.0)
    assert (["c", "d"], []) == (plan.give, plan.take)


class Hall:
    """Processors that look at the same claims, in turn."""

    def __init__(self, pipelines: int, processors: int) -> None:
        self.state = {f"w{number}": claim(f"w{number}") for number in range(pipelines)}
        self.leases = {f"p{number}": Leases(f"p{number}") for number in range(processors)}
        self.mine: dict[str, dict[str, int]] = {owner: {} for owner in self.leases}

    def look(self, owner: str, members: int, now_s: float) -> None:
        """Have one show that it lives, and do what its plan says."""
        state, mine = self.state, self.mine[owner]
        for name, epoch in mine.items():
            if state[name].epoch == epoch:
                state[name] = state[name]._replace(beats=state[name].beats + 1)
        plan = self.leases[owner].plan(state.values(), mine, members, now_s)
        for name in plan.lost:
            del mine[name]
        for name in plan.give:
            del mine[name]
            state[name] = state[name]._replace(owner="")
        for one in plan.take:
            assert state[one.pipeline] == one
            state[one.pipeline] = Claim(one.pipeline, owner, one.epoch + 1, one.beats + 1)
            mine[one.pipeline] = one.epoch + 1


@given(st.integers(1, 12), st.lists(st.booleans(), min_size=1, max_size=5).filter(any))
def test_living_processors_share_everything(pipelines: int, living: list[bool]) -> None:
    """Whoever is dead: the living soon have all pipelines, each of them one, in even shares."""
    hall = Hall(pipelines, len(living))
    alive = [owner for owner, lives in zip(hall.leases, living, strict=True) if lives]
    for turn in range(12):
        there = list(hall.leases) if turn < 3 else alive
        for owner in there:
            hall.look(owner, len(there), turn * 0.5)
    assert sorted(hall.state) == sorted(name for owner in alive for name in hall.mine[owner])
    share = -(-pipelines // len(alive))
    assert all(len(hall.mine[owner]) <= share for owner in alive)
