"""Who asks a node without the client: each answer is typed, and the node lives on."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from agent99 import Agent, operation
from agent99.errors import Agent99Error, BadAnswerError
from agent99.systems.cache._door import BAD_CHANGE, BAD_KEY, OLD_TOO_LARGE
from agent99.systems.cache._table import PARTITIONS, Node, Part, encode_table, new_table
from agent99.systems.cache._words import Status, Verb
from tests._nats_server import NatsServer
from tests.systems.cache._nodes import Nodes

YEAR_US = 366 * 24 * 3_600 * 1_000_000
SET = int(Verb.SET)


@pytest.fixture
async def nodes(nats_server: NatsServer) -> AsyncIterator[Nodes]:
    """Give a cache of two nodes, and check in the end that they live on."""
    async with Nodes(nats_server.url) as nodes:
        await nodes.add(2)
        stays = {node.instance: node.stay for node in nodes.agents}
        yield nodes
        cache = await nodes.client.cache("alive", str)
        await cache.set_many({f"k{n}": "v" for n in range(50)})
        assert len(await cache.get_many([f"k{n}" for n in range(50)])) == 50
        assert all(node.stay is stays[node.instance] for node in nodes.agents)


def _change(verb: int = SET, key: str = "s:k", value: bytes = b"", *more: Any) -> list[Any]:
    return [verb, key, b64encode(value).decode(), *more]


async def _outcome(nodes: Nodes, change: list[Any]) -> list[Any]:
    """Return what came of one change, at the node that owns its key."""
    for node in nodes.agents:
        written = await nodes.ask(node, "write", {"epoch": 0, "changes": [change]})
        if written["outcomes"][0][0] != Status.MOVED:
            return list(written["outcomes"][0])
    raise AssertionError("nobody owns the key")


async def test_a_key_that_is_none_is_refused(nodes: Nodes) -> None:
    """A change of it has a code for its outcome; a read finds nothing."""
    for key in (
        *("", ":", "s:", ":k", "k", "S:k", "s.t:k", "s" * 200 + ":k"),
        *("s:" + "k" * 10_240, "s:" + "ü" * 513),
    ):
        outcome = await _outcome(nodes, _change(SET, key, b"v"))
        assert (outcome[0], outcome[5]) == (Status.REFUSED, BAD_KEY), key[:20]
        for node in nodes.agents:
            found = await nodes.ask(node, "read", {"epoch": 0, "keys": [key]})
            assert found["hits"] == [None], key[:20]


async def test_a_change_that_makes_no_sense_is_refused(nodes: Nodes) -> None:
    """A verb, a kind, a time or tags that no client sends: a code, and nothing is changed."""
    for change in (
        _change(99),
        _change(-1),
        _change(2**70),
        _change(SET, "s:k", b"", -1),
        _change(SET, "s:k", b"", 999),
        _change(SET, "s:k", b"", 0, -1),
        _change(SET, "s:k", b"", 0, 11 * YEAR_US),
        _change(SET, "s:k", b"", 0, 0, 0, -1),
        _change(SET, "s:k", b"", 0, 0, 0, 2**63 - 1),
        _change(SET, "s:k", b"", 0, 0, 0, 0, -1),
        _change(SET, "s:k", b"", 0, 0, 0, 0, 0, [""]),
        _change(SET, "s:k", b"", 0, 0, 0, 0, 0, ["t" * 129]),
        _change(SET, "s:k", b"", 0, 0, 0, 0, 0, [f"t{n}" for n in range(17)]),
    ):
        outcome = await _outcome(nodes, change)
        assert (outcome[0], outcome[5]) == (Status.REFUSED, BAD_CHANGE), change
    assert await (await nodes.client.cache("s", bytes)).get("k") is None


async def test_a_message_of_another_form_is_a_typed_error(nodes: Nodes) -> None:
    """What is not of an operation's type does not reach it."""
    sweep = {"epoch": 0, "namespace": "s"}
    for operation_, payload in (
        ("read", {}),
        ("read", {"epoch": 0, "keys": [1]}),
        ("read", {"epoch": "x", "keys": []}),
        ("read", {"epoch": 0, "keys": ["\ud800"]}),
        ("write", {"epoch": 0, "changes": [[]]}),
        ("write", {"epoch": 0, "changes": [[SET, "s:k", "no base64!"]]}),
        ("copy", {"portions": [[-1, 1, []]]}),
        ("copy", {"portions": [[256, 1, []]]}),
        ("copy", {"portions": [[0, 1, [["s:k"]]]]}),
        ("sweep", {**sweep, "action": "drop", "partitions": [0]}),
        ("sweep", {**sweep, "action": "count", "partitions": "all"}),
        ("stage", {"upload": "u", "index": 0, "size": "x", "data": ""}),
        ("read_part", {"key": "s:k", "version": 1}),
        ("nonsense", {}),
    ):
        for node in nodes.agents:
            with pytest.raises(Agent99Error) as caught:
                await nodes.ask(node, operation_, payload)
            assert caught.value.code not in ("", "DEADLINE_EXCEEDED", "HANDLER"), payload


async def test_what_is_out_of_range_is_not_there(nodes: Nodes) -> None:
    """Partitions, versions and parts that cannot be, an epoch from the future: nothing comes."""
    await (await nodes.client.cache("s", bytes)).set("k", b"v")
    future = 2**62
    for node in nodes.agents:
        ask = {"epoch": future, "action": "keys", "namespace": "s"}
        swept = await nodes.ask(node, "sweep", {**ask, "partitions": [-1, 256, 10**9]})
        assert swept == {"done": []}
        for part in ({"index": -1, "version": 1}, {"index": 10**9, "version": -5}):
            assert await nodes.ask(node, "read_part", {"key": "s:k", **part}) == {}
        found = await nodes.ask(node, "read", {"epoch": future, "keys": ["s:k"]})
        assert "table" not in found
    outcome = await _outcome(nodes, _change(SET, "s:k", b"w"))
    assert outcome[0] == Status.DONE


async def test_an_owner_out_of_the_air_shuts_nobody_out(nodes: Nodes) -> None:
    """A copy from nobody, at an epoch that no table has: refused; the true one is believed."""
    cache = await nodes.client.cache("s", bytes)
    await cache.set("k", b"v")
    for node in nodes.agents:
        for epoch in (-1, 0, 2**22, 2**62):
            item = ["s:k", (2**22 << 40) + 1, b64encode(b"forged").decode()]
            portions = [[partition, epoch, [item], True] for partition in range(0, 256, 17)]
            copied = await nodes.ask(node, "copy", {"portions": portions})
            assert len(copied.get("fenced", ())) + len(copied.get("lacking", ())) == len(portions)
    await cache.set("k", b"w")
    await nodes.stop(nodes.owner("s:k"))
    assert await cache.get("k") == b"w"


async def test_a_message_may_ask_for_a_thousand_things(nodes: Nodes) -> None:
    """Of more, the first thousand are answered; the rest is to be asked for again."""
    (node, _) = nodes.agents
    keys = [f"s:{n}" for n in range(100_000)]
    changes = [[SET, key] for key in keys[:50_000]]
    written = await nodes.ask(node, "write", {"epoch": 0, "changes": changes})
    assert len(written["outcomes"]) == 1_000
    found = await nodes.ask(node, "read", {"epoch": 0, "keys": keys[:60_000]})
    assert len(found["hits"]) == 1_000
    partitions = list(range(256)) * 100
    swept = await nodes.ask(
        node, "sweep", {"epoch": 0, "action": "count", "partitions": partitions, "namespace": "s"}
    )
    assert len(swept["done"]) == len(set(swept["done"]))


async def test_old_values_never_overfill_an_answer(nodes: Nodes) -> None:
    """Changes whose old values do not fit come again; one that no answer can hold is refused."""
    cache = await nodes.client.cache("s", bytes)
    await cache.set("large", bytes(400 * 1024))
    wants_old = (0, 0, 0, 0, 0, [], False, True)
    outcome = await _outcome(nodes, _change(SET, "s:large", b"x", *wants_old))
    assert (outcome[0], outcome[5]) == (Status.REFUSED, OLD_TOO_LARGE)
    await cache.set("k", bytes(200 * 1024))
    owner = nodes.owner("s:k")
    touch = [int(Verb.TOUCH), "s:k", "", *wants_old]
    written = await nodes.ask(owner, "write", {"epoch": 0, "changes": [touch] * 10})
    assert 1 <= len(written["outcomes"]) < 10


class _Garbage(Agent):
    """Answers everything with what it was given, whatever was asked."""

    capabilities = ("garbage",)

    answer: Any = None

    @operation
    async def read(self, epoch: int, keys: list[str]) -> Any:
        """Return garbage."""
        return self.answer

    @operation
    async def write(self, epoch: int, changes: list[Any]) -> Any:
        """Return garbage."""
        return self.answer

    @operation
    async def stage(self, upload: str) -> Any:
        """Return garbage."""
        return self.answer

    @operation
    async def sweep(self, epoch: int, action: str) -> Any:
        """Return garbage."""
        return self.answer


async def test_a_node_that_answers_garbage_is_an_error_at_once(nats_server: NatsServer) -> None:
    """The caller of each verb gets `BadAnswerError`; nothing hangs, nothing is tried for ever."""
    async with Nodes(nats_server.url) as nodes:
        agent = _Garbage()
        await nodes.client.host(agent)
        node = Node("garbage", agent.info().name, agent.instance)
        cache = await nodes.client.cache("s", bytes)
        parts = (Part(1, node.id, (), (node.id,)),) * PARTITIONS
        table = replace(new_table(0), epoch=1, nodes=(node,), parts=parts)
        cache._client.book.learn(encode_table(table))
        for answer in (
            *(None, 7, "x", {}, {"hits": [], "outcomes": 5, "done": 1}),
            {"hits": [[1]], "outcomes": [[]], "done": [[]]},
            {"hits": [None] * 3, "outcomes": [[0]] * 3, "done": ["x"]},
        ):
            agent.answer = answer
            for call in (
                *(cache.get("k"), cache.set("k", b"v"), cache.count()),
                *(cache.get_many(["k"]), cache.append("k", bytes(500_000))),
            ):
                with pytest.raises(BadAnswerError):
                    await asyncio.wait_for(call, 4)
