"""Whether a new generation has what the live one has, against sets of events. Pure."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent99.projections._catch_up import Positions, Settled, has_caught_up, progress, seen_up_to

PARTS = 3


class World:
    """A log, two generations that read it up to some place each, and what was dropped of it."""

    def __init__(self, draw: st.DrawFn) -> None:
        size = draw(st.integers(0, 12))
        self.log = [draw(st.integers(0, PARTS - 1)) for _ in range(size)]
        """By place, from 1 on: the partition."""
        self.reads = [draw(st.booleans()) for _ in range(size)]
        """Whether the new generation reads the event: it may read fewer topics."""
        self.first = draw(st.integers(1, size + 1))
        """What lies before was dropped, before the new generation came to it."""
        self.live_at = [draw(st.integers(0, size)) for _ in range(PARTS)]
        self.new_at = [draw(st.integers(0, size)) for _ in range(PARTS)]

    def of_live(self) -> set[int]:
        """Return what the live generation has counted, and the new one should have."""
        return {
            place
            for place in self._places()
            if place <= self.live_at[self._part(place)]
            and self.reads[place - 1]
            and place >= self.first
        }

    def of_new(self) -> set[int]:
        """Return what the new one has counted."""
        return {
            place
            for place in self._places()
            if place <= self.new_at[self._part(place)]
            and self.reads[place - 1]
            and place >= self.first
        }

    def positions(self, *, is_new: bool) -> Positions:
        """Return the places of the last events that were counted."""
        found = dict[int, tuple[int, int]]()
        for part in range(PARTS):
            at = (self.new_at if is_new else self.live_at)[part]
            counted = [
                place
                for place in self._places()
                if self._part(place) == part
                and place <= at
                and (not is_new or (self.reads[place - 1] and place >= self.first))
            ]
            found[part] = (0, max(counted, default=0))
        return found

    def settled(self) -> Settled:
        """Look at the log, as the keeper does."""
        new = self.positions(is_new=True)
        left = {
            self._part(place)
            for place in self._places()
            if place >= self.first and self.reads[place - 1] and place > new[self._part(place)][1]
        }
        done = {part: at for part, (_, at) in new.items() if part not in left}
        return Settled(len(self.log), done)

    def left(self) -> dict[int, int]:
        """Return what the new generation has still to count, by partition."""
        new = self.positions(is_new=True)
        return {
            part: sum(
                self._part(place) == part and place > new[part][1] and self.reads[place - 1]
                for place in self._places()[self.first - 1 :]
            )
            for part in range(PARTS)
        }

    def _places(self) -> range:
        return range(1, len(self.log) + 1)

    def _part(self, place: int) -> int:
        return self.log[place - 1]


worlds = st.composite(World)()


@given(worlds)
def test_nothing_that_was_read_goes_missing(world: World) -> None:
    """Who has caught up has all that readers saw; who has all that the log holds has caught up."""
    new, live = world.positions(is_new=True), world.positions(is_new=False)
    found = has_caught_up(new, live, world.settled())
    if found:
        assert world.of_live() <= world.of_new()
    if len(world.settled().positions) == PARTS:
        assert found


@given(worlds)
def test_without_a_look_at_the_log_positions_decide(world: World) -> None:
    """Where nothing is known of the log, each position must be as high as the live one's."""
    new, live = world.positions(is_new=True), world.positions(is_new=False)
    assert has_caught_up(new, live, Settled()) is all(new[p][1] >= live[p][1] for p in live)
    assert has_caught_up(live, live, Settled())


@given(worlds)
def test_what_came_after_the_look_is_not_covered_by_it(world: World) -> None:
    """A look at the log says nothing of what the live generation has counted past its end."""
    new, live = world.positions(is_new=True), world.positions(is_new=False)
    later = {**live, 0: (0, len(world.log) + 1)}
    assert not has_caught_up(new, later, world.settled())


@given(worlds)
def test_progress(world: World) -> None:
    """Progress lies between 0 and 1, and is 1 exactly if nothing is left to do."""
    new, left = world.positions(is_new=True), world.left()
    found = progress(new, left, world.first, len(world.log))
    assert 0.0 <= found <= 1.0
    assert (found == 1.0) is not any(left.values())


@given(worlds)
def test_all_that_was_seen_was_counted(world: World) -> None:
    """Up to the place that it is said to have seen, a generation has counted all there was."""
    seen = seen_up_to(world.positions(is_new=True), world.left(), len(world.log))
    everything = {place for place in range(world.first, seen + 1) if world.reads[place - 1]}
    assert everything <= world.of_new()
