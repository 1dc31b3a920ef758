"""Single events: in order per key, again where they fail, into quarantine where they must."""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from pathlib import Path

import msgspec
import pytest

from agent99 import Failure, Mesh, Settings, UsageError
from agent99.envelope import ENVELOPE_BYTES, Name, parse_key, partition_of
from agent99.errors import HandlerError
from agent99.groups import Event, EventGroup, EventOptions, delete_group, reset_group
from agent99.groups._event_lane import EventLane
from agent99.groups._lane import Lane
from agent99.ids import SystemIds
from agent99.journal import Record
from agent99.work import Curve, Outcome, Place, Quarantined
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.groups.conftest import OpenMesh, delete_streams
from tests.groups.test_group import fill, held

DEADLY = Path(__file__).with_name("_deadly.py")
QUICK = EventOptions(
    commit_s=0.05,
    curve=Curve(attempts_max=3, delay_s=0.02, delay_s_max=0.05, timeout_s=5.0),
)


class Numbered(msgspec.Struct):
    """What the tests append."""

    number: int


class Heard:
    """What a handler was given and was done with, and what it fails at."""

    def __init__(self, *poison: tuple[str, int]) -> None:
        self.poison = set(poison)
        self.done: dict[str, list[int]] = defaultdict(list)
        self.attempts: dict[tuple[str, int], list[int]] = defaultdict(list)

    async def handle(self, event: Event) -> None:
        """Take an event, or fail at it."""
        number = event.decode(Numbered).number
        self.attempts[event.subject, number].append(event.attempt)
        if (event.subject, number) in self.poison:
            raise ValueError(f"poison {number}")
        self.done[event.subject].append(number)

    @property
    def count(self) -> int:
        """How many events it was done with."""
        return sum(map(len, self.done.values()))


async def buried(mesh: Mesh) -> list[Quarantined]:
    """Return what is in quarantine."""
    return [record async for record in mesh.link.durable.quarantine.records()]


async def test_each_event_once_in_order(open_mesh: OpenMesh) -> None:
    """Each event comes to one member, in the order of its key, with what was appended."""
    heard = Heard()
    meshes = [await open_mesh() for _ in range(2)]
    await fill(meshes[0], 20, range(5))
    async with (
        EventGroup(meshes[0], "mails", ["order.*"], heard.handle, options=QUICK) as one,
        EventGroup(meshes[1], "mails", ["order.*"], heard.handle, options=QUICK) as other,
    ):
        await fill(meshes[1], 20, range(5, 10))
        await eventually(lambda: heard.count >= 200)
        done = one.statistics().events + other.statistics().events
    assert {f"k{key}": list(range(10)) for key in range(20)} == heard.done
    assert 200 == done


async def test_what_fails_holds_up_its_key_alone(mesh: Mesh) -> None:
    """What fails is tried again and then moved away; its key waits for it, others go on."""
    heard = Heard(("k1", 1))
    await fill(mesh, 3, range(4))
    async with EventGroup(mesh, "mails", [">"], heard.handle, options=QUICK) as group:
        await eventually(lambda: heard.count == 11)
    assert {"k0": [0, 1, 2, 3], "k1": [0, 2, 3], "k2": [0, 1, 2, 3]} == heard.done
    assert [1, 2, 3] == heard.attempts["k1", 1]
    (kept,) = await buried(mesh)
    assert ("mails", "order.placed", "attempts", 3, "k1") == (
        kept.capability,
        kept.topic,
        kept.reason,
        kept.attempts,
        kept.key,
    )
    assert "poison 1" in kept.message
    assert "raise ValueError" in kept.traceback
    assert (12, 3, 1) == (
        group.statistics().events,
        group.statistics().failures,
        group.statistics().buried,
    )


async def test_what_is_redriven(open_mesh: OpenMesh) -> None:
    """What is redriven comes once more, to its own group alone, behind what its key has by then."""
    mesh, heard, others = await open_mesh(), Heard(("k0", 1)), Heard()
    await fill(mesh, 1, range(3))
    async with (
        EventGroup(mesh, "mails", [">"], heard.handle, options=QUICK),
        EventGroup(mesh, "others", [">"], others.handle, options=QUICK),
    ):
        await eventually(lambda: heard.count == 2 and others.count == 3)
        heard.poison.clear()
        (kept,) = await buried(mesh)
        await mesh.link.durable.quarantine.redrive(kept)
        await eventually(lambda: heard.count == 3)
        await fill(mesh, 1, range(3, 4))
        await eventually(lambda: heard.count == 4 and others.count == 4)
    assert [] == await buried(mesh)
    assert ([0, 2, 1, 3], [0, 1, 2, 3]) == (heard.done["k0"], others.done["k0"])


@pytest.mark.parametrize("letter", ["x", "错", "\0"], ids=["x", "wide", "nul"])
async def test_a_large_event_is_buried(mesh: Mesh, letter: str) -> None:
    """An event as large as `append` takes goes into quarantine, whatever its error says."""
    heard = Heard()

    async def handle(event: Event) -> None:
        if len(event.data) > 1_000:
            raise ValueError(letter * 8_000)
        await heard.handle(event)

    text = "x" * (mesh.link.wire.payload_bytes_max - ENVELOPE_BYTES - 40)
    await mesh.append("order.placed", {"number": 0, "text": text}, key="k0")
    await fill(mesh, 1, range(1, 3))
    async with EventGroup(mesh, "mails", [">"], handle, options=QUICK) as group:
        await eventually(lambda: group.statistics().buried == 1 and heard.count == 2)
    (kept,) = await buried(mesh)
    assert text.encode() in kept.body
    assert kept.message
    assert kept.traceback


async def test_what_is_buried_again_after_a_drop(mesh: Mesh) -> None:
    """What was dropped is kept anew when it fails again, however soon."""
    heard = Heard(("k0", 0))
    await fill(mesh, 1, range(1))
    async with EventGroup(mesh, "mails", [">"], heard.handle, options=QUICK) as group:
        await eventually(lambda: group.statistics().buried == 1)
        (kept,) = await buried(mesh)
        await mesh.link.durable.quarantine.drop(kept)
        await reset_group(mesh, "mails", "first")
        await eventually(lambda: group.statistics().buried == 2)
        assert 1 == len(await buried(mesh))
        await reset_group(mesh, "mails", "first")
        await eventually(lambda: group.statistics().buried == 3)
        assert 1 == len(await buried(mesh)), "the same one again is no second one"


async def test_what_nobody_would_read(mesh: Mesh) -> None:
    """What is redriven to a group that is no more stays, until the group is there again."""
    heard = Heard(("k0", 0))
    await fill(mesh, 1, range(1))
    async with EventGroup(mesh, "mails", [">"], heard.handle, options=QUICK) as group:
        await eventually(lambda: group.statistics().buried == 1)
    await delete_group(mesh, "mails")
    (kept,) = await buried(mesh)
    with pytest.raises(UsageError, match="no group 'mails'"):
        await mesh.link.durable.quarantine.redrive(kept)
    assert [kept] == await buried(mesh)
    heard.poison.clear()
    options = msgspec.structs.replace(QUICK, start="new")
    async with EventGroup(mesh, "mails", [">"], heard.handle, options=options):
        await mesh.link.durable.quarantine.redrive(kept)
        await eventually(lambda: heard.count == 1)


async def test_an_event_without_a_key_is_no_job(mesh: Mesh) -> None:
    """What cannot be given back to its group is posted to nobody."""
    quarantine = mesh.link.durable.quarantine
    record = Record(sequence=7, subject="nonsense", payload=b"{}", stored_us=1)
    place = Place("LOG", Name("mails"), Name("event"), subject="nonsense", reader="group")
    outcome = Outcome(HandlerError("broken"))
    await quarantine.bury(record, None, outcome, place, reason="unreadable", attempts=0)
    (kept,) = await buried(mesh)
    with pytest.raises(UsageError, match="has no key"):
        await quarantine.redrive(kept)
    assert [kept] == await buried(mesh)


@pytest.mark.parametrize("error", [Failure("never"), TypeError("broken")])
async def test_what_no_attempt_will_do(mesh: Mesh, error: Exception) -> None:
    """A failure that is final is not tried again; any other error is."""
    attempts: list[int] = []

    async def handle(event: Event) -> None:
        attempts.append(event.attempt)
        raise error

    await fill(mesh, 1, range(1))
    async with EventGroup(mesh, "mails", [">"], handle, options=QUICK) as group:
        await eventually(lambda: group.statistics().buried == 1)
    (kept,) = await buried(mesh)
    is_final = isinstance(error, Failure)
    assert ("not_retryable" if is_final else "attempts") == kept.reason
    assert ([1] if is_final else [1, 2, 3]) == attempts


async def test_what_cannot_be_read(mesh: Mesh) -> None:
    """What is no event, or none that the handler can read, goes into quarantine at once."""
    heard = Heard()
    await mesh.append("order.placed", {"number": "many"}, key="k0")
    stranger = mesh.link.subjects.log_listen_partition(1).replace("*.*.>", "x.k9.order.odd")
    await mesh.link.journal.append(stranger, b"no envelope")
    async with EventGroup(mesh, "mails", [">"], heard.handle, options=QUICK) as group:
        await eventually(lambda: group.statistics().buried == 2)
    kept = await buried(mesh)
    assert ["unreadable", "unreadable"] == [each.reason for each in kept]
    assert {"order.placed", "order.odd"} == {each.topic for each in kept}


async def test_a_handler_that_hangs(mesh: Mesh) -> None:
    """A handler that does not end has failed after its time; other keys go on meanwhile."""
    heard = Heard()
    curve = Curve(attempts_max=2, delay_s=0.01, delay_s_max=0.01, timeout_s=0.2)
    options = msgspec.structs.replace(QUICK, curve=curve)

    async def handle(event: Event) -> None:
        if event.subject == "k0":
            await asyncio.Event().wait()
        await heard.handle(event)

    await fill(mesh, 4, range(2))
    async with EventGroup(mesh, "mails", [">"], handle, options=options) as group:
        await eventually(lambda: heard.count == 6)
        assert 0 == group.statistics().buried, "it did not hold up the others"
        await eventually(lambda: group.statistics().buried == 2)
    assert {"the handler took too long"} == {each.message for each in await buried(mesh)}


async def test_a_partition_waits_at_its_bound(mesh: Mesh) -> None:
    """So many events of a partition may wait for what fails; beyond it the partition pauses."""
    may_end = asyncio.Event()
    heard = Heard()
    options = msgspec.structs.replace(QUICK, waiting_max=4, batch_max=2)

    async def handle(event: Event) -> None:
        await may_end.wait()
        await heard.handle(event)

    await fill(mesh, 1, range(20))
    async with EventGroup(mesh, "mails", [">"], handle, options=options) as group:
        arranger = group._arranger
        assert arranger is not None
        await eventually(lambda: max(map(_waiting, arranger.lanes.values()), default=0) == 4)
        may_end.set()
        await eventually(lambda: heard.count == 20)
    assert list(range(20)) == heard.done["k0"]


async def test_what_is_done_beyond_is_remembered(mesh: Mesh) -> None:
    """Who takes over gives to its handler what failed, with its attempts, and nothing that is done.

    The keys are of one partition.
    """
    keys = same_partition(3)
    heard = Heard((keys[1], 1))
    slow = Curve(attempts_max=9, delay_s=0.02, delay_s_max=0.02, timeout_s=5.0)
    options = msgspec.structs.replace(QUICK, curve=slow)
    for number in range(3):
        for key in keys:
            await mesh.append("order.placed", {"number": number}, key=key)
    async with EventGroup(mesh, "mails", [">"], heard.handle, options=options):
        await eventually(lambda: heard.count == 7 and len(heard.attempts[keys[1], 1]) > 2)
    before = len(heard.attempts[keys[1], 1])
    heard.poison.clear()
    async with EventGroup(mesh, "mails", [">"], heard.handle, options=options):
        await eventually(lambda: heard.count == 9)
    assert [[0, 1, 2]] * 3 == [heard.done[key] for key in keys]
    assert list(range(1, before + 2)) == heard.attempts[keys[1], 1]


async def test_one_is_active(open_mesh: OpenMesh) -> None:
    """Of a group with one active member the others stand by, and one goes on when it leaves."""
    heard = [Heard(), Heard()]
    meshes = [await open_mesh() for _ in range(2)]

    def member(number: int) -> EventGroup:
        handle = heard[number].handle
        options = msgspec.structs.replace(QUICK, active="one")
        return EventGroup(meshes[number], "book", [">"], handle, options=options)

    first, second = member(0), member(1)
    async with second:
        async with first:
            await eventually(lambda: held(first, second) == [0, 1])
            await fill(meshes[0], 8, range(3))
            await eventually(lambda: heard[0].count + heard[1].count == 24)
            assert 0 in {heard[0].count, heard[1].count}
        await fill(meshes[0], 8, range(3, 5))
        await eventually(lambda: heard[0].count + heard[1].count == 40)
        assert heard[1].count >= 16
    merged = {key: heard[0].done[key] + heard[1].done[key] for key in heard[1].done}
    assert {f"k{key}": list(range(5)) for key in range(8)} == merged


@pytest.mark.slow
async def test_an_event_that_kills(nats_server: NatsServer, tmp_path: Path) -> None:
    """An event that ends its process each time is found out, and moved away: nothing else is."""
    name = f"t{SystemIds().token().decode()[:12]}"
    command = [sys.executable, str(DEADLY), nats_server.url, name, "2"]
    pipe = asyncio.subprocess.PIPE
    deaths, had = 0, set[str]()
    settings = Settings(
        project=tmp_path, state_folder=tmp_path, url=nats_server.url, mesh=name, log_bytes_max=2**26
    )
    async with Mesh(settings=settings) as mesh, asyncio.timeout(60):
        await fill(mesh, 6, range(5))
        while True:
            member = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
            assert member.stdout is not None
            async for line in member.stdout:
                had.add(line.decode().strip())
                if len(had) == 29:
                    break
            if len(had) == 29:
                break
            assert 9 == await member.wait()
            deaths += 1
        member.kill()
        await member.communicate()
        (kept,) = await buried(mesh)
    assert ("k0", 4, "attempts") == (kept.key, deaths, kept.reason)
    assert {f"had k{key} {number}" for key in range(6) for number in range(5)} - had == {"had k0 2"}
    await delete_streams(nats_server.url, name)


def _waiting(lane: Lane) -> int:
    assert isinstance(lane, EventLane)
    return len(lane._ledger)


def same_partition(count: int) -> list[str]:
    """Return keys of one partition."""
    found: dict[int, list[str]] = defaultdict(list)
    for number in range(10_000):
        keys = found[partition_of(parse_key(f"k{number}"))]
        keys.append(f"k{number}")
        if len(keys) == count:
            return keys
    raise AssertionError("64 partitions are not enough")
