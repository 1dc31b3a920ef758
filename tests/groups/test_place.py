"""Two members that both believe that a partition is theirs: one of them is refused."""

from __future__ import annotations

import random
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.errors import DeadlineExceededError, LeaseLostError, TransportError
from agent99.groups._assignment import NOBODY
from agent99.groups._place import (
    DEATHS_CAREFUL,
    DEATHS_MAX,
    Place,
    Progress,
    claimed,
    committed,
    decode,
    encode,
    released,
    reset,
)
from agent99.groups._tenure import Tenure, claim
from agent99.groups._view import Known
from agent99.journal import Bucket, BucketConfig, Entry, JetStreamJournal, MemoryJournal
from agent99.testing import ChaosProxy, ManualClock
from tests._nats_server import NatsServer
from tests.journal.conftest import connect, fresh_name

MEMBERS = ("a", "b", "c")
KEY = "g.at.0"


@given(st.integers(0, 9), st.sampled_from(["", *MEMBERS]), st.integers(0, 99), st.integers(0, 99))
def test_what_may_follow(epoch: int, owner: str, position: int, to: int) -> None:
    """A claim raises the epoch, and only a reset does too; no position goes back but by a reset."""
    place, there = Place(epoch, owner, Progress(position=position)), Progress(position=to)
    assert (epoch + 1, "b", position) == _fields(claimed(place, "b"))
    assert (epoch, owner, max(position, to)) == _fields(committed(place, there))
    assert (epoch, NOBODY, max(position, to)) == _fields(released(place, there))
    assert (epoch + 1, NOBODY, to) == _fields(reset(place, there))
    assert place == decode(encode(place), Place)
    assert decode(b'{"epoch": "no"}', Place) is None


def _fields(place: Place) -> tuple[int, str, int]:
    return place.epoch, place.owner, place.progress.position


def test_a_death_is_counted_until_somebody_gets_further() -> None:
    """Owners that are gone are counted in a row; a release, or an event done, ends the row."""
    place = claimed(claimed(claimed(Place(), "a"), "b"), "c")
    assert ("a", "b") == place.victims
    assert ("a", "b") == committed(place, Progress(position=3)).victims, "nothing was done"
    assert () == committed(place, Progress(events=1)).victims
    assert () == claimed(released(place, Progress()), "d").victims


def test_who_comes_back_did_not_die() -> None:
    """An owner whose link was away is there again; who claims what is its own has lost nothing."""
    place = claimed(claimed(Place(), "a"), "b")
    assert ("b",) == claimed(place, "c", alive={"a"}).victims
    assert ("a",) == claimed(place, "b").victims


def test_a_suspect_is_guilty_after_two_more_deaths() -> None:
    """Deaths with the same event in hand add up; another event in hand begins anew."""
    place = Place(1, "a", victims=("x", "y"))
    for owner in "bc":
        place = claimed(committed(place, Progress(), suspect=7), owner)
    assert (DEATHS_MAX, 7) == (len(place.victims), place.suspect)
    other = committed(place, Progress(position=7, events=1), suspect=8)
    assert (DEATHS_CAREFUL, 8) == (len(other.victims), other.suspect)
    lived = committed(other, other.progress, suspect=-8)
    assert (other.victims, -8) == (lived.victims, lived.suspect), "its owner lived on"
    done = Progress(position=8, events=2)
    assert Place(3, "c", done) == committed(other, done)


@dataclass
class Actor:
    """A member that acts on what it last saw, however long ago that was."""

    name: str
    known: Known = field(default_factory=lambda: Known(Place(), 0))
    tenure: Tenure | None = None


ACTS = st.lists(
    st.tuples(
        st.sampled_from(MEMBERS),
        st.sampled_from(["look", "claim", "commit", "commit", "release", "lose receipt"]),
        st.integers(0, 5),
    ),
    max_size=60,
)


@given(ACTS)
async def test_one_owner_at_a_time(acts: list[tuple[str, str, int]]) -> None:
    """Whatever members with old news do, in any order, one owner at a time can write."""
    journal = MemoryJournal(clock=ManualClock())
    await play(await journal.bucket(BucketConfig(name="groups")), acts)


async def test_one_owner_at_a_time_on_a_server(nats_server: NatsServer, seed: int) -> None:
    """The same on a real server, by acts that are drawn."""
    luck = random.Random(seed)
    acts = ["look", "look", "claim", "commit", "commit", "release", "lose receipt"]
    async with aclosing(await connect(nats_server.url)) as wire:
        journal = JetStreamJournal(wire)
        for _ in range(8):
            name = fresh_name()
            drawn = [
                (luck.choice(MEMBERS), luck.choice(acts), luck.randrange(6)) for _ in range(60)
            ]
            await play(await journal.bucket(BucketConfig(name=name, bytes_max=2**20)), drawn)
            await journal.delete_stream(f"KV_{name}")


async def test_a_receipt_that_gets_lost(nats_server: NatsServer) -> None:
    """A commit whose outcome is not known is found out by the next one: nobody else wrote it."""
    name = fresh_name()
    async with (
        ChaosProxy(nats_server.port) as proxy,
        aclosing(await connect(f"nats://127.0.0.1:{proxy.port}")) as wire,
    ):
        journal = JetStreamJournal(wire, timeout_s=0.5)
        bucket = await journal.bucket(BucketConfig(name=name, bytes_max=2**20))
        tenure = await claim(bucket, KEY, Known(Place(), 0), "a")
        assert tenure is not None
        proxy.lose("to_client")
        with pytest.raises(DeadlineExceededError):
            await tenure.commit(Progress(position=7))
        proxy.heal()
        proxy.reset()
        while tenure.place.progress.position < 9:
            with suppress(DeadlineExceededError, TransportError):
                await tenure.commit(Progress(position=9))
        assert Place(1, "a", Progress(position=9)) == _place(await bucket.get(KEY))
        await tenure.release(Progress(position=9))
        assert Place(1, NOBODY, Progress(position=9)) == _place(await bucket.get(KEY))
        await journal.delete_stream(f"KV_{name}")


async def play(bucket: Bucket, acts: list[tuple[str, str, int]]) -> None:
    """Have members act on a partition's entry, and compare it with the naive model after each."""
    actors = {name: Actor(name) for name in MEMBERS}
    model = Place()
    for name, act, step in acts:
        actor = actors[name]
        before = await bucket.get(KEY)
        assert model == _place(before)
        if act == "look":
            actor.known = Known(_place(before), before.revision if before is not None else 0)
        elif act == "claim":
            is_new = actor.known.revision == (before.revision if before is not None else 0)
            tenure = await claim(bucket, KEY, actor.known, name)
            assert is_new == (tenure is not None)
            if tenure is not None:
                model = claimed(model, name)
                actor.tenure = tenure
        elif actor.tenure is not None:
            model = await _write(actor, act, step, model)
    held = [each for each in actors.values() if each.tenure and not each.tenure.is_lost]
    able = [each for each in held if each.tenure and each.tenure.epoch == model.epoch]
    assert len(able) <= 1


async def _write(actor: Actor, act: str, step: int, model: Place) -> Place:
    """Have an actor write in its tenure; return what the entry must be then."""
    tenure = actor.tenure
    assert tenure is not None
    is_mine = (tenure.epoch, actor.name) == (model.epoch, model.owner) and not tenure.is_lost
    if act == "lose receipt":
        if is_mine:  # the write took effect, and its writer does not know
            revision = tenure.revision
            there = Progress(position=model.progress.position + step)
            await tenure.commit(there)
            model, tenure.revision = committed(model, there), revision
        return model
    there = Progress(position=tenure.place.progress.position + step)
    write = tenure.release if act == "release" else tenure.commit
    if is_mine:
        await write(there)
        return (released if act == "release" else committed)(model, there)
    with pytest.raises(LeaseLostError):
        await write(there)
    assert tenure.is_lost
    return model


def _place(entry: Entry | None) -> Place:
    found = None if entry is None else decode(entry.value, Place)
    return found or Place()
