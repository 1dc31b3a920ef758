"""Who is dead, and when it may be said: against a model, and by example."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent99.registry._judge import Judge

_LEASE_S = 7.0
_REFRESH_S = 2.0


def _judge(trusted_since_s: float = 0.0, now_s: float = 100.0) -> Judge:
    """Return a judge called `me` whose own leases were taken from then until now."""
    judge = Judge("me", lease_s=_LEASE_S, lease_refresh_s=_REFRESH_S)
    moment_s = trusted_since_s
    while moment_s < now_s:
        judge.refreshed(moment_s)
        moment_s += _REFRESH_S
    judge.refreshed(now_s)
    return judge


def test_a_lost_lease_is_death() -> None:
    """Whose lease was reported gone is dead, whoever else has one lives."""
    judge = _judge()
    judge.all_leases(["me", "a", "b"], 100)
    judge.unleased("a")
    assert ["a"] == judge.dead(["me", "a", "b"], 100)


def test_a_lease_that_came_back_is_life() -> None:
    """A lease that is written again before the sweep saves its process."""
    judge = _judge()
    judge.all_leases(["a"], 100)
    judge.unleased("a")
    judge.leased("a", 100)
    assert [] == judge.dead(["a"], 100)


def test_who_has_no_lease_is_given_one_round() -> None:
    """Records without a lease are removed when our own lease, a round later, is heard alone."""
    judge = _judge()
    judge.all_leases(["me"], 100)
    assert [] == judge.dead(["a", "b"], 100)
    judge.refreshed(102.4)
    judge.leased("me", 102.4)
    assert [] == judge.dead(["a", "b"], 103)
    judge.leased("b", 102.4)
    judge.refreshed(102.5)
    judge.leased("me", 102.5)
    assert ["a"] == judge.dead(["a", "b"], 103)


def test_a_snapshot_ends_what_was_known_before() -> None:
    """Who was lost or without a lease may have come back, unseen, and lost it with the bucket."""
    judge = _judge()
    judge.all_leases(["me", "a"], 100)
    judge.unleased("a")
    judge.dead(["a", "b"], 100)
    judge.all_leases(["me"], 104)
    judge.refreshed(104)
    assert [] == judge.dead(["a", "b"], 104)
    judge.refreshed(107)
    judge.leased("me", 107)
    assert ["a", "b"] == judge.dead(["a", "b"], 107)


def test_a_newcomer_judges_nobody_for_a_lease_time() -> None:
    """Until its own leases were taken for a whole lease time, nobody is dead."""
    judge = _judge(trusted_since_s=95)
    judge.all_leases(["a"], 100)
    judge.unleased("a")
    assert [] == judge.dead(["a"], 101.9)
    assert ["a"] == judge.dead(["a"], 102)


def test_after_a_break_nobody_is_judged_for_a_lease_time() -> None:
    """When the link went away, everybody first has the time to refresh."""
    judge = _judge()
    judge.all_leases(["a"], 100)
    judge.broken()
    judge.unleased("a")
    assert [] == judge.dead(["a"], 101)
    judge.refreshed(102)
    judge.refreshed(106)
    assert [] == judge.dead(["a"], 108.9)
    assert ["a"] == judge.dead(["a"], 109)


def test_a_gap_in_our_own_leases_is_a_break() -> None:
    """When our own lease was not taken for so long that others may have run out, nobody is dead."""
    judge = _judge()
    judge.all_leases(["a"], 100)
    judge.unleased("a")
    assert ["a"] == judge.dead(["a"], 104.5)
    assert [] == judge.dead(["a"], 104.6)
    judge.refreshed(108)
    assert [] == judge.dead(["a"], 108)
    judge.refreshed(112)
    assert not judge.may_judge(114.9)
    assert judge.may_judge(115)


def test_silence_is_death_only_while_our_own_lease_is_heard() -> None:
    """Without a notice, a lease silent for long is gone; unless the whole stream is silent."""
    judge = _judge()
    judge.all_leases(["me", "a"], 100)
    for moment_s in range(102, 130, 2):
        judge.refreshed(moment_s)
    assert [] == judge.dead(["a"], 130)
    judge.leased("me", 130)
    assert ["a"] == judge.dead(["a"], 130)


def test_never_oneself() -> None:
    """Whatever is heard, a judge does not find itself dead."""
    judge = _judge()
    judge.all_leases(["me"], 100)
    judge.unleased("me")
    assert [] == judge.dead(["me"], 100)


def test_nothing_is_remembered_of_who_has_no_records() -> None:
    """A verdict ends with the records: the same process, seen later, begins anew."""
    judge = _judge()
    judge.all_leases(["a"], 100)
    judge.unleased("a")
    assert ["a"] == judge.dead(["a"], 100)
    assert [] == judge.dead([], 100)
    assert [] == judge.dead(["a"], 100)
    assert "Judge('me', leases=0, lost=0)" == repr(judge)


class JudgeModel(RuleBasedStateMachine):
    """Whatever happens in whatever order, the living are never judged dead.

    A process lives while it refreshes; it refreshes at least every `_REFRESH_S` while the link is
    there. Leases run out as they do on a server, the link's absence included.
    """

    def __init__(self) -> None:
        super().__init__()
        self.judge = Judge("me", lease_s=_LEASE_S, lease_refresh_s=_REFRESH_S)
        self.now_s = 0.0
        self.link = True
        self.alive = {"me", "a", "b", "c"}
        self.leases: dict[str, float] = {}
        self._refresh()

    @rule(steps=st.integers(1, 6))
    def pass_time(self, steps: int) -> None:
        """Time passes; the living refresh while the link is there, leases run out."""
        for _ in range(steps):
            self.now_s += _REFRESH_S / 2
            for process, until_s in tuple(self.leases.items()):
                if until_s <= self.now_s and not (self.link and process in self.alive):
                    del self.leases[process]
                    if self.link:
                        self.judge.unleased(process)
            if self.link:
                self._refresh()

    @rule()
    def cut(self) -> None:
        """The link goes away."""
        if self.link:
            self.link = False
            self.judge.broken()

    @rule()
    def mend(self) -> None:
        """The link is back; a snapshot comes, and others may not have refreshed yet."""
        if not self.link:
            self.link = True
            self.leases = {p: s for p, s in self.leases.items() if s > self.now_s}
            self.judge.all_leases(self.leases, self.now_s)

    @rule()
    def restart(self) -> None:
        """The judge loses the election and wins it again."""
        if self.link:
            self.judge.forget_leases()
            self.judge.all_leases(self.leases, self.now_s)

    @rule()
    def wipe(self) -> None:
        """The bucket is lost, and made again by who comes first."""
        if self.link:
            self.leases = {"me": self.now_s + _LEASE_S}
            self.judge.all_leases(self.leases, self.now_s)

    @rule(process=st.sampled_from(["a", "b", "c"]))
    def kill(self, process: str) -> None:
        """A process dies without a word."""
        self.alive.discard(process)

    @rule()
    def judge_now(self) -> None:
        """Only the dead are found dead."""
        found = self.judge.dead(["me", "a", "b", "c"], self.now_s)
        assert not set(found) & self.alive

    @rule()
    def all_the_dead_are_found(self) -> None:
        """After a quiet time of two leases and some refreshes every dead process is found."""
        if self.link:
            self.judge.dead(["a", "b", "c"], self.now_s)
            for _ in range(4):
                self.pass_time(6)
            found = self.judge.dead(["a", "b", "c"], self.now_s)
            assert {"a", "b", "c"} - self.alive == set(found)

    @invariant()
    def holds(self) -> None:
        """The judge's own invariant holds."""
        self.judge._check()

    def _refresh(self) -> None:
        for process in sorted(self.alive):
            self.leases[process] = self.now_s + _LEASE_S
            self.judge.leased(process, self.now_s)
        self.judge.refreshed(self.now_s)


TestJudge = JudgeModel.TestCase
TestJudge.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
