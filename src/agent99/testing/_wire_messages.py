"""The wire's contract: subjects, subscriptions, queue groups, payloads, headers."""

from __future__ import annotations

import asyncio
from functools import partial

from agent99.errors import LocalProtocolError, PayloadTooLargeError
from agent99.testing._wire_world import WireWorld, equal, holds, ignore, in_world, refused
from agent99.wire import Message, format_headers, parse_headers

_INJECTION = b"x 0\r\n\r\nPUB evil 3\r\nabc\r\nPUB h"
_BAD_EVERYWHERE = (
    b"",
    b".",
    b"a.",
    b".a",
    b"a..b",
    b"a b",
    b"a\tb",
    b"a\rb",
    b"a\nb",
    b"a\x00b",
    b"a\x7fb",
    "ä".encode(),
    b"a" * 5_000,
    _INJECTION,
)


def _note(subjects: list[bytes], message: Message) -> None:
    subjects.append(message.subject)


def _note_member(got: list[tuple[int, bytes]], member: int, message: Message) -> None:
    got.append((member, message.payload))


def _note_queue(got: list[bytes], queue: bytes, _message: Message) -> None:
    got.append(queue)


@in_world
async def check_message_arrives(world: WireWorld) -> None:
    """A message arrives once, with its subject, reply, payload and headers."""
    one, two = await world.wire(), await world.wire()
    got: list[Message] = []
    await world.listen(two, world.subject, got.append)
    block = format_headers({"Name": "value"})
    one.publish(world.subject, b"payload", reply=b"back.to", headers=block)
    await world.settle(one, two)
    equal([Message(world.subject, b"back.to", b"payload", block)], got, "one message, intact")


@in_world
async def check_any_payload(world: WireWorld) -> None:
    """A payload is any bytes, from none to the largest."""
    one, two = await world.wire(), await world.wire()
    got: list[bytes] = []
    await world.listen(two, world.subject, lambda message: got.append(message.payload))
    payloads = [
        b"",
        b"\r\n",
        b"MSG a 1 1\r\nx\r\n",
        bytes(range(256)),
        bytes(one.payload_bytes_max),
    ]
    for payload in payloads:
        one.publish(world.subject, payload)
    await world.until(lambda: len(got) == len(payloads), "every payload arrives")
    holds(payloads == got, "payloads arrive unchanged")


@in_world
async def check_order(world: WireWorld) -> None:
    """Messages of one connection arrive in the order of sending."""
    one, two = await world.wire(), await world.wire()
    got: list[bytes] = []
    await world.listen(two, world.subject + b".*", lambda message: got.append(message.payload))
    sent = [b"%d" % number for number in range(1_000)]
    for payload in sent:
        one.publish(world.subject + b".%d" % (len(payload) % 3), payload)
    await world.settle(one, two)
    equal(sent, got, "in order")


@in_world
async def check_wildcards(world: WireWorld) -> None:
    """`*` stands for one token, a final `>` for one or more."""
    wire, base = await world.wire(), world.subject
    got: dict[bytes, list[bytes]] = {}
    for pattern in (b"", b".a", b".*", b".*.b", b".>", b".a.>"):
        wire.subscribe(base + pattern, partial(_note, got.setdefault(pattern, [])))
    for subject in (b"", b".a", b".b", b".a.b", b".a.b.c"):
        wire.publish(base + subject, b"")
    await world.settle(wire)
    expected = {
        b"": [b""],
        b".a": [b".a"],
        b".*": [b".a", b".b"],
        b".*.b": [b".a.b"],
        b".>": [b".a", b".b", b".a.b", b".a.b.c"],
        b".a.>": [b".a.b", b".a.b.c"],
    }
    equal(
        {pattern: [base + one for one in subjects] for pattern, subjects in expected.items()},
        got,
        "who gets what",
    )


@in_world
async def check_copies(world: WireWorld) -> None:
    """Every plain subscription gets its copy, the sender's own included."""
    one, two = await world.wire(), await world.wire()
    got: list[str] = []
    await world.listen(one, world.subject, lambda _: got.append("own"))
    await world.listen(two, world.subject, lambda _: got.append("other"))
    await world.listen(two, world.subject, lambda _: got.append("other again"))
    one.publish(world.subject, b"")
    await world.settle(one, two)
    equal(["other", "other again", "own"], sorted(got), "one copy each")


@in_world
async def check_queue_group(world: WireWorld) -> None:
    """Each message goes to one member of a queue group; every member gets some."""
    sender = await world.wire()
    got: list[tuple[int, bytes]] = []
    for member in range(3):
        wire = await world.wire()
        await world.listen(
            wire,
            world.subject,
            partial(_note_member, got, member),
            queue=b"q",
        )
    sent = [b"%d" % number for number in range(300)]
    for payload in sent:
        sender.publish(world.subject, payload)
    await world.until(lambda: len(got) >= len(sent), "every message goes to a member")
    equal(sorted(sent), sorted(payload for _, payload in got), "to one member each")
    equal({0, 1, 2}, {member for member, _ in got}, "every member gets some")


@in_world
async def check_queue_groups_apart(world: WireWorld) -> None:
    """Different queue groups, and plain subscriptions, each get the message."""
    one, two = await world.wire(), await world.wire()
    got: list[bytes] = []
    for queue in (b"p", b"q", b"q", b""):
        await world.listen(two, world.subject, partial(_note_queue, got, queue), queue=queue)
    one.publish(world.subject, b"")
    await world.settle(one, two)
    equal([b"", b"p", b"q"], sorted(got), "one of each group")


@in_world
async def check_headers(world: WireWorld) -> None:
    """Headers come back as they were given, in their order."""
    wire = await world.wire()
    got: list[Message] = []
    wire.subscribe(world.subject, got.append)
    fields = {"A": "1", "b-c": "two words: ä", "Empty": ""}
    wire.publish(world.subject, b"body", headers=format_headers(fields))
    await world.settle(wire)
    parsed = parse_headers(got[0].headers)
    equal(list(fields.items()), list(parsed.fields.items()), "fields")
    equal((0, b"body"), (parsed.status, got[0].payload), "no status, and the payload apart")


@in_world
async def check_bad_subjects(world: WireWorld) -> None:
    """What could break the protocol is refused, and nothing is queued."""
    wire = await world.wire()
    before = wire.statistics().messages_out
    for bad in (*_BAD_EVERYWHERE, b"a.*", b"*", b">", b"a.>", b"a*b"):
        refused(LocalProtocolError, partial(wire.publish, bad, b""), f"publish {bad!r}")
        refused(
            LocalProtocolError,
            partial(wire.request, bad, b"", deadline_s=world.soon()),
            f"request {bad!r}",
        )
        if bad:
            refused(
                LocalProtocolError,
                partial(wire.publish, world.subject, b"", reply=bad),
                f"reply {bad!r}",
            )
    equal(before, wire.statistics().messages_out, "nothing was queued")


@in_world
async def check_bad_subscriptions(world: WireWorld) -> None:
    """A subscription that could break the protocol is refused; wildcards are whole tokens."""
    wire = await world.wire()
    for bad in (*_BAD_EVERYWHERE, b"a.>.b", b"a*", b"a>", b"*.a*"):
        refused(LocalProtocolError, partial(wire.subscribe, bad, ignore), f"subscribe {bad!r}")
    for bad in (b"q q", b"q\r\nPUB", b"q\x00", b"*", b"q" * 200):
        refused(
            LocalProtocolError,
            partial(wire.subscribe, world.subject, ignore, queue=bad),
            f"queue {bad!r}",
        )


@in_world
async def check_bad_headers(world: WireWorld) -> None:
    """A header that could break the block is refused; so is a block of another make."""
    wire = await world.wire()
    for fields in (
        {"a\r\nb": "c"},
        {"a:b": "c"},
        {"": "c"},
        {"a b": "c"},
        {"ä": "c"},
        {"a": "b\r\nc: d"},
        {"a": "b\nc"},
        {"a": "b\rc"},
        {"a": "\x00"},
        {"a": " b"},
        {"a": "\ud800"},
        {"a": "b" * 70_000},
    ):
        refused(LocalProtocolError, partial(format_headers, fields), f"{fields!r:.80}")
    for block in (b"A: b\r\n\r\n", b"NATS/1.0\r\nA: b", b"x"):
        refused(
            LocalProtocolError,
            partial(wire.publish, world.subject, b"", headers=block),
            f"block {block!r}",
        )


@in_world
async def check_too_large(world: WireWorld) -> None:
    """Payload and headers together over the limit are refused, and the wire lives on."""
    wire = await world.wire()
    got: list[bytes] = []
    wire.subscribe(world.subject, lambda message: got.append(message.payload))
    block, size_max = format_headers({"A": "b"}), wire.payload_bytes_max
    for payload, headers in ((bytes(size_max + 1), b""), (bytes(size_max), block)):
        error = refused(
            PayloadTooLargeError,
            partial(wire.publish, world.subject, payload, headers=headers),
            "too large",
        )
        equal(size_max, error.size_bytes_max, "the error tells the limit")
        refused(
            PayloadTooLargeError,
            partial(wire.request, world.subject, payload, headers=headers, deadline_s=world.soon()),
            "too large",
        )
    wire.publish(world.subject, bytes(size_max - len(block)), headers=block)
    await world.settle(wire)
    equal([size_max - len(block)], [len(payload) for payload in got], "the largest arrives")


@in_world
async def check_receiver_raises(world: WireWorld) -> None:
    """A receiver that raises is counted and reported; everything else goes on."""
    wire = await world.wire()
    errors: list[Exception] = []
    got: list[bytes] = []

    def receive(message: Message) -> None:
        if message.payload == b"cancel":
            raise asyncio.CancelledError
        if message.payload == b"raise":
            raise ValueError("no")
        got.append(message.payload)

    wire.on_error(errors.append)
    wire.subscribe(world.subject, receive)
    for payload in (b"raise", b"one", b"cancel", b"two"):
        wire.publish(world.subject, payload)
    await world.settle(wire)
    equal([b"one", b"two"], got, "the others arrive")
    equal(2, len(errors), "reported")
    equal(2, wire.statistics().dropped["receiver_error"], "counted")


@in_world
async def check_unsubscribe(world: WireWorld) -> None:
    """Nothing is delivered after `unsubscribe`, not even what is on its way."""
    wire = await world.wire()
    got: list[bytes] = []
    subscription = await world.listen(
        wire, world.subject, lambda message: got.append(message.payload)
    )
    wire.publish(world.subject, b"one")
    await world.settle(wire)
    wire.publish(world.subject, b"two")
    subscription.unsubscribe()
    subscription.unsubscribe()
    wire.publish(world.subject, b"three")
    await world.settle(wire)
    equal([b"one"], got, "stopped at once")
    equal(world.subject, subscription.subject, "the subscription knows its subject")


@in_world
async def check_unsubscribe_inside(world: WireWorld) -> None:
    """A receiver may end its own subscription."""
    wire = await world.wire()
    got: list[bytes] = []

    def receive(message: Message) -> None:
        got.append(message.payload)
        subscription.unsubscribe()

    subscription = await world.listen(wire, world.subject, receive)
    for number in range(10):
        wire.publish(world.subject, b"%d" % number)
    await world.settle(wire)
    equal([b"0"], got, "one message only")


@in_world
async def check_drain(world: WireWorld) -> None:
    """`drain` delivers what is under way, then nothing more."""
    one, two = await world.wire(), await world.wire()
    got: list[bytes] = []
    subscription = await world.listen(
        two, world.subject, lambda message: got.append(message.payload)
    )
    sent = [b"%d" % number for number in range(100)]
    for payload in sent:
        one.publish(world.subject, payload)
    await one.flush()
    await subscription.drain()
    await subscription.drain()
    equal(sent, got, "what was under way has arrived")
    one.publish(world.subject, b"late")
    await world.settle(one, two)
    equal(sent, got, "nothing more comes")


MESSAGE_CHECKS = (
    check_message_arrives,
    check_any_payload,
    check_order,
    check_wildcards,
    check_copies,
    check_queue_group,
    check_queue_groups_apart,
    check_headers,
    check_bad_subjects,
    check_bad_subscriptions,
    check_bad_headers,
    check_too_large,
    check_receiver_raises,
    check_unsubscribe,
    check_unsubscribe_inside,
    check_drain,
)
