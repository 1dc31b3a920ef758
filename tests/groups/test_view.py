"""What one member knows of its group: a fold of the bucket, as good in parts as in a whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent99.envelope import PARTITIONS
from agent99.groups._place import Membership, Place, Plan, Progress, encode
from agent99.groups._view import Keys, View
from agent99.journal import Change, Entry, Snapshot

KEYS = Keys("g")


def _values() -> st.SearchStrategy[tuple[str, bytes]]:
    members = st.tuples(
        st.sampled_from([KEYS.member(name) for name in "abc"]),
        st.builds(Membership, st.integers(0, 9), st.booleans()).map(encode),
    )
    places = st.tuples(
        st.integers(0, 3).map(KEYS.place),
        st.builds(
            Place,
            st.integers(1, 3),
            st.sampled_from(["", *"abc"]),
            st.builds(Progress, position=st.integers(0, 9)),
        ).map(encode),
    )
    plan = Plan(("a", "b"), ("a", "b") * 32)
    others = st.sampled_from(
        [
            (KEYS.plan, encode(plan)),
            (KEYS.plan, b"{}"),
            (KEYS.charter, b"{}"),
            ("g.else", b""),
            ("g.at.64", b"{}"),
        ]
    )
    return st.one_of(members, places, others)


@given(st.lists(st.tuples(_values(), st.booleans()), max_size=30), st.integers(0, 30))
def test_a_snapshot_says_what_changes_said(
    writes: list[tuple[tuple[str, bytes], bool]], cut: int
) -> None:
    """Whether it heard of every change or of the whole at some moment, a member knows the same."""
    followed, joined = View(KEYS, 7), View(KEYS, 7)
    followed.apply(Snapshot(()))
    kept: dict[str, Entry] = {}
    for revision, ((key, value), is_deleted) in enumerate(writes, 1):
        if revision == cut:
            joined.apply(Snapshot(tuple(kept.values())))
        if is_deleted:
            kept.pop(key, None)
        else:
            kept[key] = Entry(key, value, revision)
        change = Change(
            "delete" if is_deleted else "put", key, b"" if is_deleted else value, revision
        )
        followed.apply(change)
        if revision >= cut > 0:
            joined.apply(change)
    if cut == 0 or cut > len(writes):
        joined.apply(Snapshot(tuple(kept.values())))
    assert followed.members == joined.members
    for partition in range(PARTITIONS):
        assert followed.place(partition) == joined.place(partition)
    for member in "abc":
        assert followed.owned_by(member) == joined.owned_by(member)


def test_free_to_claim() -> None:
    """A partition is free once its owner has released it, is gone, or is oneself."""
    view = View(KEYS, 7)
    assert (0, 7) == (view.place(1).revision, view.place(1).place.progress.position)
    assert view.is_free(1, "a")
    view.apply(Change("put", KEYS.member("b"), encode(Membership(1)), 1))
    view.apply(Change("put", KEYS.place(1), encode(Place(1, "b", Progress(position=9))), 2))
    assert not view.is_free(1, "a")
    assert view.is_free(1, "b")
    view.note(1, Place(1, "", Progress(position=9)), 1)
    assert not view.is_free(1, "a")
    view.note(1, Place(1, "", Progress(position=9)), 3)
    assert view.is_free(1, "a")
    view.apply(Change("put", KEYS.place(1), encode(Place(2, "b", Progress(position=9))), 4))
    view.apply(Change("delete", KEYS.member("b"), b"", 5))
    assert view.is_free(1, "a")


def test_who_leaves_wants_nothing() -> None:
    """A member that leaves is there, and no plan is made for it."""
    view = View(KEYS, 0)
    for revision, name in enumerate("ab", 1):
        view.apply(Change("put", KEYS.member(name), encode(Membership(1)), revision))
    assert not view.is_planned
    plan = view.next_plan()
    view.apply(Change("put", KEYS.plan, encode(plan), 3))
    assert view.is_planned
    assert (32, 32) == (len(view.wanted_by("a")), len(view.wanted_by("b")))
    view.apply(Change("put", KEYS.member("a"), encode(Membership(1, is_leaving=True)), 4))
    assert ("b",) == view.sharers
    assert not view.is_planned
    assert {"b"} == set(view.next_plan().owners)
