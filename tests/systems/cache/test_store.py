"""A node's memory: never what is old, ended or deleted, and never more than its budget."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent99.errors import UsageError
from agent99.systems.cache._arc import Ghosts
from agent99.systems.cache._entry import size_of
from agent99.systems.cache._item import Item
from agent99.systems.cache._place import GHOSTS_MAX
from agent99.systems.cache._store import TOMBSTONE_S, Store

NOW_US = 1_800_000_000_000_000
SECOND_US = 1_000_000
TOMBSTONE_US = TOMBSTONE_S * SECOND_US
LARGE = 1 << 30
SMALL = 8_000

KEYS = st.builds("{}:{}".format, st.sampled_from(["a", "b"]), st.integers(0, 7))


def owning(bytes_max: int = LARGE) -> Store:
    """Make a store that owns partition 0."""
    store = Store(bytes_max, partitions=2)
    store.open(0, is_owned=True)
    return store


def end(store: Store, now_us: int) -> int:
    """Let everything end that has, in small steps."""
    ended = 0
    while store.is_behind(now_us):
        ended += store.expire(now_us, 3)
    return ended


class StoreMachine(RuleBasedStateMachine):
    """One partition beside a dict of the newest item of each key.

    The model forgets nothing: so what comes back after it was deleted, ended or evicted is found.
    """

    bytes_max = LARGE

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(self.bytes_max, partitions=2)
        self.now_us = NOW_US
        self.version = 0
        self.begin_anew()

    def begin_anew(self) -> None:
        self.model: dict[str, Item] = {}
        self.store.open(0, is_owned=True)

    @rule(
        key=KEYS,
        late=st.integers(0, 5),
        ttl_us=st.sampled_from([0, 1, 300_000, 10 * SECOND_US, 3_600 * SECOND_US]),
        length=st.integers(0, 700),
        tags=st.sets(st.sampled_from("xyz")),
        is_deleted=st.booleans(),
    )
    def apply(  # the item's fields
        self, key: str, late: int, ttl_us: int, length: int, tags: set[str], is_deleted: bool
    ) -> None:
        self.version += 1
        version = max(self.version - late, 1)
        if is_deleted:
            item = Item(key, version, is_deleted=True)
        else:
            ends_us = self.now_us + ttl_us if ttl_us else 0
            item = Item(key, version, bytes(length), expires_us=ends_us, tags=tuple(sorted(tags)))
        newest = self.model.get(key)
        is_newer = newest is None or version > newest.version
        is_applied = self.store.apply(0, item, self.now_us)
        assert is_newer or not is_applied
        assert is_applied or late or not is_newer
        if is_applied:
            self.model[key] = item
            assert self.store.version(0, key) == version

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        entry = self.store.get(0, key, self.now_us)
        assert entry is self.store.peek(0, key, self.now_us)
        if entry is not None:
            newest = self.model[key]
            assert not newest.is_deleted
            assert newest.expires_us == 0 or self.now_us < newest.expires_us
            assert (newest.version, newest.value) == (entry.version, entry.value)
        elif self.bytes_max == LARGE and key in self.model:
            newest = self.model[key]
            assert newest.is_deleted or 0 < newest.expires_us <= self.now_us

    @rule(span_us=st.sampled_from([1, 100_000, 5 * SECOND_US, TOMBSTONE_US + SECOND_US]))
    def go_on(self, span_us: int) -> None:
        self.now_us += span_us

    @rule()
    def expire(self) -> None:
        end(self.store, self.now_us)

    @rule(is_owned=st.booleans())
    def change(self, is_owned: bool) -> None:
        self.store.open(0, is_owned=is_owned)

    @rule()
    def drop(self) -> None:
        count = len(self.store.keys(0))
        assert count == self.store.drop(0)
        assert self.store.drop(0) == 0
        self.begin_anew()

    @precondition(lambda self: self.bytes_max != LARGE)
    @rule(namespace=st.sampled_from("ab"), bytes_max=st.sampled_from([None, 2_000, 4_000]))
    def limit(self, namespace: str, bytes_max: int | None) -> None:
        self.store.limit(namespace, bytes_max)

    @rule()
    def copy(self) -> None:
        """Another node that is told everything has the same, in any order and twice."""
        other = Store(LARGE, partitions=2)
        other.open(0, is_owned=False)
        items = self.store.items(0, [*self.store.keys(0), "a:absent"], self.now_us)
        for item in (*reversed(items), *items):
            other.apply(0, item, self.now_us)
        assert self.store.digest(0) == other.digest(0)
        for key in self.store.keys(0):
            here, there = self.store.peek(0, key, self.now_us), other.peek(0, key, self.now_us)
            assert (here and (here.value, here.expires_us, here.tags)) == (
                there and (there.value, there.expires_us, there.tags)
            )

    @invariant()
    def books_are_right(self) -> None:
        entries = list(self.store._entries[0].values())
        told = self.store.statistics()
        assert told.bytes == sum(entry.size for entry in entries) <= told.bytes_max
        assert told.entries + told.tombstones == len(entries)
        assert sorted(self.store.keys(0)) == sorted(entry.key for entry in entries)
        assert len(self.store._wheel) == sum(entry.slot is not None for entry in entries)
        assert told.owned_entries in {0, told.entries}

    @invariant()
    def scans_find_what_is_there(self) -> None:
        live = {e.key: e for e in self.store._entries[0].values() if not e.is_deleted}
        tagged = {key for key, entry in live.items() if "x" in entry.tags and key[0] == "a"}
        assert tagged == set(self.store.tagged(0, "a", "x"))
        assert {key for key in live if key[0] == "b"} == set(self.store.prefixed(0, "b:"))


class TightStoreMachine(StoreMachine):
    """The same with a budget of some entries: what must go does not come back either."""

    bytes_max = SMALL


TestStoreMachine = StoreMachine.TestCase
TestTightStoreMachine = TightStoreMachine.TestCase
TestStoreMachine.settings = settings(deadline=None, max_examples=12, stateful_step_count=40)
TestTightStoreMachine.settings = TestStoreMachine.settings


def test_what_was_forgotten_does_not_come_back() -> None:
    """An older item of a key that expired, or whose tombstone ended, is late."""
    store = owning()
    store.apply(0, Item("a:1", 5, b"new", expires_us=NOW_US + 1), NOW_US)
    store.apply(0, Item("a:2", 6, is_deleted=True), NOW_US)
    later_us = NOW_US + TOMBSTONE_US + SECOND_US
    assert end(store, later_us) == 2
    assert [] == store.keys(0)
    for key in ("a:1", "a:2"):
        assert not store.apply(0, Item(key, 4, b"old"), later_us)
        assert store.version(0, key) == 0
    assert store.apply(0, Item("a:1", 7, b"newest"), later_us)


def test_a_copy_that_is_filled_takes_what_is_older_than_what_it_forgot() -> None:
    """While it is filled, items come in no order: only the forgotten keys themselves are late."""
    store = Store(LARGE, partitions=1)
    store.open(0, is_owned=False)
    store.apply(0, Item("a:short", 9, b"", expires_us=NOW_US + 1), NOW_US)
    end(store, NOW_US + SECOND_US)
    assert store.apply(0, Item("a:old", 3, b"still to come"), NOW_US + SECOND_US)
    assert not store.apply(0, Item("a:short", 8, b"late"), NOW_US + SECOND_US)
    assert store.apply(0, Item("a:short", 10, b"new"), NOW_US + SECOND_US)
    store.apply(0, Item("a:short", 11, b"", expires_us=NOW_US + SECOND_US), NOW_US + SECOND_US)
    end(store, NOW_US + 2 * SECOND_US)
    store.filled(0)
    assert not store.apply(0, Item("a:older", 4, b"late"), NOW_US + 2 * SECOND_US)


def test_a_copy_remembers_no_more_than_a_bound_while_it_is_filled() -> None:
    """Beyond the bound the floor rises, as if it were filled: that is safe, and lacks some keys."""
    store = Store(LARGE, partitions=1)
    store.open(0, is_owned=False)
    for number in range(GHOSTS_MAX + 1):
        store.apply(0, Item(f"a:{number}", 100 + number, expires_us=NOW_US + 1), NOW_US)
    end(store, NOW_US + SECOND_US)
    assert not store.apply(0, Item("a:other", 99, b""), NOW_US + SECOND_US)


def test_a_partition_that_comes_back_begins_anew() -> None:
    """A dropped partition forgets its floor too: it is filled by an owner that knows."""
    store = owning()
    store.apply(0, Item("a:1", 5, b"", expires_us=NOW_US + 1), NOW_US)
    end(store, NOW_US + SECOND_US)
    assert store.drop(0) == 0
    store.open(0, is_owned=False)
    assert store.apply(0, Item("a:1", 2, b""), NOW_US)
    assert store.drop(0) == 1


def test_a_partition_that_is_not_here_takes_nothing() -> None:
    """Writing to it is a mistake of the caller; reading finds nothing."""
    store = owning()
    with pytest.raises(UsageError, match="partition 1 is not here"):
        store.apply(1, Item("a:1", 1, b""), NOW_US)
    assert store.get(1, "a:1", NOW_US) is None
    assert store.drop(1) == 0


def test_what_is_too_large_is_refused_with_its_sizes() -> None:
    """More than a quarter of the budget, or more than the quota, changes nothing."""
    store = owning(100_000)
    store.apply(0, Item("a:1", 1, b"old"), NOW_US)
    with pytest.raises(UsageError, match="for a node of 100,000: at most 25,000"):
        store.apply(0, Item("a:1", 2, bytes(25_000)), NOW_US)
    store.limit("a", 2_000)
    with pytest.raises(UsageError, match="quota of 'a': 2,000"):
        store.apply(0, Item("a:1", 2, bytes(3_000)), NOW_US)
    assert store.version(0, "a:1") == 1
    with pytest.raises(UsageError, match="at least 1 byte"):
        store.limit("a", 0)


def test_a_quota_bounds_one_namespace_and_spares_the_others() -> None:
    """A namespace over its quota evicts its own entries, now and when it is given one."""
    store = owning()
    size = size_of(Item("a:00", 1))
    for number in range(20):
        store.apply(0, Item(f"a:{number:02}", 2 * number + 1), NOW_US)
        store.apply(0, Item(f"b:{number:02}", 2 * number + 2), NOW_US)
    store.limit("a", 10 * size)
    assert store.statistics().namespaces["a"].entries == 10
    store.apply(0, Item("a:20", 100), NOW_US)
    told = store.statistics()
    assert (10, 10 * size, 10 * size) == (
        told.namespaces["a"].entries,
        told.namespaces["a"].bytes,
        told.namespaces["a"].bytes_max,
    )
    assert told.namespaces["b"].entries == 20
    store.limit("a", None)
    store.apply(0, Item("a:21", 101), NOW_US)
    assert store.statistics().namespaces["a"].entries == 11


def test_owned_and_copies_share_the_budget_by_their_partitions() -> None:
    """Who has more than its partitions' share makes room; the room of who has less is lent."""
    size = size_of(Item("a:000", 1))
    store = Store(100 * size, partitions=4)
    for partition in range(4):
        store.open(partition, is_owned=partition == 0)
    for number in range(100):
        store.apply(0, Item(f"a:{number:03}", number + 1), NOW_US)
    assert store.statistics().owned_entries == 100
    for number in range(100):
        store.apply(1, Item(f"b:{number:03}", number + 1), NOW_US)
    told = store.statistics()
    assert (25, 100, 100) == (told.owned_entries, told.entries, told.evictions)
    assert "b:024" not in store.keys(1)
    assert "b:025" in store.keys(1)


def test_a_read_saves_an_owned_entry() -> None:
    """Of two equally old entries, the one that was read stays; looking at one is no read."""
    store = owning(10 * size_of(Item("a:00", 1)))
    for number in range(10):
        store.apply(0, Item(f"a:{number:02}", number + 1), NOW_US)
    store.get(0, "a:00", NOW_US)
    store.peek(0, "a:01", NOW_US)
    store.apply(0, Item("a:10", 11), NOW_US)
    assert "a:00" in store.keys(0)
    assert "a:01" not in store.keys(0)


def test_what_expired_is_told_as_deleted() -> None:
    """Another node needs the version of what has expired, and not its value."""
    store = owning()
    store.apply(0, Item("a:1", 3, b"value", expires_us=NOW_US + 1), NOW_US)
    assert [Item("a:1", 3, is_deleted=True)] == store.items(0, ["a:1"], NOW_US + 1)
    assert [Item("a:1", 3, b"value", expires_us=NOW_US + 1)] == store.items(0, ["a:1"], NOW_US)


def test_an_entry_says_what_it_is() -> None:
    """Its text names the key, the size and the version, and follows no link."""
    store = owning()
    store.apply(0, Item("a:1", 3, b"value"), NOW_US)
    assert repr(store.get(0, "a:1", NOW_US)) == "<Entry 'a:1' 5 bytes, version 3>"
    store.apply(0, Item("a:1", 4, is_deleted=True), NOW_US)
    assert repr(store._entries[0]["a:1"]) == "<Entry 'a:1' deleted, version 4>"


def test_every_part_says_how_much_it_holds() -> None:
    """The texts of a store and of its parts are one line of figures each."""
    store = owning()
    store.apply(0, Item("a:1", 3, bytes(97), expires_us=NOW_US + SECOND_US), NOW_US)
    size = size_of(Item("a:1", 3, bytes(97)))
    role, place = store._owned, store._places[0]
    assert repr(store) == f"<Store 1 partitions, {size} of {LARGE:,} bytes>"
    assert repr(role) == f"<Role owned {size} bytes>"
    assert repr(place) == "<Place 1 entries, floor 0>"
    assert repr(role.account("a")) == f"<Account 'a' 1 entries, {size} bytes>"
    assert repr(role.queue) == f"<Arc 1 once, 0 twice, {size} bytes>"
    assert repr(store._copies.queue) == "<Fifo 0 links, 0 bytes>"
    assert repr(store._wheel).startswith("<Wheel 1 entries, tick ")
    assert repr(Ghosts(1)) == "<Ghosts 2,048 slots>"


def test_the_garbage_collector_sees_no_entries() -> None:
    """However many keys there are, it looks through neither entries nor their dicts."""
    store = owning()
    gc.collect()
    before = len(gc.get_objects())
    for number in range(1_000):
        item = Item(f"a:{number}", number + 1, bytes(10), expires_us=NOW_US + number * SECOND_US)
        store.apply(0, item, NOW_US)
    del item
    gc.collect()
    assert len(gc.get_objects()) - before < 100
    assert not gc.is_tracked(store._entries[0])


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["small", "mixed", "large"])
def test_a_process_grows_by_no_more_than_its_budget(shape: str) -> None:
    """Full and after much change, a store takes at most a tenth more than it counts, and 8 MiB."""
    child = Path(__file__).with_name("_memory.py")
    command = [sys.executable, str(child), shape]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    grown, bytes_max = map(int, done.stdout.split())
    assert grown <= bytes_max * 1.1 + (8 << 20)
