"""What an operator sees of stored work: counts that close, and the quarantine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from agent99 import Agent, Failure, Mesh, follow, job
from agent99.envelope import Name
from agent99.work import JobCount, Moving, OperationCount
from tests._wait import PATIENCE_S
from tests.agent.conftest import OpenMesh


class Clerk(Agent):
    """Does what is posted, slowly or never."""

    capabilities = ("desk",)

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    @job
    async def file(self, paper: str) -> None:
        """File it, unless it is bad."""
        if paper == "bad":
            raise Failure("no paper", code="NO_PAPER")

    @job(delay_s=600, delay_s_max=600)
    async def phone(self, number: int) -> None:
        """Wait on the phone; nobody answers number 0."""
        if number == 0:
            raise Failure("engaged", retryable=True)
        await self.gate.wait()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition that has to be asked for."""
    async with asyncio.timeout(PATIENCE_S):
        while not await holds():
            await asyncio.sleep(0)


async def count(mesh: Mesh) -> JobCount:
    """Return the one capability's count."""
    (found,) = await mesh.ledger.jobs(Name("desk"))
    return found


async def test_every_job_is_counted_once(client: Mesh, mesh: Mesh) -> None:
    """Done, in quarantine, taken out of it, in hand, waiting for a retry, or not delivered."""
    assert () == await client.ledger.jobs()
    clerk = Clerk()
    await mesh.host(clerk)
    for paper in ("a", "bad", "b", "bad", "c"):
        await client.post("desk", "file", {"paper": paper})
    ids = [await client.post("desk", "phone", {"number": number}) for number in (0, 1)]

    async def is_settled() -> bool:
        now = await count(client)
        unfinished = sum(one.unfinished for one in now.operations)
        return (now.quarantined, now.left, unfinished) == (2, 2, 2)

    await until(is_settled)
    records = [record async for record in client.quarantine.records()]
    await client.quarantine.drop(records[0])
    found = await count(client)
    operations = (OperationCount("file", 0, 0), OperationCount("phone", 0, 2))
    assert operations == found.operations
    assert (7, 3, 2, 1, 1) == (
        found.stored, found.done, found.left, found.quarantined, found.taken_out
    )  # fmt: skip
    moving = await client.ledger.moving(Name("desk"), Name("phone"))
    assert (Moving(6, ids[0]), Moving(7, ids[1])) == moving
    assert moving[:1] == await client.ledger.moving(Name("desk"), Name("phone"), messages_max=1)
    assert () == await client.ledger.moving(Name("desk"), Name("no_such"))
    await client.control(None, "pause")
    await client.post("desk", "phone", {"number": 2})
    assert moving == await client.ledger.moving(Name("desk"), Name("phone"))

    async def is_told() -> bool:
        (status,) = (await client.control(None, "status")).results
        work = {one["operation"]: one for one in status["work"]}
        told = ("in_hand", "done", "retried", "quarantined", "unfinished")
        assert (0, 3, 0, 2, 0) == tuple(work["file"][field] for field in told)
        assert ("desk", found_stream) == (work["phone"]["capability"], work["phone"]["stream"])
        return (1, 0, 1, 0, 0) == tuple(work["phone"][field] for field in told)

    found_stream = f"A99_{client.name}_JOB_desk"
    await until(is_told)
    clerk.gate.set()

    async def is_done() -> bool:
        return (await count(client)).done == 4

    await until(is_done)


async def test_work_that_nobody_took_yet_is_left(client: Mesh) -> None:
    """No consumer counts it; another capability's is not looked at."""
    await client.post("desk", "file", {"paper": "a"})
    await client.post("desk_two", "file", {"paper": "a"})
    found = await count(client)
    assert ((), 1, 1, 0) == (found.operations, found.stored, found.left, found.done)
    assert ["desk", "desk_two"] == [one.capability for one in await client.ledger.jobs()]


async def test_what_was_done_is_unknown_where_events_are_in_quarantine_too(
    client: Mesh, mesh: Mesh
) -> None:
    """A number that would be wrong is not told."""

    class Watcher(Agent):
        """Cannot bear what it follows."""

        @follow("order.*")
        async def note(self) -> None:
            """Say no."""
            raise Failure("no", code="NO")

    await mesh.host(Watcher())

    async def is_there() -> bool:
        return bool(await client.ledger.jobs())

    await until(is_there)
    (before,) = await client.ledger.jobs()
    assert 0 == before.done
    await client.append("order.placed", {})

    async def is_buried() -> bool:
        (now,) = await client.ledger.jobs()
        return now.quarantined == 1

    await until(is_buried)
    (after,) = await client.ledger.jobs()
    assert after.done is None


async def test_the_streams_of_a_mesh_are_its_own(open_mesh: OpenMesh, client: Mesh) -> None:
    """Events, jobs and quarantine, with who reads them; those of others are not shown."""
    assert "desk" not in str(await client.ledger.streams())
    await (await open_mesh()).host(Clerk())
    await client.append("order.placed", {})
    await client.post("desk", "file", {"paper": "bad"})

    async def are_there() -> bool:
        names = [one.state.config.name for one in await client.ledger.streams()]
        root = f"A99_{client.name}_"
        wanted = [f"{root}LOG", f"{root}JOB_desk", f"{root}DEAD_desk", "A99_ADVISORIES"]
        return names == wanted

    await until(are_there)
    streams = {one.state.config.name: one for one in await client.ledger.streams()}
    readers = streams[f"A99_{client.name}_JOB_desk"].consumers
    assert ["file", "phone"] == [one.config.name for one in readers]
    notices = streams["A99_ADVISORIES"].consumers
    assert [f"A99_{client.name}_JOB_desk"] == [one.config.name for one in notices]


async def test_the_blocking_verbs_store_too(client: Mesh, mesh: Mesh) -> None:
    """From a thread, with the promises of the others; the id comes back."""
    seen: list[tuple[str, str | None]] = []

    class Porter(Agent):
        """Notes what comes."""

        capabilities = ("porter",)

        @job
        async def carry(self, what: str) -> None:
            """Carry it."""
            seen.append((what, self.context.request.idempotency_key))

        @follow("door.*")
        async def look(self, what: str) -> None:
            """Look."""
            seen.append((what, self.context.operation))

    await mesh.host(Porter())
    blocking = client.blocking()
    posted = await asyncio.to_thread(
        blocking.post, "porter", "carry", {"what": "box"}, idempotency_key="k1"
    )
    appended = await asyncio.to_thread(blocking.append, "door.open", {"what": "in"}, key="d")

    async def are_seen() -> bool:
        return sorted(seen) == [("box", "k1"), ("in", "door.open")]

    await until(are_seen)
    assert 36 == len(posted) == len(appended)
