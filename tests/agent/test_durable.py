"""Events and work that are stored before the caller goes on: on a server and in memory alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agent99 import Agent, Context, Failure, Handler, Mesh, follow, job, operation
from agent99.agent._durable import Durable
from agent99.envelope import Name
from agent99.errors import InvalidNameError, UsageError
from agent99.observe import RequestFinished, draw_trace
from agent99.work import Quarantined
from tests._wait import PATIENCE_S, eventually
from tests.agent.conftest import OpenMesh

QUICK: dict[str, Any] = {"attempts_max": 3, "delay_s": 0.01, "delay_s_max": 0.05}


class Mailer(Agent):
    """Sends what it is given."""

    capabilities = ("mail",)
    concurrency_max = 4

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []
        self.attempts: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_fixed = False
        self.running = self.running_most = 0

    @job(**QUICK)
    async def send(self, to: str) -> None:
        """Send one."""
        self.running += 1
        self.running_most = max(self.running, self.running_most)
        try:
            await self.gate.wait()
        finally:
            self.running -= 1
        self.sent.append(to)

    @job(**QUICK)
    async def fail(self, how: str) -> None:
        """Fail as it is told."""
        self.attempts.append(self.context.request.attempt or 1)
        if self.is_fixed:
            self.sent.append(how)
        elif how == "never":
            raise Failure("no such address", code="NO_ADDRESS")
        elif how == "later":
            raise Failure("busy", code="BUSY", retryable=True)
        else:
            raise ValueError(how)

    @operation
    async def ask(self) -> str:
        """Answer: this takes no jobs."""
        return "here"


class Ledger(Agent):
    """Follows what happens to orders."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, int]] = []
        self.topics: list[str] = []
        self.ids: list[str] = []
        self.bad: set[int] = set()
        self.failures = 0

    @follow("order.*", **QUICK)
    async def note(self, order: str, number: int) -> None:
        """Note it, or fail."""
        if number in self.bad:
            self.failures += 1
            raise ValueError(f"cannot note {number}")
        self.topics.append(self.context.operation)
        self.ids.append(self.context.event_id)
        self.seen.append((order, number))


def durable_of(mesh: Mesh) -> Durable:
    """Return the durable parts of a mesh."""
    assert mesh._link is not None
    return mesh._link.durable


async def buried(mesh: Mesh) -> list[Quarantined]:
    """Return what is in quarantine."""
    return [record async for record in durable_of(mesh).quarantine.records()]


async def until_buried(mesh: Mesh, count: int = 1) -> list[Quarantined]:
    """Return what is in quarantine, once it is so much."""
    async with asyncio.timeout(PATIENCE_S):
        while len(found := await buried(mesh)) < count:
            await asyncio.sleep(0)
    return found


@pytest.fixture
async def mailer(mesh: Mesh) -> AsyncIterator[Mailer]:
    """Give a mailer that runs."""
    made = Mailer()
    await mesh.host(made)
    yield made
    made.gate.set()


# --- append ---------------------------------------------------------------------------------------


async def test_a_repeat_under_an_id_is_stored_once(client: Mesh, mesh: Mesh) -> None:
    """Whatever it holds, and whoever repeats it; who follows is given the id."""
    ledger = Ledger()
    await mesh.host(ledger)
    for number in range(3):
        event = {"order": "a", "number": number}
        assert "a/1" == await client.append("order.placed", event, key="a", event_id="a/1")
        assert "a/1" == await ledger.append("order.placed", event, event_id="a/1")
    last = {"order": "a", "number": 9}
    await asyncio.to_thread(
        lambda: ledger.blocking.append("order.placed", last, key="a", event_id="a/2")
    )
    await eventually(lambda: len(ledger.seen) >= 2)
    assert [("a", 0), ("a", 9)] == ledger.seen
    assert ["a/1", "a/2"] == ledger.ids


async def test_an_id_may_stand_for_the_key(client: Mesh, mesh: Mesh) -> None:
    """An event without a key has its id for one, whatever characters it is made of."""
    event_id = '"x"*>.' + "~" * 122
    ledger = Ledger()
    await mesh.host(ledger)
    await client.append("order.placed", {"order": "a", "number": 1}, event_id=event_id)
    await eventually(lambda: ledger.ids == [event_id])


@pytest.mark.parametrize("event_id", ["", "a b", "a\n", "é", "x" * 129, 7])
async def test_an_id_that_no_server_could_remember(client: Mesh, event_id: Any) -> None:
    """Is refused before anything is sent; the error says what an id is."""
    with pytest.raises(InvalidNameError, match="is no event id"):
        await client.append("order.placed", {}, event_id=event_id)


# --- post -----------------------------------------------------------------------------------------


async def test_posted_work_is_done(client: Mesh, mailer: Mailer) -> None:
    """Each job once, when nothing goes wrong; its id comes back."""
    ids = [await client.post("mail", "send", {"to": f"u{number}"}) for number in range(20)]
    await eventually(lambda: len(mailer.sent) == 20)
    assert {f"u{number}" for number in range(20)} == set(mailer.sent)
    assert 20 == len(set(ids))


async def test_work_waits_for_somebody_who_does_it(client: Mesh, mesh: Mesh) -> None:
    """Posted while nobody is there, done when somebody comes."""
    await client.post("mail", "send", {"to": "ada"})
    mailer = Mailer()
    await mesh.host(mailer)
    await eventually(lambda: mailer.sent == ["ada"])


async def test_work_keeps_to_the_bounds_of_its_instance(client: Mesh, mailer: Mailer) -> None:
    """Never more at once than `concurrency_max`, requests included."""
    mailer.gate.clear()
    for number in range(12):
        await client.post("mail", "send", {"to": str(number)})
    await eventually(lambda: mailer.running == 4)
    mailer.gate.set()
    await eventually(lambda: len(mailer.sent) == 12)
    assert 4 == mailer.running_most


@pytest.mark.parametrize(
    ("how", "reason", "code", "attempts"),
    [
        ("break", "attempts", "HANDLER_ERROR", [1, 2, 3]),
        ("later", "attempts", "BUSY", [1, 2, 3]),
        ("never", "not_retryable", "NO_ADDRESS", [1]),
    ],
)
async def test_what_cannot_be_done_ends_in_quarantine(
    client: Mesh, mailer: Mailer, how: str, reason: str, code: str, attempts: list[int]
) -> None:
    """With its reason, its last error, its attempts and its very bytes; and only once."""
    event_id = await client.post("mail", "fail", {"how": how}, headers={"tenant": "t1"})
    found = await until_buried(client)
    (record,) = found
    assert attempts == mailer.attempts
    assert (event_id, "mail", "fail", reason, code, len(attempts)) == (
        record.id, record.capability, record.operation, record.reason, record.code, record.attempts
    )  # fmt: skip
    assert event_id.replace("-", "") == record.trace_id
    assert ("ValueError: break" in record.traceback) is (how == "break")
    assert b'"tenant":"t1"' in record.body
    assert 0 < record.first_us <= record.last_us


async def test_what_is_redriven_is_done(client: Mesh, mailer: Mailer) -> None:
    """Once the reason is mended; it keeps its id, and leaves the quarantine."""
    event_id = await client.post("mail", "fail", {"how": "never"})
    found = await until_buried(client)
    mailer.is_fixed = True
    await durable_of(client).quarantine.redrive(found[0])
    await eventually(lambda: mailer.sent == ["never"])
    assert [] == await buried(client)
    assert event_id == found[0].id


async def test_what_is_redriven_to_nobody_waits(mesh: Mesh, client: Mesh, mailer: Mailer) -> None:
    """Where nobody does such work any more it is stored as pending, for operators to see."""
    await client.post("mail", "fail", {"how": "never"})
    (record,) = await until_buried(client)
    await mesh.stop(mailer)
    await client.quarantine.redrive(record)
    (count,) = await client.ledger.jobs(Name("mail"))
    assert (1, 0) == (count.left, count.quarantined)


async def test_what_is_dropped_is_gone(client: Mesh, mailer: Mailer) -> None:
    """For good; to drop it twice is no error."""
    assert [] == mailer.sent
    await client.post("mail", "fail", {"how": "never"})
    found = await until_buried(client)
    quarantine = durable_of(client).quarantine
    assert found[0] == await quarantine.get(Name("mail"), found[0].sequence)
    await quarantine.drop(found[0])
    assert [] == await buried(client)
    assert await quarantine.get(Name("mail"), found[0].sequence) is None


async def test_unreadable_work_ends_in_quarantine(client: Mesh, mailer: Mailer) -> None:
    """A payload of another type, and what is no message at all: at once, and never tried."""
    await client.post("mail", "send", {"to": 7})
    link = client._link
    assert link is not None
    subject = link.subjects.job(Name("mail"), Name("send"))
    await link.journal.append(subject, b"nonsense", message_id="n1")
    found = await until_buried(client, 2)
    assert {("unreadable", "BAD_REQUEST")} == {(one.reason, one.code) for one in found}
    assert b"nonsense" in {one.body for one in found}
    assert [] == mailer.sent


async def test_what_nobody_would_take_is_not_stored(client: Mesh, mailer: Mailer) -> None:
    """Where somebody offers the capability, and no such job: an error that says what there is."""
    await client.wait_for("mail")
    assert [] == mailer.sent
    for verb in ("ask", "no_such"):
        with pytest.raises(UsageError, match="there are: fail, send"):
            await client.post("mail", verb, {})
    with pytest.raises(InvalidNameError):
        await client.post("m.*", "send", {})


async def test_a_paused_agent_takes_nothing_in_hand(client: Mesh, mailer: Mailer) -> None:
    """What is posted meanwhile waits in the stream until it goes on."""
    (peer,) = await client.wait_for("mail")
    await client.control(peer, "pause")
    await client.post("mail", "send", {"to": "ada"})
    await client.control(peer, "status")
    assert [] == mailer.sent
    await client.control(peer, "resume")
    await eventually(lambda: mailer.sent == ["ada"])


async def test_a_stopped_agent_leaves_its_work_to_others(
    open_mesh: OpenMesh, client: Mesh, mesh: Mesh
) -> None:
    """What it has in hand it finishes; the rest another does."""
    first, second = Mailer(), Mailer()
    first.gate.clear()
    await mesh.host(first)
    for number in range(12):
        await client.post("mail", "send", {"to": str(number)})
    await eventually(lambda: first.running == 4)
    stopping = asyncio.ensure_future(mesh.stop(first))
    other = await open_mesh()
    await other.host(second)
    await eventually(lambda: len(second.sent) == 8)
    first.gate.set()
    await stopping
    everybody = sorted([*first.sent, *second.sent], key=int)
    assert [str(number) for number in range(12)] == everybody


# --- append ---------------------------------------------------------------------------------------


async def test_appended_events_are_followed_in_order(client: Mesh, mesh: Mesh) -> None:
    """From the first that is stored, also those from before the agent's start; by key in order."""
    for number in range(5):
        await client.append("order.placed", {"order": "a", "number": number}, key="a")
    ledger = Ledger()
    await mesh.host(ledger)
    for number in range(5, 10):
        await client.append("order.paid", {"order": "a", "number": number}, key="a")
    await client.append("stock.moved", {"order": "b", "number": 1})
    await eventually(lambda: len(ledger.seen) == 10)
    assert [("a", number) for number in range(10)] == ledger.seen
    assert {"order.placed", "order.paid"} == set(ledger.topics)


async def test_each_event_goes_to_one_instance_of_each_agent(
    open_mesh: OpenMesh, client: Mesh
) -> None:
    """Instances share one place in the stream; another agent has its own."""

    class Auditor(Ledger):
        """Follows the same."""

    first, second, auditor = Ledger(), Ledger(), Auditor()
    for agent in (first, second, auditor):
        await (await open_mesh()).host(agent)
    for number in range(20):
        await client.append("order.placed", {"order": str(number), "number": number})
    await eventually(lambda: len(first.seen) + len(second.seen) == len(auditor.seen) == 20)
    assert 20 == len({*first.seen, *second.seen})


async def test_what_is_behind_an_event_that_fails_waits_for_it(client: Mesh, mesh: Mesh) -> None:
    """Of its key; others go on. After its attempts it is in quarantine, and its key goes on."""
    ledger = Ledger()
    ledger.bad = {1}
    await mesh.host(ledger)
    for number in range(3):
        await client.append("order.placed", {"order": "a", "number": number}, key="a")
    await client.append("order.placed", {"order": "b", "number": 9}, key="b")
    await eventually(lambda: len(ledger.seen) == 3)
    assert 3 == ledger.failures
    assert [("a", 0), ("a", 2)] == [seen for seen in ledger.seen if seen[0] == "a"]
    assert ledger.seen.index(("b", 9)) < ledger.seen.index(("a", 2))
    (record,) = await buried(client)
    assert ("ledger", "note", "order.placed", "attempts") == (
        record.capability, record.operation, record.topic, record.reason
    )  # fmt: skip
    ledger.bad = set()
    await durable_of(client).quarantine.redrive(record)
    await eventually(lambda: ("a", 1) in ledger.seen)
    assert [] == await buried(client)


async def test_a_follower_goes_through_the_middleware(client: Mesh, mesh: Mesh) -> None:
    """What turns an error into another decides over what is tried again, too."""

    async def tell(context: Context, payload: Any, proceed: Handler) -> Any:
        try:
            return await proceed(context, payload)
        except ValueError as error:
            raise Failure(str(error), code="CANNOT") from error

    class Strict(Ledger):
        """Never tries again."""

        middleware = (tell,)

    strict = Strict()
    strict.bad = {1}
    await mesh.host(strict)
    await client.append("order.placed", {"order": "a", "number": 1}, key="a")
    found = await until_buried(client)
    assert ("CANNOT", "not_retryable", 1) == (found[0].code, found[0].reason, strict.failures)


async def test_stored_messages_belong_to_their_trace(client: Mesh, mesh: Mesh) -> None:
    """A job that is posted and an event that is appended within a request hang beneath it."""

    class Front(Agent):
        """Stores for its caller."""

        capabilities = ("front",)

        @operation
        async def go(self) -> None:
            """Store both."""
            await self.post("mail", "send", {"to": "ada"})
            await self.append("order.placed", {"order": "a", "number": 1}, key="a")

    mailer, ledger = Mailer(), Ledger()
    await mesh.host(mailer, ledger, Front())
    told: list[RequestFinished] = []
    mesh.hooks.listen(RequestFinished, told.append)
    await client.wait_for("front")
    await client.request("front", "go")
    await eventually(lambda: bool(mailer.sent and ledger.seen) and len(told) == 3)
    assert 1 == len({record.trace_id for record in told})
    assert "?" not in draw_trace(told).replace("? no record of who asked", "")


@pytest.mark.parametrize("wrong", ["", "x" * 129])
async def test_wrong_keys_are_refused(client: Mesh, wrong: str) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidNameError, match="key"):
        await client.append("order.placed", {}, key=wrong)


def test_jobs_need_a_capability() -> None:
    """A class whose jobs nobody could post is refused when it is read."""

    class Lost(Agent):
        """Offers nothing."""

        uses = ("mail",)

        @job
        async def work(self) -> None:
            """Never come to it."""

    with pytest.raises(UsageError, match="has none"):
        Lost.info()


@pytest.mark.parametrize("figures", [{"attempts_max": 0}, {"delay_s": -1.0}])
def test_wrong_figures_are_refused(figures: dict[str, Any]) -> None:
    """By both decorators, where the class is written."""
    with pytest.raises(UsageError):
        job(**figures)
    with pytest.raises(UsageError):
        follow("order.*", **figures)
