"""What a server tells of streams and consumers, page by page, and when it does not."""

from __future__ import annotations

import msgspec
import pytest

from agent99.errors import JournalError, StreamFullError, StreamNotFoundError
from tests.journal._actor import Actor, acting, refusal


def _page(total: int, **lists: object) -> bytes:
    return msgspec.json.encode({"total": total, **lists})


def _streams(*names: str) -> list[object]:
    return [{"config": {"name": name, "num_replicas": 1}} for name in names]


def _consumers(*names: str) -> list[object]:
    return [{"name": name, "config": {"durable_name": name}} for name in names]


def _offsets(actor: Actor) -> list[int]:
    return [msgspec.json.decode(body)["offset"] for what, body in actor.heard if "LIST" in what]


async def test_pages_of_streams() -> None:
    """Streams are asked for page by page, until all are there, or no more come."""
    async with acting() as actor:
        actor.plays(
            "$JS.API.STREAM.LIST",
            [_page(4, streams=_streams("b", "a"))],
            [_page(4, streams=_streams("KV_x", "ab"))],
            [_page(9, streams=_streams("c"))],
            [_page(9, streams=None)],
        )
        found = await actor.within(1, actor.journal.streams("a"))
        assert ["a", "ab"] == [each.config.name for each in found]
        assert [0, 2] == _offsets(actor)
        found = await actor.within(1, actor.journal.streams())
        assert ["c"] == [each.config.name for each in found]
        assert [0, 2, 0, 1] == _offsets(actor)


async def test_pages_of_consumers() -> None:
    """Durable consumers are asked for page by page; followers of buckets are none."""
    async with acting() as actor:
        follower = {"name": "x", "config": {"deliver_subject": "_INBOX.a.b"}}
        actor.plays(
            "$JS.API.CONSUMER.LIST.S",
            [_page(4, consumers=[*_consumers("b"), follower])],
            [_page(4, consumers=_consumers("c", "a"))],
        )
        found = await actor.within(1, actor.journal.consumers("S"))
        assert ["a", "b", "c"] == [each.config.name for each in found]
        assert [0, 2] == _offsets(actor)


async def test_servers_that_do_not_answer() -> None:
    """A list that lacks something says so: what is missing is not nothing."""
    async with acting() as actor:
        actor.plays("$JS.API.STREAM.LIST", [_page(2, streams=_streams("a"), missing=["b"])])
        actor.plays("$JS.API.CONSUMER.LIST.S", [_page(1, consumers=[], missing=["c", "d"])])
        with pytest.raises(JournalError, match="streams b"):
            await actor.within(1, actor.journal.streams())
        with pytest.raises(JournalError, match="consumers c, d"):
            await actor.within(1, actor.journal.consumers("S"))


async def test_no_consumers_of_a_stream_that_is_not_there() -> None:
    """An empty list of consumers is checked: a cluster gives one for a stream that is not there."""
    async with acting() as actor:
        actor.plays("$JS.API.CONSUMER.LIST.S", [_page(0, consumers=[])])
        actor.plays("$JS.API.STREAM.INFO.S", [refusal(10059, 404)])
        with pytest.raises(StreamNotFoundError):
            await actor.within(1, actor.journal.consumers("S"))


async def test_refusals() -> None:
    """What the server refuses is raised, with its code; a full disk is told by its words."""
    async with acting() as actor:
        actor.plays("$JS.API.CONSUMER.DELETE.S.c", [refusal(10012, 500, "broken")])
        actor.plays("$JS.API.CONSUMER.INFO.S.c", [refusal(10012, 500, "broken")])
        words = "write /store/1.blk: no space left on device"
        actor.plays("$JS.API.STREAM.MSG.DELETE.S", [refusal(10057, 500, words)])
        for call in (
            actor.journal.delete_consumer("S", "c"),
            actor.journal.consumer_state("S", "c"),
        ):
            with pytest.raises(JournalError, match="broken") as caught:
                await actor.within(1, call)
            assert 10012 == caught.value.server_code
        with pytest.raises(StreamFullError):
            await actor.within(1, actor.journal.delete("S", 1))


async def test_replicas() -> None:
    """Who leads is told first; a follower that is away is not current, whatever it was last."""
    async with acting() as actor:
        cluster = {
            "leader": "n1",
            "replicas": [
                {"name": "n0", "current": True},
                {"name": "n2", "current": True, "offline": True},
            ],
        }
        info = {"config": {"name": "S", "num_replicas": 3}, "cluster": cluster}
        actor.plays(
            "$JS.API.STREAM.INFO.S",
            [msgspec.json.encode(info)],
            [msgspec.json.encode(info | {"cluster": {"replicas": None}})],
        )
        state = await actor.within(1, actor.journal.stream_state("S"))
        assert [("n1", True, True), ("n0", False, True), ("n2", False, False)] == [
            (each.server, each.is_leader, each.is_current) for each in state.replicas
        ]
        assert () == (await actor.within(1, actor.journal.stream_state("S"))).replicas
