"""The table, against a naive model and by example."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent99.registry import Description, OperationInfo, Table, TableChange
from agent99.registry._table import CACHED_MAX
from tests.registry._describe import describe

_INSTANCES = [f"i{n}" for n in range(8)]
_CAPABILITIES = ["alpha", "Beta", "gamma", "delta"]

_descriptions = st.builds(
    Description,
    instance=st.sampled_from(_INSTANCES),
    name=st.sampled_from(["orders", "stock", "Pay"]),
    capabilities=st.lists(st.sampled_from(_CAPABILITIES), max_size=3).map(tuple),
    operations=st.lists(st.sampled_from(["request", "list"]), max_size=2, unique=True).map(
        lambda names: tuple(map(OperationInfo, names))
    ),
    state=st.sampled_from(["starting", "ready", "degraded", "paused", "draining"]),
)


class TableModel(RuleBasedStateMachine):
    """A list of descriptions, searched from end to end, must always agree with the table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = Table()
        self.model: dict[str, Description] = {}
        self.suspects: dict[str, float] = {}

    @rule(description=_descriptions)
    def put(self, description: Description) -> None:
        """Putting reports the description that was there, and nothing when it is the same."""
        before = self.model.get(description.instance)
        expected = None if before == description else TableChange(before, description)
        assert expected == self.table.put(description)
        self.model[description.instance] = description

    @rule(instance=st.sampled_from(_INSTANCES))
    def remove(self, instance: str) -> None:
        """Removing reports what was there."""
        before = self.model.pop(instance, None)
        self.suspects.pop(instance, None)
        expected = None if before is None else TableChange(before, None)
        assert expected == self.table.remove(instance)

    @rule(descriptions=st.lists(_descriptions, max_size=6))
    def replace_all(self, descriptions: list[Description]) -> None:
        """A snapshot leaves exactly what is in it and reports every difference once."""
        wanted = {d.instance: d for d in descriptions}
        expected = {
            i: TableChange(self.model.get(i), wanted.get(i))
            for i in self.model.keys() | wanted.keys()
            if self.model.get(i) != wanted.get(i)
        }
        changes = self.table.replace_all(descriptions)
        assert expected == {change.instance: change for change in changes}
        assert len(expected) == len(changes)
        self.model = wanted
        self.suspects = {i: s for i, s in self.suspects.items() if i in wanted}

    @rule(instance=st.sampled_from(_INSTANCES), until_s=st.integers(0, 9))
    def suspect(self, instance: str, until_s: float) -> None:
        """Only who is known can be a suspect."""
        assert (instance in self.model) == self.table.suspect(instance, until_s)
        if instance in self.model:
            self.suspects[instance] = until_s

    @precondition(lambda self: self.suspects)
    @rule(data=st.data())
    def forgive(self, data: st.DataObject) -> None:
        """A success ends the suspicion."""
        instance = data.draw(st.sampled_from(sorted(self.suspects)))
        self.table.forgive(instance)
        del self.suspects[instance]

    @rule(now_s=st.integers(0, 9))
    def forgive_expired(self, now_s: float) -> None:
        """Time ends the suspicion, and the next time to look is told."""
        self.suspects = {i: s for i, s in self.suspects.items() if s > now_s}
        assert min(self.suspects.values(), default=None) == self.table.forgive_expired(now_s)

    @rule(asked=st.lists(st.sampled_from([*_CAPABILITIES, "ALPHA", "nobody"]), max_size=3))
    def discover(self, asked: list[str]) -> None:
        """`discover` finds exactly who takes requests and offers all, in order."""
        found = [
            d
            for d in self.model.values()
            if d.state in ("ready", "degraded")
            and {a.lower() for a in asked} <= {c.lower() for c in d.capabilities}
        ]
        found.sort(key=self._order)
        assert tuple(found) == self.table.discover(*asked)
        trusted = [d for d in found if d.instance not in self.suspects]
        assert tuple(trusted or found) == self.table.candidates(*asked)

    @rule(name=st.sampled_from(["orders", "STOCK", "pay", "nobody"]))
    def named(self, name: str) -> None:
        """`named` finds the instances of an agent that take requests."""
        found = [
            d
            for d in self.model.values()
            if d.name.lower() == name.lower() and d.state in ("ready", "degraded")
        ]
        assert tuple(sorted(found, key=self._order)) == self.table.named(name)

    @rule(asked=st.sampled_from(["alpha", "BETA"]), operation=st.sampled_from(["", "list"]))
    def explain(self, asked: str, operation: str) -> None:
        """The reason follows from who has the target, who has the operation, and their states."""
        having = [
            d for d in self.model.values() if asked.lower() in {c.lower() for c in d.capabilities}
        ]
        offering = [d for d in having if not operation or d.operation(operation)]
        expected = "reachable"
        if not having:
            expected = "nobody"
        elif not offering:
            expected = "unknown_operation"
        elif not [d for d in offering if d.is_routable]:
            expected = "paused"
        explanation = self.table.explain(asked, operation)
        assert expected == explanation.reason
        assert {d.instance for d in having} == {c.instance for c in explanation.candidates}

    @invariant()
    def holds(self) -> None:
        """The table's own invariant holds, and it has what the model has."""
        self.table._check()
        assert len(self.model) == len(self.table)
        assert {i: self.table.get(i) for i in _INSTANCES if self.table.get(i)} == self.model

    def _order(self, description: Description) -> tuple[Any, ...]:
        return (
            description.instance in self.suspects,
            description.state != "ready",
            description.name,
            description.instance,
        )


TestTable = TableModel.TestCase
TestTable.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


def test_an_empty_table_finds_nobody() -> None:
    """Nothing raises when nobody is there."""
    table = Table()
    assert () == table.discover("anything") == table.discover() == table.candidates()
    assert () == table.named("anything") == table.everybody()
    assert table.get("i1") is None
    assert table.remove("i1") is None
    assert table.forgive_expired(0) is None
    table.forgive("i1")
    assert "Table(instances=0, capabilities=0)" == repr(table)


def test_the_answer_is_remembered_until_it_changes() -> None:
    """The same question gives the very same tuple until somebody relevant changes."""
    table = Table()
    table.put(describe("i1", "orders", "alpha"))
    first = table.discover("alpha")
    table.put(describe("i2", "stock", "beta"))
    assert first is table.discover("alpha")
    table.put(describe("i3", "stock", "alpha"))
    assert ["i1", "i3"] == [d.instance for d in table.discover("alpha")]


def test_remembered_questions_are_bounded() -> None:
    """However many different questions are asked, no more than the bound are remembered."""
    table = Table()
    for number in range(CACHED_MAX + 10):
        table.discover(f"capability-{number}")
    table._check()
    assert len(table._answers) <= CACHED_MAX


def test_everybody_is_seen_in_every_state() -> None:
    """`everybody` and `capabilities` count those who take no requests, too."""
    table = Table()
    table.put(describe("i2", "stock", "beta", state="paused"))
    table.put(describe("i1", "orders", "alpha", "beta"))
    assert ["i1", "i2"] == [d.instance for d in table.everybody()]
    assert {"alpha": 1, "beta": 2} == table.capabilities()
    assert [("i2", "stock")] == [
        (d.instance, d.name) for d in table.everybody() if not d.is_routable
    ]


def test_missing_names_what_nobody_offers() -> None:
    """A capability whose only providers are paused is missing."""
    table = Table()
    table.put(describe("i1", "orders", "alpha"))
    table.put(describe("i2", "stock", "beta", state="paused"))
    assert ("beta", "gamma") == table.missing(("beta", "alpha", "gamma"))
