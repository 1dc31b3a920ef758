"""Explanations: the four reasons, their sentences and the near misses."""

from __future__ import annotations

from agent99.registry import Table
from agent99.registry._explain import COMPARED_MAX, near_misses
from tests.registry._describe import describe


def _table() -> Table:
    table = Table()
    table.put(describe("i1", "stock", "inventory", operations=("reserve", "count")))
    table.put(describe("i2", "stock", "inventory", operations=("reserve",), state="paused"))
    table.put(describe("i3", "till", "payment", state="draining", operations=("charge",)))
    return table


def test_nobody() -> None:
    """A misspelt capability is answered with the one that was meant."""
    explanation = _table().explain("inventry", "reserve")
    assert "nobody" == explanation.reason
    assert ("inventory",) == explanation.near
    assert "nobody offers capability 'inventry'; did you mean 'inventory'?" == explanation.message


def test_unknown_operation() -> None:
    """An operation that nobody has is answered with those that there are."""
    explanation = _table().explain("inventory", "resrve")
    assert "unknown_operation" == explanation.reason
    assert ("count", "reserve") == explanation.operations
    assert (
        "capability 'inventory' has no operation 'resrve' (it has: count, reserve);"
        " did you mean 'reserve'?"
    ) == explanation.message


def test_paused() -> None:
    """When everybody who could is not taking requests, the states are told."""
    explanation = _table().explain("payment", "charge")
    assert "paused" == explanation.reason
    assert (
        "everybody who offers capability 'payment' is not taking requests (draining)"
        == explanation.message
    )


def test_reachable() -> None:
    """The candidates are told, those who take requests first."""
    table = _table()
    table.suspect("i1", 5)
    explanation = table.explain("Inventory", "Reserve")
    assert "reachable" == explanation.reason
    assert [("i1", True, True), ("i2", True, False)] == [
        (c.instance, c.offers, c.suspect) for c in explanation.candidates
    ]
    assert "capability 'inventory' is offered by 1 instance" == explanation.message


def test_a_name_is_found_after_a_capability() -> None:
    """A target that is no capability is looked up as an agent's name."""
    explanation = _table().explain("till")
    assert ("name", "paused") == (explanation.kind, explanation.reason)
    assert "nobody" == _table().explain("till", kind="capability").reason
    assert "nobody" == _table().explain("payment", kind="name").reason
    assert "agent 'nobody'" in _table().explain("nobody", kind="name").message


def test_near_misses_compare_a_bounded_number_of_words() -> None:
    """With very many names only those that begin alike are compared."""
    many = [f"{letter}-{n:06}" for letter in "ab" for n in range(COMPARED_MAX)]
    assert 3 == len(near_misses("a-000_01", many))
    assert all(near.startswith("a") for near in near_misses("a-000_01", many))
