"""The client: what it asks again and what never, its deadlines, and answers that make no sense."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent99 import operation
from agent99.errors import (
    BadAnswerError,
    ClosedError,
    DeadlineExceededError,
    HandlerError,
    NoAgentError,
    UsageError,
)
from agent99.systems.cache import CacheNodeAgent
from agent99.systems.cache._words import Found, Outcome, Read, Status, Write, Written

from ._world import Node, Site, World


class Strange(Node):
    """A node that answers as a test wants."""

    how = ""

    @operation(idempotent=True)
    async def read(self, read: Read) -> Any:
        """Answer strangely."""
        self.asked["read"] += 1
        match self.how:
            case "silent":
                await asyncio.Event().wait()
            case "too many":
                return Found((None,) * (len(read.keys) + 1), (-9, 0, 99))
            case "garbage":
                return {"hits": "none"}
            case "breaks":
                raise ZeroDivisionError
            case "short":
                return Found(())
            case "moved":
                return Found((None,) * len(read.keys), tuple(range(len(read.keys))))
        return await CacheNodeAgent.read(self, read)

    @operation
    async def write(self, write: Write) -> Any:
        """Do it, or not, and answer strangely."""
        self.asked["write"] += 1
        match self.how:
            case "too many":
                return Written((Outcome(Status.DONE),) * (len(write.changes) + 1))
            case "garbage" | "garbage, and did":
                if self.how != "garbage":
                    await CacheNodeAgent.write(self, write)
                return ["what?"]
            case "breaks":
                raise ZeroDivisionError
            case "short":
                return Written(())
            case "moved":
                return Written((Outcome(Status.MOVED),) * len(write.changes))
            case "lost":
                return Written((Outcome(Status.UNKNOWN),) * len(write.changes))
            case "silent":
                await asyncio.Event().wait()
            case "silent, and did":
                await CacheNodeAgent.write(self, write)
                await asyncio.Event().wait()
        return await CacheNodeAgent.write(self, write)


async def strange(world: World) -> tuple[Site, Strange]:
    """Start a node that can be strange."""
    site = await world.site()
    site.agent = agent = Strange()
    await world.do(site.mesh.host(agent))
    world.sites.append(site)
    await world.until_quiet()
    return site, agent


async def test_a_read_is_asked_again(world: World) -> None:
    """A node that does not answer a read is asked again, until it does or the deadline is there."""
    _, agent = await strange(world)
    cache = await world.cache()
    await cache.set("a", 1)
    agent.how = "silent"
    reading = asyncio.ensure_future(cache.get("a"))
    await world.until(lambda: agent.asked["read"] >= 2)
    agent.how = ""
    assert 1 == await world.do(reading)


async def test_a_deadline_is_held(world: World) -> None:
    """A call ends at its deadline, whatever the nodes do; a read says that nobody has answered."""
    _, agent = await strange(world)
    cache = await world.cache()
    for how in ("silent", "moved"):
        agent.how = how
        began_s = world.clock.monotonic_s()
        with pytest.raises(DeadlineExceededError):
            await world.do(cache.get("a"))
        assert 4.9 <= world.clock.monotonic_s() - began_s <= 5.3, how
        began_s = world.clock.monotonic_s()
        with pytest.raises(DeadlineExceededError):
            await world.do(cache.get_many(["a", "b"]))
        assert 4.9 <= world.clock.monotonic_s() - began_s <= 5.3, how


async def test_a_change_is_not_repeated_when_its_outcome_is_unknown(world: World) -> None:
    """A change that nobody has answered is sent once, and said to be unknown; it was made here."""
    _, agent = await strange(world)
    cache = await world.cache()
    await cache.set("n", 1)
    agent.asked.clear()
    agent.how = "silent, and did"
    with pytest.raises(DeadlineExceededError, match="not known"):
        await world.do(cache.incr("n"))
    agent.how = ""
    assert 1 == agent.asked["write"]
    assert 2 == await cache.get("n")


async def test_a_change_whose_owner_lost_the_key_is_unknown(world: World) -> None:
    """An owner that says so itself is believed at once: nobody waits for the deadline."""
    _, agent = await strange(world)
    cache = await world.cache()
    agent.how = "lost"
    with pytest.raises(DeadlineExceededError, match="not known"):
        await cache.set("a", 1)
    assert 1 == agent.asked["write"]


async def test_a_change_may_be_made_that_was_answered_by_garbage(world: World) -> None:
    """Who broke may have done it before: so the page says that this, too, is unknown."""
    _, agent = await strange(world)
    cache = await world.cache()
    agent.how = "garbage, and did"
    with pytest.raises(BadAnswerError):
        await cache.incr("n")
    assert 1 == await cache.get("n")


async def test_a_change_may_be_made_that_was_under_way_when_its_process_left(world: World) -> None:
    """What a mesh that is closed gives up was sent before, perhaps: that, too, is unknown."""
    _, agent = await strange(world)
    mesh, other = await world.client(), await world.cache()
    cache = await mesh.cache("s")
    assert await cache.get("n") is None
    agent.how = "silent, and did"
    changing = asyncio.ensure_future(cache.incr("n"))
    await world.until(lambda: agent.asked["write"])
    await world.do(mesh.aclose())
    with pytest.raises(ClosedError):
        await changing
    assert 1 == await other.get("n")


async def test_a_change_that_was_not_made_is_made_again(world: World) -> None:
    """Where the node says that it does not own the key, the change goes out again, and once."""
    _, agent = await strange(world)
    cache = await world.cache()
    agent.how = "moved"
    counting = asyncio.ensure_future(cache.incr("n"))
    await world.until(lambda: agent.asked["write"] >= 3)
    agent.how = ""
    assert 1 == await world.do(counting)
    assert 2 == await cache.incr("n")


async def test_changes_under_way_when_their_owner_dies_are_unknown(world: World) -> None:
    """Whoever waits for a node that died is told as soon as the table says so."""
    _, agent = await strange(world)
    await world.add()
    cache = await world.cache()
    await world.do(cache.get("a"))
    table = cache.table
    mine = next(key for key in map(str, range(99)) if cache.owner(key) == agent.instance)
    agent.how = "silent"
    began_s = world.clock.monotonic_s()
    changing = asyncio.ensure_future(cache.set(mine, 1))
    await world.pass_s(0.2)
    world.sites[0].kill()
    with pytest.raises(DeadlineExceededError, match="not known"):
        await world.do(changing)
    assert world.clock.monotonic_s() - began_s < 4
    assert table.epoch < cache.table.epoch
    await world.do(cache.set(mine, 2))
    assert 2 == await world.do(cache.get(mine))


@pytest.mark.parametrize(("how", "error"), [("garbage", BadAnswerError), ("breaks", HandlerError)])
async def test_a_node_that_answers_garbage(world: World, how: str, error: type[Exception]) -> None:
    """An answer that makes no sense is said to whoever asked, by every verb, and asked for once."""
    _, agent = await strange(world)
    cache = await world.cache()
    agent.how = how
    for work in (cache.get("a"), cache.set("a", 1), cache.get_many(["a"]), cache.delete("a")):
        agent.asked.clear()
        with pytest.raises(error):
            await world.do(work)
        assert 1 == agent.asked.total()


@pytest.mark.parametrize("how", ["short", "too many"])
async def test_an_answer_to_something_else(world: World, how: str) -> None:
    """Who is told less or more than asked for neither takes it for a miss nor asks without end."""
    _, agent = await strange(world)
    cache = await world.cache()
    await cache.set("a", 1)
    agent.how = how
    for ask in (
        lambda: cache.get("a"),
        lambda: cache.get_many(["a", "b"]),
        lambda: cache.set("a", 2),
    ):
        agent.asked.clear()
        with pytest.raises((BadAnswerError, DeadlineExceededError)):
            await world.do(ask())
        assert agent.asked.total() < 200


async def test_of_many_changes_none_is_sent_if_one_is_unsound(world: World) -> None:
    """Keys and values are looked at before the first message."""
    site, _ = await strange(world)
    cache = await world.cache("s", str)
    unsound: Any = {"a": "1", "b": 7}
    for work in (cache.set_many(unsound), cache.delete_many(["a", ""])):
        with pytest.raises(UsageError):
            await work
    await world.pass_s(0.1)
    assert not site.agent.asked


async def test_a_mesh_that_closes_ends_what_waits(world: World) -> None:
    """Who waits when the mesh closes is told so; whoever asks later, too."""
    _, agent = await strange(world)
    mesh = await world.client()
    cache = await mesh.cache("s")
    await cache.set("a", 1)
    agent.how = "silent"
    waiting = [
        asyncio.ensure_future(work)
        for work in (cache.get("a"), cache.set("a", 2), cache.get_many(["a"]), cache.count())
    ]
    await world.pass_s(0.1)
    agent.how = "moved"
    waiting.append(asyncio.ensure_future(cache.get("b")))
    await world.pass_s(0.1)
    await world.do(mesh.aclose())
    await world.pass_s(0.1)
    assert all(task.done() for task in waiting[:3])
    for task in waiting:
        if task is not waiting[3]:  # `sweep` was answered before
            with pytest.raises(ClosedError):
                await task
    for work in (cache.get("a"), cache.set("a", 2)):
        with pytest.raises(ClosedError):
            await world.do(work)
    with pytest.raises(ClosedError):
        await mesh.cache("s")


async def test_who_gives_up_waits_for_nothing(world: World) -> None:
    """A caller that is cancelled leaves the others of its batch alone."""
    _, agent = await strange(world)
    cache = await world.cache()
    agent.how = "silent"
    given_up = asyncio.ensure_future(cache.get("a"))
    other = asyncio.ensure_future(cache.get("b"))
    await world.pass_s(0.1)
    given_up.cancel()
    agent.how = ""
    assert await world.do(other) is None
    assert given_up.cancelled()


async def test_a_first_call_waits_for_a_node_that_is_about_to_be_there(world: World) -> None:
    """A node that was just hosted is waited for; where there is none at all, nobody waits."""
    client = await world.client()
    cache = await client.cache("s")
    began_s = world.clock.monotonic_s()
    with pytest.raises(NoAgentError):
        await world.do(cache.get("a"))
    assert world.clock.monotonic_s() - began_s < 0.5
    await world.add(quiet=False)
    assert 1 == await world.do(cache.incr("a"))


async def test_where_all_nodes_have_died_it_is_said_that_there_is_none(world: World) -> None:
    """The last to die stand in the table for ever: who asks by it is told that nobody is there."""
    sites = await world.add(2)
    cache = await world.cache()
    await world.do(cache.set("a", 1))
    for site in sites:
        site.kill()
    await world.pass_s(60)
    for work in (cache.get("a"), cache.set("a", 2), cache.get_many(["a", "b"])):
        with pytest.raises(NoAgentError):
            await world.do(work)
    await world.add()
    assert await world.do(cache.get("a")) is None
