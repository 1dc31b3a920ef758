"""An agenda is in the order of moments, whatever was heard in whatever order."""

from __future__ import annotations

from uuid import UUID

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agent99.journal import Change, Entry, Snapshot
from agent99.schedules import At, Schedule
from agent99.schedules._agenda import Agenda, Due
from agent99.schedules._schedule import decode, encode

NEWS = st.lists(
    st.tuples(
        st.sampled_from(["put", "note", "delete", "snapshot", "take", "put off", "stranger"]),
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 50),
    ),
    max_size=60,
)


def schedule(name: str, next_us: int) -> Schedule:
    """Return a schedule that is due then."""
    return Schedule(
        id=name,
        topic="t",
        event=msgspec.Raw(b"{}"),
        rule=At(next_us),
        next_us=next_us,
        made_us=0,
        made_by="me",
        seed=UUID(int=7),
    )


def put(name: str, next_us: int, revision: int) -> Change:
    """Return the news of a schedule that was written."""
    return Change("put", name, encode(schedule(name, next_us)), revision)


@given(NEWS)
def test_what_is_taken_is_what_is_due(news: list[tuple[str, str, int]]) -> None:
    """As by a dictionary: the earliest of the last states, each once until it is put back."""
    agenda, model = Agenda(), dict[str, tuple[int, int]]()
    in_hand: dict[str, Due] = {}
    for revision, (kind, name, number) in enumerate(news, start=1):
        match kind:
            case "put":
                agenda.apply(put(name, number, revision))
                model[name] = number, revision
            case "note":
                agenda.note(schedule(name, number), revision)
                agenda.apply(put(name, number, revision))  # it is heard of, too
                model[name] = number, revision
            case "stranger":
                agenda.apply(Change("put", name, b'{"of": "another kind"}', revision))
                model.pop(name, None)
            case "delete":
                agenda.apply(Change("delete", name, b"", revision))
                model.pop(name, None)
            case "snapshot":
                entries = [
                    Entry(one, encode(schedule(one, at)), its) for one, (at, its) in model.items()
                ]
                agenda.apply(Snapshot(tuple(entries)))
                in_hand.clear()
            case "take":
                due = {
                    n: p for n, p in model.items() if p[0] <= number and not is_held(n, p, in_hand)
                }
                first = min(due, key=lambda n: (due[n][0], n), default=None)
                taken = agenda.take(number, 1)
                assert ([first] if first is not None else []) == [one.id for one in taken]
                in_hand.update((one.id, one) for one in taken)
            case _:
                held = in_hand.pop(name, None)
                if held is not None:
                    agenda.put_off(held, number)
                    if name in model and model[name][1] == held.revision:
                        model[name] = number, held.revision
        waiting = [p[0] for n, p in model.items() if not is_held(n, p, in_hand)]
        assert min(waiting, default=None) == agenda.look_us
        assert len(model) == len(agenda)


def is_held(name: str, place: tuple[int, int], in_hand: dict[str, Due]) -> bool:
    """Tell whether a schedule was taken, as it is now."""
    return name in in_hand and in_hand[name].revision == place[1]


def test_what_is_out_of_date_takes_no_room() -> None:
    """However often schedules are written, there are not many more places than schedules."""
    agenda = Agenda()
    for revision in range(1, 10_000):
        agenda.apply(put("a", 10**15 + revision, revision))
    assert len(agenda._heap) < 2_000
    assert [Due(10**15 + 9_999, "a", 9_999)] == agenda.take(10**16, 9)
    assert [] == agenda.take(10**16, 9)


def test_what_is_heard_late_counts_less_than_what_was_written() -> None:
    """A revision that was written here is not undone by an older one that is read."""
    agenda = Agenda()
    agenda.note(schedule("a", 50), 7)
    agenda.note(schedule("a", 40), 6)
    assert 50 == agenda.look_us


def test_what_strangers_write_is_no_schedule() -> None:
    """What is no schedule, or breaks one of its bounds, is passed over."""
    good = encode(schedule("a", 1))
    assert decode(good) is not None
    assert decode(good.replace(b"{}", b"5")) is None
    assert decode(good.replace(b"00000007", b"seven")) is None
    assert decode(good.replace(b'"at"', b'"tide"')) is None
    assert decode(b"\xff") is None
    other = Agenda()
    other.apply(Change("put", "b", good, 1))  # under another name
    assert other.look_us is None
