"""Our client and nats-py understand each other, in both directions."""

from __future__ import annotations

import asyncio

import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from agent99.clock import SystemClock
from agent99.errors import NoRespondersError
from agent99.wire import Message, NatsWire, format_headers, parse_headers
from tests._wait import eventually

_now = SystemClock().monotonic_s


async def _settle(oracle: Client) -> None:
    """Return when the server knows what it subscribed to.

    Its `flush` writes the PING at once, ahead of what still waits to be written: the first one
    brings that out, the second comes after it.
    """
    await oracle.flush()
    await oracle.flush()


async def test_we_publish(wire: NatsWire, oracle: Client, subject: bytes) -> None:
    """What we publish arrives there, subject, reply, headers and payload."""
    got: list[Msg] = []

    async def receive(message: Msg) -> None:
        got.append(message)

    await oracle.subscribe(subject.decode() + ".>", cb=receive)
    await _settle(oracle)
    wire.publish(subject + b".a.b", b"one", reply=b"back.to")
    wire.publish(subject + b".c", b"two", headers=format_headers({"A": "1", "B": "two words"}))
    wire.publish(subject + b".c", bytes(range(256)))
    await wire.flush()
    await eventually(lambda: len(got) == 3)
    assert [b"one", b"two", bytes(range(256))] == [message.data for message in got]
    assert (f"{subject.decode()}.a.b", "back.to") == (got[0].subject, got[0].reply)
    assert {"A": "1", "B": "two words"} == got[1].headers


async def test_we_receive(wire: NatsWire, oracle: Client, subject: bytes) -> None:
    """What it publishes arrives here, subject, reply, headers and payload."""
    got: list[Message] = []
    wire.subscribe(subject + b".*", got.append)
    await wire.flush()
    name = subject.decode()
    await oracle.publish(f"{name}.a", b"one", reply="back.to")
    await oracle.publish(f"{name}.b", b"two", headers={"A": "1", "B": "two words"})
    await oracle.flush()
    await eventually(lambda: len(got) == 2)
    assert Message(subject + b".a", b"back.to", b"one") == got[0]
    assert b"two" == got[1].payload
    assert {"A": "1", "B": "two words"} == parse_headers(got[1].headers).fields


async def test_it_answers(wire: NatsWire, oracle: Client, subject: bytes) -> None:
    """A request of ours is answered by it."""

    async def answer(message: Msg) -> None:
        await oracle.publish(message.reply, message.data[::-1], headers=message.headers)

    await oracle.subscribe(subject.decode(), cb=answer)
    await _settle(oracle)
    block = format_headers({"Name": "Ada"})
    got = await wire.request(subject, b"abc", headers=block, deadline_s=_now() + 5)
    assert b"cba" == got.payload
    assert {"Name": "Ada"} == parse_headers(got.headers).fields


async def test_we_answer(wire: NatsWire, oracle: Client, subject: bytes) -> None:
    """A request of its is answered by us."""
    wire.subscribe(
        subject,
        lambda message: wire.publish(message.reply, message.payload[::-1], headers=message.headers),
        queue=b"q",
    )
    await wire.flush()
    got = await oracle.request(subject.decode(), b"abc", headers={"Name": "Ada"}, timeout=5)
    assert (b"cba", {"Name": "Ada"}) == (got.data, got.headers)


async def test_no_responders(wire: NatsWire, oracle: Client, subject: bytes) -> None:
    """Both learn at once that nobody listens."""
    with pytest.raises(NoRespondersError):
        await wire.request(subject, b"", deadline_s=_now() + 5)
    with pytest.raises(nats.errors.NoRespondersError):
        await oracle.request(subject.decode(), b"", timeout=5)


async def test_mixed_queue_group(wire: NatsWire, oracle: Client, subject: bytes) -> None:
    """Members of both kinds share a queue group."""
    ours: list[bytes] = []
    theirs: list[bytes] = []

    async def receive(message: Msg) -> None:
        theirs.append(message.data)

    wire.subscribe(subject, lambda message: ours.append(message.payload), queue=b"q")
    await oracle.subscribe(subject.decode(), queue="q", cb=receive)
    await asyncio.gather(wire.flush(), _settle(oracle))
    sent = [b"%d" % number for number in range(200)]
    for payload in sent[:100]:
        wire.publish(subject, payload)
    for payload in sent[100:]:
        await oracle.publish(subject.decode(), payload)
    await oracle.flush()
    await eventually(lambda: len(ours) + len(theirs) == len(sent))
    assert sorted(sent) == sorted([*ours, *theirs])
    assert ours
    assert theirs


async def test_odd_subjects(wire: NatsWire, oracle: Client, subject: bytes) -> None:
    """Subjects that we would refuse to send still arrive, and do not cut us off."""
    got: list[bytes] = []
    wire.subscribe(subject + b".>", lambda message: got.append(message.subject))
    await wire.flush()
    for token in ("a\x00b", "ä", "\x0b"):
        await oracle.publish(f"{subject.decode()}.{token}", b"")
    await oracle.flush()
    await eventually(lambda: len(got) == 3)
    assert [b"a\x00b", "ä".encode(), b"\x0b"] == [name.split(b".")[1] for name in got]
    assert 0 == wire.statistics().reconnects
