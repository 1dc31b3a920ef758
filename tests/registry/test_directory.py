"""Records and table kept in step, own wishes included."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent99.journal import Change, Entry
from agent99.registry import Description
from agent99.registry._description import encode_description
from agent99.registry._directory import Directory, record_key
from tests.registry._describe import describe


def _key(process: str, instance: str) -> str:
    return record_key("s", process, instance)


def _entry(process: str, instance: str, revision: int = 1, **fields: str) -> Entry:
    description = describe(instance, process=process, **fields)
    return Entry(_key(process, instance), encode_description(description), revision)


def _put(process: str, instance: str, revision: int = 1, **fields: str) -> Change:
    entry = _entry(process, instance, revision, **fields)
    return Change("put", entry.key, entry.value, revision)


def _ids(directory: Directory) -> set[str]:
    return {description.instance for description in directory.table.everybody()}


def test_a_snapshot_is_everything() -> None:
    """What is not in a snapshot is gone, except what this process wants."""
    directory = Directory("me")
    directory.want(_key("me", "i1"), describe("i1", process="me"))
    directory.settle(_key("me", "i1"), directory.wanted(_key("me", "i1")))
    directory.snapshot([_entry("me", "i1"), _entry("p2", "i2"), _entry("p3", "i3")])
    assert {"i1", "i2", "i3"} == _ids(directory)
    assert set() == directory.unsettled
    directory.snapshot([_entry("p3", "i3")])
    assert {"i1", "i3"} == _ids(directory)
    assert {_key("me", "i1")} == directory.unsettled
    assert 1 == directory.lost
    assert ("p3",) == directory.processes()


def test_an_own_record_that_is_removed_is_wanted_again() -> None:
    """When somebody removes what is wanted here, the table keeps it and the record is unsettled."""
    directory = Directory("me")
    key = _key("me", "i1")
    directory.want(key, describe("i1", process="me"))
    directory.settle(key, directory.wanted(key))
    assert directory.change(Change("put", key, b"", 1)) is None
    assert directory.change(Change("delete", key, b"", 2)) is None
    assert {"i1"} == _ids(directory)
    assert {key} == directory.unsettled
    assert 1 == directory.lost


def test_an_own_record_that_is_not_wanted_is_unsettled() -> None:
    """What is left of a withdrawal that did not reach the server is to be removed."""
    directory = Directory("me")
    directory.snapshot([_entry("me", "i1")])
    assert set() == _ids(directory)
    assert {_key("me", "i1")} == directory.unsettled
    directory.change(Change("delete", _key("me", "i1"), b"", 2))
    assert set() == directory.unsettled


def test_settling_something_old_does_not_settle() -> None:
    """A write that was overtaken by a newer wish leaves the record unsettled."""
    directory = Directory("me")
    key = _key("me", "i1")
    first, second = describe("i1", process="me"), describe("i1", process="me", state="paused")
    directory.want(key, first)
    directory.want(key, second)
    directory.settle(key, first)
    assert {key} == directory.unsettled
    directory.settle(key, second)
    assert set() == directory.unsettled
    assert directory.unwant("s.me.other") is None


def test_what_cannot_be_read_is_counted_and_skipped() -> None:
    """Foreign and newer records do no harm; their process can still be found dead."""
    directory = Directory("me")
    directory.snapshot(
        [
            Entry("strange", b"{}", 1),
            Entry("s.p2.i2", b"\xff", 2),
            Entry("s.p2.i3", encode_description(describe("i4", process="p2")), 3),
        ]
    )
    assert 3 == directory.unreadable
    assert (("s.p2.i2", 2), ("s.p2.i3", 3)) == directory.records("p2")
    assert set() == _ids(directory)
    directory.change(_put("p2", "i2", 4))
    assert {"i2"} == _ids(directory)
    directory.change(Change("put", "s.p2.i2", b'{"state": "from the future"}', 5))
    assert set() == _ids(directory)
    assert directory.change(Change("put", "strange", b"", 6)) is None
    assert directory.change(Change("delete", "strange", b"", 7)) is None


class DirectoryModel(RuleBasedStateMachine):
    """A bucket as a dictionary, changed by others and by the keeper, must be mirrored exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Directory("me")
        self.bucket: dict[str, Entry] = {}
        self.wanted: dict[str, Description] = {}
        self.revision = 0

    @rule(process=st.sampled_from(["p1", "p2"]), n=st.integers(0, 3), paused=st.booleans())
    def others_write(self, process: str, n: int, paused: bool) -> None:
        """Another process writes a record."""
        self.revision += 1
        state = "paused" if paused else "ready"
        change = _put(process, f"{process}-{n}", self.revision, state=state)
        self.bucket[change.key] = Entry(change.key, change.value, change.revision)
        self.directory.change(change)

    @rule(data=st.data())
    def somebody_removes(self, data: st.DataObject) -> None:
        """A record is removed, whoever's it is."""
        if self.bucket:
            key = data.draw(st.sampled_from(sorted(self.bucket)))
            self.revision += 1
            del self.bucket[key]
            self.directory.change(Change("delete", key, b"", self.revision))

    @rule(n=st.integers(0, 3), paused=st.booleans())
    def want(self, n: int, paused: bool) -> None:
        """This process announces."""
        description = describe(f"me-{n}", process="me", state="paused" if paused else "ready")
        self.wanted[_key("me", f"me-{n}")] = description
        self.directory.want(_key("me", f"me-{n}"), description)

    @rule(n=st.integers(0, 3))
    def unwant(self, n: int) -> None:
        """This process withdraws."""
        self.wanted.pop(_key("me", f"me-{n}"), None)
        self.directory.unwant(_key("me", f"me-{n}"))

    @rule()
    def settle(self) -> None:
        """Everything unsettled is written, and the bucket tells of it."""
        for key in sorted(self.directory.unsettled):
            self.revision += 1
            description = self.directory.wanted(key)
            if description is None:
                self.bucket.pop(key, None)
                self.directory.change(Change("delete", key, b"", self.revision))
            else:
                value = encode_description(description)
                self.bucket[key] = Entry(key, value, self.revision)
                self.directory.change(Change("put", key, value, self.revision))
            self.directory.settle(key, description)
        assert set() == self.directory.unsettled
        own = {key: entry for key, entry in self.bucket.items() if ".me." in key}
        assert {k: encode_description(d) for k, d in self.wanted.items()} == {
            k: e.value for k, e in own.items()
        }

    @rule(lose=st.booleans())
    def snapshot(self, lose: bool) -> None:
        """A snapshot comes, perhaps of a bucket that has lost everything."""
        if lose:
            self.bucket.clear()
        self.directory.snapshot(self.bucket.values())

    @invariant()
    def holds(self) -> None:
        """The table has others' records and this process's wishes, and the unsettled are known."""
        self.directory._check()
        self.directory.table._check()
        others = {k.rpartition(".")[2] for k in self.bucket if ".me." not in k}
        mine = {d.instance for d in self.wanted.values()}
        assert others | mine == _ids(self.directory)
        own = {key for key in self.bucket if ".me." in key}
        assert own ^ self.wanted.keys() <= self.directory.unsettled
        for process in ("p1", "p2", "me"):
            expected = {k: e.revision for k, e in self.bucket.items() if f".{process}." in k}
            assert expected == dict(self.directory.records(process))


TestDirectory = DirectoryModel.TestCase
TestDirectory.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
