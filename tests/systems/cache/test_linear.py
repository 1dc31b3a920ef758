"""The checker accepts what an atomic register may answer, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations, permutations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.systems.cache._linear import find_anomaly
from tests.systems.cache._plain_register import (
    NAMES,
    VALUES,
    Draw,
    draws,
    history_of,
)
from tests.systems.cache._register import MISSING, Operation, Value, after

Result = Value | bool | None


def told(number: int, name: str, value: Value | None = None, result: Result = None) -> Operation:
    """Return an operation that overlaps with none of another number."""
    return Operation(f"c{number}", name, 10 * number, 10 * number + 5, value, result=result)


def unknown(number: int, name: str, value: Value | None = None) -> Operation:
    """Return one whose outcome nobody knows."""
    return Operation(f"c{number}", name, 10 * number, 0, value, outcome="unknown")


def forgotten(operation: Operation) -> Operation:
    """Return the same without its answer."""
    return msgspec.structs.replace(operation, outcome="unknown", result=None, version=0)


def versioned(operation: Operation, version: int, *, expected: int = 0) -> Operation:
    """Return the same with versions."""
    return msgspec.structs.replace(operation, version=version, expected=expected)


def behind(history: Sequence[Operation], rest: Sequence[Operation]) -> list[Operation]:
    """Return the history with others behind all that it knows the end of."""
    end_ns = max([0, *(each.returned_ns for each in history)]) + 1
    moved = [
        msgspec.structs.replace(
            each,
            invoked_ns=each.invoked_ns + end_ns,
            returned_ns=each.returned_ns + end_ns,
        )
        for each in rest
    ]
    return [*history, *moved]


# --- what it accepts ------------------------------------------------------------------------------


@given(st.lists(draws(), max_size=40))
def test_what_took_place_has_an_order(plan: list[Draw]) -> None:
    """Any history of a real register is accepted, however its operations overlap."""
    assert find_anomaly(history_of(plan)) is None


@given(st.lists(draws(("get", "incr")), max_size=40))
def test_what_was_counted_has_an_order(plan: list[Draw]) -> None:
    """So is any history of a counter, where most operations are alike."""
    assert find_anomaly(history_of(plan)) is None


def test_nothing_has_an_order() -> None:
    """An empty history, and one of failures alone, are accepted."""
    failed = msgspec.structs.replace(told(1, "incr", 1), outcome="failed")
    assert find_anomaly([]) is None
    assert find_anomaly([failed, told(2, "get")]) is None


def test_an_unknown_write_may_come_late() -> None:
    """What nobody knows the outcome of may take effect after others that came later."""
    history = [
        unknown(1, "set", "late"),
        told(2, "set", "a"),
        told(3, "get", result="a"),
        told(4, "get", result="late"),
    ]
    assert find_anomaly(history) is None


# --- what it refuses ------------------------------------------------------------------------------

FAULTS = {
    "a stale read after a write": (
        told(1, "set", "old"),
        told(2, "set", "new"),
        told(3, "get", result="old"),
    ),
    "a deleted key that comes back": (
        told(1, "set", "old"),
        told(2, "delete", result=True),
        told(3, "get", result="old"),
    ),
    "a lost increment": (
        told(1, "set", 1_000),
        told(2, "incr", 1, result=1_001),
        told(3, "incr", 1, result=1_001),
    ),
    "a value out of nowhere": (told(1, "get", result="nowhere"),),
    "a value that was refused": (
        told(1, "set", "old"),
        told(2, "add", "refused", result=False),
        told(3, "get", result="refused"),
    ),
    "a cas that succeeds twice": (
        versioned(told(1, "set", "old"), 1_000),
        versioned(told(2, "cas", "new", result=True), 1_001, expected=1_000),
        versioned(told(3, "cas", "newer", result=True), 1_002, expected=1_000),
    ),
    "a version that goes back": (
        versioned(told(1, "set", "old"), 1_001),
        versioned(told(2, "set", "new"), 1_000),
    ),
}
"""Refused whatever came before: no unknown operation of a drawn history writes such values."""
FAULTS_IF_ALL_IS_KNOWN = {
    "a lost write": (told(1, "set", "new"), told(2, "get")),
    "an increment that counts twice": (told(1, "set", 1_000), told(2, "incr", 1, result=1_002)),
    "an add where there is something": (told(1, "set", "old"), told(2, "add", "a", result=True)),
    "a delete of what is there that finds nothing": (
        told(1, "set", "old"),
        told(2, "delete", result=False),
    ),
    "a cas that fails and should not": (
        versioned(told(1, "set", "old"), 1_000),
        versioned(told(2, "cas", "new", result=False), 0, expected=1_000),
    ),
}
"""Refused where nothing unknown may have come between."""


@pytest.mark.parametrize("fault", FAULTS)
@given(st.lists(draws(), max_size=12))
@settings(max_examples=30)
def test_a_planted_fault_is_refused(fault: str, plan: list[Draw]) -> None:
    """Each fault is found behind any legal history; the last answer of it is named."""
    planted = behind(history_of(plan), FAULTS[fault])
    anomaly = find_anomaly(planted)
    assert anomaly is not None
    assert planted[-1] == anomaly.culprit


@pytest.mark.parametrize("fault", FAULTS_IF_ALL_IS_KNOWN)
@given(st.lists(draws(outcomes=(False,)), max_size=12))
@settings(max_examples=30)
def test_a_fault_is_refused_that_only_the_unknown_excuses(fault: str, plan: list[Draw]) -> None:
    """Each is found behind any legal history whose outcomes are all known."""
    planted = behind(history_of(plan), FAULTS_IF_ALL_IS_KNOWN[fault])
    anomaly = find_anomaly(planted)
    assert anomaly is not None
    assert planted[-1] == anomaly.culprit


@pytest.mark.parametrize(
    ("excuse", "fault"),
    [
        (unknown(0, "delete"), "a lost write"),
        (unknown(0, "incr", 1), "an increment that counts twice"),
        (unknown(0, "delete"), "an add where there is something"),
        (unknown(0, "delete"), "a delete of what is there that finds nothing"),
        (unknown(0, "set", "a"), "a cas that fails and should not"),
    ],
)
def test_the_unknown_excuses(excuse: Operation, fault: str) -> None:
    """The same is accepted where one unknown operation explains it, and one does it only once."""
    history = [excuse, *FAULTS_IF_ALL_IS_KNOWN[fault]]
    assert find_anomaly(history) is None
    assert find_anomaly(behind(history, FAULTS_IF_ALL_IS_KNOWN[fault])) is not None


# --- against the naive way ------------------------------------------------------------------------


def has_order(history: Sequence[Operation]) -> bool:
    """Tell the same by trying all orders of all that may have taken effect."""
    done = [each for each in history if each.outcome == "ok"]
    open_ones = [each for each in history if each.outcome == "unknown"]
    return any(
        _is_explained(order)
        for count in range(len(open_ones) + 1)
        for used in combinations(open_ones, count)
        for order in permutations([*done, *used])
    )


def _is_explained(order: Sequence[Operation]) -> bool:
    state = MISSING
    latest_ns = 0
    for each in order:
        # Who returned before another was invoked comes before it.
        if each.outcome == "ok" and each.returned_ns < latest_ns:
            return False
        latest_ns = max(latest_ns, each.invoked_ns)
        left = after(state, each)
        if left is None:
            return False
        state = left
    return True


ANSWERS: dict[str, st.SearchStrategy[Result]] = {
    "get": st.sampled_from((None, *VALUES)),
    "set": st.none(),
    "delete": st.booleans(),
    "add": st.booleans(),
    "incr": st.integers(1, 3),
    "cas": st.booleans(),
}


@st.composite
def claims(draw: st.DrawFn) -> Operation:
    """Draw an operation with any answer at all."""
    name = draw(st.sampled_from(NAMES))
    invoked_ns = draw(st.integers(0, 9))
    result = draw(ANSWERS[name])
    is_told = result not in {None, False} and name != "delete"
    claim = Operation(
        "c",
        name,
        invoked_ns,
        invoked_ns + draw(st.integers(0, 5)),
        value=draw(st.sampled_from((1, 2) if name == "incr" else VALUES)),
        expected=draw(st.integers(1, 4)) if name == "cas" else 0,
        result=result,
        version=draw(st.integers(0, 5)) if is_told else 0,
    )
    return claim if draw(st.integers(0, 2)) else forgotten(claim)


@given(st.lists(claims(), max_size=5))
@settings(max_examples=150)
def test_it_is_right(history: list[Operation]) -> None:
    """It accepts just those for which one of all orders is an explanation."""
    assert has_order(history) == (find_anomaly(history) is None)


# --- what it says ---------------------------------------------------------------------------------


@given(st.lists(claims(), max_size=8))
def test_it_names_the_shortest_prefix(history: list[Operation]) -> None:
    """The prefix is refused as it is, and explained as it was just before its culprit returned."""
    anomaly = find_anomaly(history)
    if anomaly is None:
        return
    end_ns = anomaly.culprit.returned_ns
    assert find_anomaly(anomaly.prefix) is not None
    before = [
        each if each.outcome == "ok" and each.returned_ns < end_ns else forgotten(each)
        for each in anomaly.prefix
    ]
    assert find_anomaly(before) is None


def test_it_says_it_in_words() -> None:
    """What cannot be explained is told with what came before it and what could have been."""
    history = [
        Operation("ann", "set", 0, 1_000_000, "a", version=7),
        Operation("bob", "incr", 1_500_000, value=1, outcome="unknown"),
        Operation("ann", "get", 2_000_000, 3_000_000),
        Operation("bob", "get", 4_000_000, 5_000_000, result="a"),
    ]
    expected = """\
no order explains: 2.000..3.000 ms: ann get → a miss
the key could be: 'a' (version 7)
after
  0.000..1.000 ms: ann set 'a' → ok (version 7)
  1.500.. ms: bob incr 1 → unknown
  2.000..3.000 ms: ann get → a miss"""
    assert expected == str(find_anomaly(history))


# --- what it costs --------------------------------------------------------------------------------


TEXT = ("get", "get", "get", "set", "set", "delete", "add", "cas")
COUNTER = ("get", "incr", "incr", "delete")


def busy_history(names: Sequence[str], seed: int, count: int) -> list[Operation]:
    """Return the history of half a dozen clients at one key, one in 200 outcomes unknown.

    No two operations write the same, unless they count.
    """
    luck = random.Random(seed)
    plan = [
        Draw(
            name=luck.choice(names),
            value=1 if names is COUNTER else f"v{number}",
            before_ns=luck.randrange(40),
            behind_ns=luck.randrange(40),
            age=luck.randrange(3),
            is_unknown=luck.random() < 1 / 200,
            reaches=luck.random() < 1 / 2,
            tells_version=luck.random() < 3 / 4,
        )
        for number in range(count)
    ]
    return history_of(plan)


@pytest.mark.parametrize("names", [TEXT, COUNTER], ids=["text", "counter"])
def test_thousands_of_operations_take_a_moment(names: Sequence[str], seed: int) -> None:
    """A key with 4,000 operations is accepted in few ways."""
    assert find_anomaly(busy_history(names, seed, 4_000), ways_max=20_000) is None


@pytest.mark.parametrize("names", [TEXT, COUNTER], ids=["text", "counter"])
def test_a_fault_behind_many_is_found(names: Sequence[str], seed: int) -> None:
    """To refuse takes more ways than to accept, and still not too many."""
    planted = behind(busy_history(names, seed, 400), FAULTS["a deleted key that comes back"])
    anomaly = find_anomaly(planted)
    assert anomaly is not None
    assert (planted[-1], True) == (anomaly.culprit, anomaly.is_certain)


def test_a_search_has_a_bound() -> None:
    """Where there are too many ways, it says that it gave up."""
    history = [Operation(f"c{n}", "set", 0, 100, f"{n}") for n in range(12)]
    anomaly = find_anomaly([*history, told(20, "get", result="x")], ways_max=50)
    assert anomaly is not None
    assert not anomaly.is_certain
    assert str(anomaly).startswith("no order was found that explains: ")
