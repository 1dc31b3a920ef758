"""The table: whatever happens, a partition has one owner, and only deaths lose what is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from agent99.systems.cache._edits import (
    dropped,
    gone,
    handed_over,
    in_sync,
    joined,
    leaving,
    resized,
)
from agent99.systems.cache._keys import partition_of
from agent99.systems.cache._lookup import Lookup
from agent99.systems.cache._plan import plan
from agent99.systems.cache._steps import Bring, Drop, HandOver, next_step
from agent99.systems.cache._table import (
    EPOCH_MAX,
    PARTITIONS,
    REPLICAS_MAX,
    Node,
    Part,
    Table,
    decode_table,
    encode_table,
    new_table,
)

_NODES_MAX = 7
_partitions = st.integers(0, PARTITIONS - 1)


def node(name: str, weight: float = 1.0) -> Node:
    """Return a node with this id."""
    return Node(name, "cache-node", f"0b62d3c2-7c52-4f0e-8d4e-{name:>012}", weight)


def stepped(table: Table, partition: int) -> Table:
    """Return the table after the next step of the partition's owner; the same if it has none."""
    part = table.parts[partition]
    match next_step(part, part.owner):
        case Bring(to):
            after = in_sync(table, partition, part.epoch, to)
        case HandOver(to):
            after = handed_over(table, partition, part.epoch, to)
        case Drop(to):
            after = dropped(table, partition, part.epoch, to)
        case None:
            return table
    assert after is not table
    return after


def settled(table: Table) -> Table:
    """Return the table when no owner has anything left to do."""
    for partition in range(PARTITIONS):
        after = stepped(table, partition)
        while after is not table:
            table, after = after, stepped(after, partition)
    return table


def table_of(count: int, replicas: int) -> Table:
    """Return a quiet table of so many equal nodes, whose ids are `0`, `1`, …."""
    table = new_table(replicas)
    for number in range(count):
        table = joined(table, node(str(number)))
    return settled(table)


_OF_TWO = encode_table(table_of(2, 1))


def plain_table() -> dict[str, Any]:
    """Return what a table of two nodes looks like to who knows nothing of tables."""
    plain: dict[str, Any] = msgspec.json.decode(_OF_TWO)
    return plain


def copies(part: Part) -> int:
    """Return how many nodes have all that is in the partition."""
    return bool(part.owner) + len(part.replicas)


class TableModel(RuleBasedStateMachine):
    """Nodes come, go and die; owners do their steps. Memories hold what was written, in truth."""

    def __init__(self) -> None:
        super().__init__()
        self.table = new_table(1)
        self.number = 0
        self.lost = 0
        self.written = [0] * PARTITIONS
        self.memories: dict[str, dict[int, int]] = {}

    @property
    def ids(self) -> list[str]:
        """Who is there."""
        return [each.id for each in self.table.nodes]

    @property
    def staying(self) -> list[str]:
        """Who is there and does not leave."""
        return [each.id for each in self.table.nodes if not each.is_leaving]

    @property
    def is_quiet(self) -> bool:
        """Whether no owner has anything to do."""
        return all(next_step(part, part.owner) is None for part in self.table.parts)

    def change(self, after: Table, partitions: Iterable[int] = range(PARTITIONS)) -> None:
        """Take over an edit; epochs only grow, and a partition's does with each of its owners."""
        assert after.epoch == self.table.epoch + 1
        for partition in partitions:
            old, new = self.table.parts[partition], after.parts[partition]
            assert new.epoch == old.epoch + (old.owner != new.owner)
            if new.owner and new.owner not in (old.owner, *old.replicas):
                # It begins anew.
                self.written[partition] = self.memories[new.owner][partition] = 0
        self.table = after

    @property
    def are_equal(self) -> bool:
        """Whether all have the same weight, so that shares are the same but for one."""
        return len({each.weight for each in self.table.nodes}) <= 1

    @precondition(lambda self: len(self.ids) < _NODES_MAX)
    @rule(weight=st.sampled_from([1.0, 1.0, 1.0, 0.5, 4.0]))
    def join(self, weight: float) -> None:
        """A node joins: among equals nobody but it gets anything, if all was quiet before."""
        was_quiet = self.is_quiet and self.ids == self.staying
        self.number += 1
        new = str(self.number)
        self.memories[new] = {}
        before = self.table.parts
        self.change(joined(self.table, node(new, weight)))
        if was_quiet and self.are_equal:
            for old, part in zip(before, self.table.parts, strict=True):
                assert {new} >= set(part.goal) - {old.owner, *old.replicas}

    @precondition(lambda self: self.staying)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A node says that it leaves: it is to have nothing any more."""
        name = data.draw(st.sampled_from(self.staying))
        self.change(leaving(self.table, name))
        assert all(name not in part.goal for part in self.table.parts)

    @precondition(lambda self: len(self.ids) > len(self.staying) > 0)
    @rule()
    def leave_for_good(self) -> None:
        """Who left, and has handed over all it had, goes without a trace, and nothing is lost."""
        self.settle()
        names = set(self.ids) - set(self.staying)
        for part in self.table.parts:
            assert names.isdisjoint((part.owner, *part.replicas, *part.goal))
        self.change(gone(self.table, names))
        assert self.is_quiet
        assert self.lost == self.table.lost

    @precondition(lambda self: self.ids and self.table.replicas)
    @rule(data=st.data())
    def die_a_few(self, data: st.DataObject) -> None:
        """When all is quiet, as many nodes may die as there are copies, and nothing is lost."""
        self.settle()
        staying = self.staying
        most = min(self.table.replicas, len(staying) - 1)
        names = data.draw(st.sets(st.sampled_from(staying or self.ids), max_size=max(most, 0)))
        if names:
            self.change(gone(self.table, names))
        assert self.lost == self.table.lost

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def die_at_any_time(self, data: st.DataObject) -> None:
        """Whatever dies whenever: lost is what had no other copy in sync, and it is counted."""
        names = data.draw(st.sets(st.sampled_from(self.ids), min_size=1))
        self.lost += sum(
            bool(part.owner) and names >= {part.owner, *part.replicas} for part in self.table.parts
        )
        self.change(gone(self.table, names))
        assert self.lost == self.table.lost

    @rule(replicas=st.integers(0, REPLICAS_MAX))
    def resize(self, replicas: int) -> None:
        """Another number of copies is wanted."""
        after = resized(self.table, replicas)
        if after is not self.table:
            self.change(after)

    @rule(start=_partitions, count=st.integers(1, PARTITIONS))
    def step(self, start: int, count: int) -> None:
        """Some owners do one step each."""
        for number in range(start, start + count):
            self.step_of(number % PARTITIONS)

    @rule()
    def settle(self) -> None:
        """Owners do all their steps: everything is as it is to be then."""
        for partition in range(PARTITIONS):
            while self.step_of(partition):
                pass
        assert self.is_quiet
        wanted = 1 + min(self.table.replicas, len(self.staying) - 1)
        for part in self.table.parts:
            if self.staying:
                assert part.goal == (part.owner, *part.replicas)
                assert wanted == copies(part)
        owned = Counter(part.owner for part in self.table.parts)
        if self.staying and self.are_equal:
            counts = [owned[name] for name in self.staying]
            assert max(counts) - min(counts) <= 1

    def step_of(self, partition: int) -> bool:
        """Let the partition's owner do one step: never is a copy given up that is wanted."""
        before = self.table.parts[partition]
        after = stepped(self.table, partition)
        if after is self.table:
            return False
        memories = self.memories
        match next_step(before, before.owner):
            case Bring(to):
                memories[to][partition] = memories[before.owner][partition]
            case Drop(to):
                del memories[to][partition]
            case _:
                pass
        self.change(after, [partition])
        part = after.parts[partition]
        assert copies(part) >= min(copies(before), len(part.goal))
        return True

    @rule(partition=_partitions)
    def write(self, partition: int) -> None:
        """A write is acknowledged when the owner and all that are in sync have it."""
        part = self.table.parts[partition]
        if part.owner:
            self.written[partition] += 1
            for name in (part.owner, *part.replicas):
                self.memories[name][partition] = self.written[partition]

    @rule(partition=_partitions, other=st.sampled_from([-1, 1]))
    def come_too_late(self, partition: int, other: int) -> None:
        """An edit for another epoch, or with a node that is unknown, changes nothing."""
        table = self.table
        epoch = table.parts[partition].epoch
        for edit in (in_sync, handed_over, dropped):
            assert edit(table, partition, epoch, "nobody") is table
            assert all(edit(table, partition, epoch + other, name) is table for name in self.ids)
        assert leaving(table, "nobody") is gone(table, {"nobody"}) is table
        assert resized(table, table.replicas) is table
        for each in table.nodes:
            assert joined(table, node(each.id)) is table
            assert not each.is_leaving or leaving(table, each.id) is table

    @rule()
    def plan_again(self) -> None:
        """Whoever plans while a plan is carried out comes to the same plan."""
        goals = plan(self.table.nodes, self.table.parts, self.table.replicas)
        assert goals == tuple(part.goal for part in self.table.parts)

    @rule()
    def tell(self) -> None:
        """What others are told is the table."""
        assert self.table == decode_table(encode_table(self.table))

    @invariant()
    def each_partition_has_one_owner(self) -> None:
        """While a node stays, each has an owner that has all that was written; copies have, too."""
        for partition, part in enumerate(self.table.parts):
            assert part.owner in self.ids if self.staying else part.owner in ("", *self.ids)
            assert part.owner not in part.replicas
            assert len(set(part.replicas)) == len(part.replicas)
            assert set(self.ids) >= {*part.replicas, *part.goal}
            for name in (part.owner, *part.replicas) if part.owner else ():
                assert self.written[partition] == self.memories[name].get(partition, 0)


TableModel.TestCase.settings = settings(max_examples=20, stateful_step_count=15, deadline=None)
TestTable = TableModel.TestCase


@given(
    st.lists(st.sampled_from("abcde"), min_size=1, unique=True),
    st.lists(st.sampled_from("abcde"), unique=True),
)
def test_steps_lead_to_the_goal_and_never_below_it(holders: list[str], goal: list[str]) -> None:
    """From any holders to any goal, each step makes sense, and copies are given up last."""
    table = table_of(0, 0)
    nodes = tuple(map(node, "abcde"))
    part = Part(1, holders[0], tuple(holders[1:]), tuple(goal))
    table = replace(table, nodes=nodes, parts=(part, *table.parts[1:]))
    steps = 0
    while (then := stepped(table, 0)) is not table:
        assert copies(then.parts[0]) >= min(copies(table.parts[0]), len(goal))
        table = then
        steps += 1
    after = table.parts[0]
    if goal:
        assert (goal[0], set(goal)) == (after.owner, {after.owner, *after.replicas})
        moves = len(set(goal) ^ set(holders)) + (goal[0] != holders[0])
        assert moves == steps
    else:
        assert after == part


def test_only_the_owner_does_steps() -> None:
    """Who has a copy, or nothing, does nothing."""
    part = Part(1, "a", ("b",), ("c", "b"))
    assert [Bring("c"), None, None] == [next_step(part, name) for name in "abc"]


def test_a_copy_that_stays_is_promoted_before_one_that_leaves() -> None:
    """The replicas stand in the order of the goal: the first is the one that has it to keep."""
    table = leaving(table_of(4, 2), "1")
    parts = table.parts
    table = gone(table, {"0"})
    for old, new in zip(parts, table.parts, strict=True):
        if old.owner == "0":
            assert old.replicas[0] == new.owner != "1"
            assert old.epoch + 1 == new.epoch


def test_the_last_one_to_go_takes_all_with_it() -> None:
    """Without nodes nobody owns anything, all of it is lost once, and who joins begins anew."""
    table = gone(table_of(2, 1), {"0", "1"})
    assert {Part(epoch=table.parts[0].epoch), Part(epoch=table.parts[-1].epoch)} >= set(table.parts)
    assert PARTITIONS == table.lost
    table = joined(table, node("2"))
    assert {"2"} == {part.owner for part in table.parts}
    assert PARTITIONS == gone(joined(table, node("3")), ["3"]).lost


def test_who_leaves_gets_nothing_even_if_nobody_else_is_there() -> None:
    """What is lost while all who are left leave has no owner and no copy, until somebody joins."""
    table = leaving(leaving(table_of(2, 0), "0"), "1")
    lost = [number for number, part in enumerate(table.parts) if part.owner == "1"]
    table = gone(table, {"1"})
    for partition in lost:
        part = table.parts[partition]
        assert Part(epoch=part.epoch) == part
        assert in_sync(table, partition, part.epoch, "0") is table
    table = settled(joined(table, node("2")))
    assert {"2"} == {part.owner for part in table.parts}
    assert len(lost) == table.lost


def test_a_lookup_finds_the_owner_of_a_key() -> None:
    """The owner is that of the key's partition, whatever letters are in it; without any, nobody."""
    table = table_of(3, 1)
    lookup = Lookup(table)
    for key in ("a:b", "a:", "sessions:ü", "x:" + "k" * 1_024):
        partition = partition_of(key)
        owner = lookup.owner_of(key)
        assert owner is not None
        assert owner.id == lookup.part(partition).owner == table.parts[partition].owner
    assert Lookup(new_table(1)).owner_of("a:b") is None
    assert "Lookup(epoch=3" in repr(Lookup(replace(table, epoch=3)))


def test_a_key_is_in_the_same_partition_everywhere() -> None:
    """The partition is the lowest byte of the key's CRC-32: known values."""
    assert [0x26, 0] == [partition_of(key) for key in ("123456789", "")]


@pytest.mark.parametrize("is_under_way", [False, True])
def test_a_table_is_small(is_under_way: bool) -> None:
    """With ten nodes and two copies besides the owner's, it is 8 KB at most, however old it is."""
    table = table_of(9, 2)
    table = joined(table, node("9"))
    table = table if is_under_way else settled(table)
    parts = tuple(replace(part, epoch=9_000 + part.epoch) for part in table.parts)
    if is_under_way:
        # As if nothing were where it is to be.
        parts = tuple(replace(part, goal=part.goal[::-1]) for part in parts)
    assert len(encode_table(replace(table, parts=parts))) <= 8_192


_edit = st.sampled_from(["epoch", "replicas", "nodes", "parts", "lost", "part"])
_plain = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**63) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(_edit, _partitions, _plain, st.binary(max_size=20))
def test_bytes_of_strangers_are_no_table(
    field: str, partition: int, value: object, noise: bytes
) -> None:
    """Bytes that are no table give None; those that are one give a table that can be told again."""
    plain = plain_table()
    if field == "part":
        plain["parts"][partition] = value
    else:
        plain[field] = value
    for data in (noise, msgspec.json.encode(plain)):
        table = decode_table(data)
        assert table is None or table == decode_table(encode_table(table))


@pytest.mark.parametrize(
    "part",
    [
        [0, 2, []],
        [0, -2, []],
        [0, 0, [0]],
        [0, 0, [1, 1]],
        [0, -1, [0]],
        [0, 0, [-1]],
        [0, 0, [], [1, 1]],
        [0, 0, [], [2]],
        [-1, 0, []],
        [EPOCH_MAX + 1, 0, []],
    ],
)
def test_a_part_that_could_not_be_makes_no_table(part: list[object]) -> None:
    """An index without a node, an owner among its copies, a node twice: no table at all."""
    plain = plain_table()
    assert decode_table(msgspec.json.encode(plain)) is not None
    plain["parts"][7] = part
    assert decode_table(msgspec.json.encode(plain)) is None


@pytest.mark.parametrize(
    "nodes",
    [
        [["a", "n", "i"], ["a", "n", "i"]],
        [["", "n", "i"], ["a", "n", "i"]],
        [["a", "n", "i", 0.0], ["b", "n", "i"]],
        [["a", "n", "i", 1e300], ["b", "n", "i"]],
    ],
)
def test_nodes_that_could_not_be_make_no_table(nodes: list[object]) -> None:
    """Ids are not empty and stand once; a weight is within its bounds."""
    plain = plain_table()
    plain["nodes"] = nodes
    assert decode_table(msgspec.json.encode(plain)) is None
