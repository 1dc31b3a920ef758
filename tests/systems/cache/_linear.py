"""Is there an order in which operations, each at one moment of its time, give what was answered?

The search of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) with the memory of
Lowe ("Testing for Linearizability", 2017): it puts the operations in an order, one by one, and goes
no way twice that leaves the same to be ordered from the same state. Four things keep it short:

- An answer that fits and changes nothing is taken at once: first is as good a place as any later.
- Versions grow: what told a higher one does not come before what told a lower one.
- Operations whose outcome nobody knows need not take effect. So a way that has used more of them is
  not gone, if one that has used fewer left the same.
- Two of them that do the same are the same: the earlier is used first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import msgspec

from tests.systems.cache._register import MISSING, Operation, State, after

WAYS_MAX = 300_000
"""A search that needs more gives up: an explanation takes about one for each operation."""
TOLD_MAX = 20
"""Of a prefix, so many of the last operations are told in words."""


class Anomaly(msgspec.Struct, frozen=True):
    """The shortest prefix of a history that no order explains."""

    prefix: tuple[Operation, ...]
    """All that was invoked before the culprit returned, in the order of their invocations."""
    culprit: Operation
    """With all orders of the others, this answer is not possible."""
    states: tuple[State, ...]
    """What the key could be at that moment, as far as orders were tried."""
    is_certain: bool = True
    """False: the search gave up, and this is where it came to."""

    def __str__(self) -> str:
        told = [f"  {operation}" for operation in self.prefix[-TOLD_MAX:]]
        left_out = len(self.prefix) - len(told)
        verb = "explains" if self.is_certain else "was found that explains"
        return "\n".join(
            (
                f"no order {verb}: {self.culprit}",
                f"the key could be: {', '.join(map(str, self.states))}",
                f"after {left_out} operations," if left_out else "after",
                *told,
            )
        )


def find_anomaly(operations: Sequence[Operation], *, ways_max: int = WAYS_MAX) -> Anomaly | None:
    """Return what cannot be explained of a key's history; None if all of it can.

    The key is missing at first. Operations that failed for certain are left out. Two operations
    that touch at one nanosecond may have either order. A search that gives up says so.
    """
    return _Search(operations).run(ways_max)


class _Way(NamedTuple):
    """An order of some operations, as far as it matters for what may follow."""

    low: int
    """The first operation, by its number, that has no place yet."""
    ahead: int
    """Bit i: the operation `low + i` has its place."""
    used: int
    """Bit i: so has unknown operation i."""
    state: State


class _Search:
    """One search.

    Invariant: `_done` and `_unknown` are in the order of their invocations; so whatever is invoked
    after the earliest return of those without a place cannot come next, nor can any behind it.
    """

    def __init__(self, operations: Sequence[Operation]) -> None:
        ordered = sorted(operations, key=lambda one: one.invoked_ns)
        self._done = [one for one in ordered if one.outcome == "ok"]
        self._unknown = [one for one in ordered if one.outcome == "unknown" and one.name != "get"]
        self._twins = _twins(self._unknown, {one.result for one in self._done})
        self._seen: dict[tuple[int, int, State], list[int]] = {}
        self._culprit: Operation | None = None
        self._states: dict[State, None] = {}

    def run(self, ways_max: int) -> Anomaly | None:
        """Go all ways until one is at the end."""
        ways = [_Way(0, 0, 0, MISSING)]
        gone = 0
        while ways and gone < ways_max:
            way = ways.pop()
            if way.low == len(self._done):
                return None
            if self._is_new(way):
                gone += 1
                ways += self._next(way)
        return self._anomaly(is_certain=not ways)

    def _is_new(self, way: _Way) -> bool:
        used_before = self._seen.setdefault((way.low, way.ahead, way.state), [])
        if any(used & way.used == used for used in used_before):
            return False
        used_before.append(way.used)
        return True

    def _next(self, way: _Way) -> list[_Way]:
        """Return the ways that go on from one; the last is the likeliest."""
        # Who returned early was early, most often; what nobody knows comes into play when it must.
        candidates = sorted(self._candidates(way), key=self._returned_ns, reverse=True)
        first = self._done[candidates[-1]]
        self._note(way, first)
        version_max = min(filter(None, (self._done[n].version for n in candidates)), default=0)
        found: list[_Way] = []
        for number in candidates:
            operation = self._done[number]
            state = after(way.state, operation)
            if state == way.state and operation.changed_nothing:
                return [_placed(way, number, way.state)]
            if state is not None and operation.version <= version_max:
                found.append(_placed(way, number, state))
        return [*self._with_unknown(way, first.returned_ns), *found]

    def _candidates(self, way: _Way) -> list[int]:
        """Return the operations that may come next."""
        found: list[int] = []
        until_ns = self._done[way.low].returned_ns
        ahead, number = way.ahead, way.low
        while number < len(self._done) and self._done[number].invoked_ns <= until_ns:
            found.append(number)
            until_ns = min(until_ns, self._done[number].returned_ns)
            ahead |= 1 << (number - way.low)
            number = way.low + _first_zero(ahead)
        return found

    def _with_unknown(self, way: _Way, until_ns: int) -> Iterator[_Way]:
        for number, operation in enumerate(self._unknown):
            if operation.invoked_ns > until_ns:
                return
            twin = self._twins[number]
            is_in_turn = twin < 0 or way.used >> twin & 1
            if way.used >> number & 1 or not is_in_turn:
                continue
            state = after(way.state, operation)
            if state is not None and state != way.state:
                yield way._replace(used=way.used | 1 << number, state=state)

    def _returned_ns(self, number: int) -> int:
        return self._done[number].returned_ns

    def _note(self, way: _Way, first: Operation) -> None:
        """Remember which operation is in the way of those that came furthest."""
        if self._culprit is None or first.returned_ns > self._culprit.returned_ns:
            self._culprit = first
            self._states = {}
        if first is self._culprit:
            self._states[way.state] = None

    def _anomaly(self, *, is_certain: bool) -> Anomaly:
        culprit = self._culprit
        assert culprit is not None, "an empty history has an order"
        every = sorted([*self._done, *self._unknown], key=lambda one: one.invoked_ns)
        prefix = tuple(one for one in every if one.invoked_ns <= culprit.returned_ns)
        return Anomaly(prefix, culprit, tuple(self._states), is_certain)


def _placed(way: _Way, number: int, state: State) -> _Way:
    ahead = way.ahead | 1 << (number - way.low)
    shift = _first_zero(ahead)
    return _Way(way.low + shift, ahead >> shift, way.used, state)


def _first_zero(bits: int) -> int:
    return (~bits & (bits + 1)).bit_length() - 1


def _twins(operations: Sequence[Operation], told: AbstractSet[object]) -> list[int]:
    """Return for each the last one before it that does the same, or -1.

    Texts that no answer told are the same.
    """
    latest: dict[object, int] = {}
    found: list[int] = []
    for number, one in enumerate(operations):
        is_told = one.value in told or isinstance(one.value, int)
        effect = (one.name, one.value if is_told else None, one.expected)
        found.append(latest.get(effect, -1))
        latest[effect] = number
    return found
