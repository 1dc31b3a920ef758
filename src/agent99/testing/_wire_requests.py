"""The wire's contract: requests, inboxes, deadlines, and the end."""

from __future__ import annotations

import asyncio

from agent99.errors import ClosedError, DeadlineExceededError, NoRespondersError
from agent99.testing._wire_world import WireWorld, equal, failed, holds, ignore, in_world, refused
from agent99.wire import (
    ConnectionState,
    Message,
    Wire,
    format_headers,
    is_no_responders,
    parse_headers,
)

_LATE_S_MAX = 0.1  # how long after its deadline a request may end, on an idle loop


@in_world
async def check_request(world: WireWorld) -> None:
    """A request gets its answer, headers both ways."""
    one, two = await world.wire(b"asker"), await world.wire(b"answerer")

    def answer(message: Message) -> None:
        name = parse_headers(message.headers).fields["Name"]
        two.publish(message.reply, message.payload[::-1], headers=format_headers({"Hi": name}))

    await world.listen(two, world.subject, answer, queue=b"q")
    block = format_headers({"Name": "Ada"})
    asked = [
        one.request(world.subject, b"%d-" % number, headers=block, deadline_s=world.soon())
        for number in range(100)
    ]
    answers = await asyncio.gather(*asked)
    equal([b"%d-" % number for number in range(100)], [m.payload[::-1] for m in answers], "each")
    equal({"Hi": "Ada"}, parse_headers(answers[0].headers).fields, "headers of the answer")


@in_world
async def check_first_answer(world: WireWorld) -> None:
    """The first answer counts; another one is a late answer."""
    one, two = await world.wire(), await world.wire()

    def answer_twice(message: Message) -> None:
        two.publish(message.reply, b"first")
        two.publish(message.reply, b"second")

    await world.listen(two, world.subject, answer_twice)
    answer = await one.request(world.subject, b"", deadline_s=world.soon())
    await world.settle(two, one)
    equal(b"first", answer.payload, "the first")
    equal(1, one.statistics().dropped["late_answer"], "the second is counted")


@in_world
async def check_no_responders(world: WireWorld) -> None:
    """A request to nobody fails at once, and says which subject."""
    wire = await world.wire()
    started = world.now()
    asked = wire.request(world.subject, b"", deadline_s=world.soon())
    error = await failed(NoRespondersError, asked, "nobody listens")
    equal(world.subject.decode(), error.subject, "the subject")
    holds(world.now() - started < 1.0, "at once")


@in_world
async def check_no_responders_notice(world: WireWorld) -> None:
    """An open inbox gets the notice that nobody listens; an answer with a status is no notice."""
    wire = await world.wire()
    got: list[Message] = []
    inbox = wire.open_inbox(got.append)
    wire.publish(world.subject, b"", reply=inbox)
    await world.settle(wire)
    wire.publish(inbox, b"body", headers=b"NATS/1.0 503\r\n\r\n")
    wire.publish(inbox, b"", headers=b"NATS/1.0 404 Nothing\r\n\r\n")
    await world.settle(wire)
    equal([True, False, False], [is_no_responders(message) for message in got], "the notice")
    equal(404, parse_headers(got[2].headers).status, "another status")


@in_world
async def check_deadline(world: WireWorld) -> None:
    """A request without an answer ends at its deadline, not before and not much later."""
    one, two = await world.wire(), await world.wire()
    asked: list[Message] = []
    told: list[tuple[str, int]] = []
    one.on_drop(lambda reason, count: told.append((reason, count)))
    await world.listen(two, world.subject, asked.append)
    deadline = world.soon(0.15)
    request = one.request(world.subject, b"", deadline_s=deadline)
    await failed(DeadlineExceededError, request, "no answer")
    late_s = world.now() - deadline
    holds(0 <= late_s < _LATE_S_MAX, f"ended {late_s * 1000:.0f} ms after the deadline")
    two.publish(asked[0].reply, b"too late")
    await world.settle(two, one)
    equal(1, one.statistics().dropped["late_answer"], "the late answer is counted")
    equal([("late_answer", 1)], told, "and told")


@in_world
async def check_past_deadline(world: WireWorld) -> None:
    """A deadline that has passed already ends the request all the same."""
    wire = await world.wire()
    await world.listen(wire, world.subject, ignore)
    request = wire.request(world.subject, b"", deadline_s=world.soon(-1.0))
    await failed(DeadlineExceededError, request, "passed before")


@in_world
async def check_cancelled_request(world: WireWorld) -> None:
    """A cancelled request is forgotten; its answer is a late one."""
    one, two = await world.wire(), await world.wire()
    await world.listen(two, world.subject, lambda message: two.publish(message.reply, b""))
    request = one.request(world.subject, b"", deadline_s=world.soon())
    request.cancel()
    await failed(asyncio.CancelledError, request, "cancelled")
    await world.settle(one, two, one)
    equal(1, one.statistics().dropped["late_answer"], "counted")
    answer = await one.request(world.subject, b"", deadline_s=world.soon())
    equal(b"", answer.payload, "the wire goes on")


@in_world
async def check_inbox(world: WireWorld) -> None:
    """An inbox takes every answer until it is closed, and belongs to its sender."""
    one, two = await world.wire(b"asker"), await world.wire()
    got: list[bytes] = []

    def answer_thrice(message: Message) -> None:
        for number in range(3):
            two.publish(message.reply, b"%d" % number)

    await world.listen(two, world.subject, answer_thrice)
    inbox = one.open_inbox(lambda message: got.append(message.payload))
    holds(inbox.startswith(b"_INBOX.asker."), "the inbox names the sender")
    equal(4, len(inbox.split(b".")), "and a connection, and a token")
    holds(inbox != one.open_inbox(ignore), "a fresh one each time")
    one.publish(world.subject, b"", reply=inbox)
    await world.until(lambda: len(got) == 3, "three answers")
    one.close_inbox(inbox)
    one.close_inbox(inbox)
    one.publish(world.subject, b"", reply=inbox)
    await world.until(lambda: one.statistics().dropped["late_answer"] == 3, "late ones counted")
    equal([b"0", b"1", b"2"], got, "in order, and nothing after the end")


@in_world
async def check_flush(world: WireWorld) -> None:
    """After `flush` the broker knows the subscriptions; it may be cancelled and goes on."""
    one, two = await world.wire(), await world.wire()
    got: list[Message] = []
    one.subscribe(world.subject, got.append)
    given_up = asyncio.ensure_future(one.flush())
    await asyncio.wait([given_up], timeout=0)
    given_up.cancel()
    await one.flush()
    two.publish(world.subject, b"")
    await two.flush()
    await one.flush()
    equal(1, len(got), "subscribed in time")
    await one.wait_writable()
    await failed(asyncio.CancelledError, given_up, "given up")


@in_world
async def check_statistics(world: WireWorld) -> None:
    """Messages and bytes are counted in both directions."""
    one, two = await world.wire(), await world.wire()
    await world.listen(two, world.subject, ignore)
    for _ in range(10):
        one.publish(world.subject, bytes(100))
    await world.settle(one, two)
    sent, received = one.statistics(), two.statistics()
    equal((10, 10), (sent.messages_out, received.messages_in), "messages")
    holds(sent.bytes_out >= 1_000 and received.bytes_in >= 1_000, "bytes")
    equal((0, 0), (sent.pending_bytes, sent.reconnects), "nothing waits")
    equal(
        {"expired": 0, "late_answer": 0, "receiver_error": 0, "unsubscribed": 0},
        sent.dropped,
        "no drops",
    )


@in_world
async def check_close(world: WireWorld) -> None:
    """`aclose` lets out what was queued, ends requests, and refuses everything after it."""
    one, two = await world.wire(), await world.wire()
    got: list[bytes] = []
    states: list[ConnectionState] = []
    await world.listen(two, world.subject, lambda message: got.append(message.payload))
    await world.listen(one, world.subject + b".other", ignore)
    one.on_state(states.append)
    equal(ConnectionState.CONNECTED, one.state, "before")
    pending = one.request(world.subject + b".other", b"", deadline_s=world.soon())
    one.publish(world.subject, b"last words")
    await asyncio.gather(one.aclose(), one.aclose())
    await one.aclose()
    await failed(ClosedError, pending, "a pending request")
    equal([ConnectionState.DRAINING, ConnectionState.CLOSED], states, "states")
    await world.until(lambda: got == [b"last words"], "what was queued arrives")
    await _check_closed(world, one)


@in_world
async def check_abort(world: WireWorld) -> None:
    """`abort` ends everything at once, an `aclose` under way too, and may come twice."""
    one, two = await world.wire(), await world.wire()
    states: list[ConnectionState] = []
    await world.listen(two, world.subject, ignore)
    one.on_state(states.append)
    pending = one.request(world.subject, b"", deadline_s=world.soon())
    flushing = asyncio.ensure_future(one.flush())
    await asyncio.sleep(0)
    one.abort()
    one.abort()
    equal([ConnectionState.CLOSED], states, "closed when it returns")
    await failed(ClosedError, pending, "a pending request")
    await failed(ClosedError, flushing, "a flush")
    await one.aclose()
    await _check_closed(world, one)
    closing = asyncio.ensure_future(two.aclose())
    await asyncio.sleep(0)
    two.abort()
    await closing
    equal(ConnectionState.CLOSED, two.state, "closed while it was closing")


async def _check_closed(world: WireWorld, wire: Wire) -> None:
    for call in (
        lambda: wire.publish(world.subject, b""),
        lambda: wire.request(world.subject, b"", deadline_s=world.soon()),
        lambda: wire.subscribe(world.subject, ignore),
        lambda: wire.open_inbox(ignore),
    ):
        refused(ClosedError, call, "after aclose")
    await failed(ClosedError, wire.flush(), "flush after aclose")
    await failed(ClosedError, wire.wait_writable(), "wait_writable after aclose")


@in_world
async def check_listeners_raise(world: WireWorld) -> None:
    """A listener that raises harms nobody but itself."""
    wire = await world.wire()
    told: list[object] = []

    def raise_error(_state: object) -> None:
        raise ValueError("a listener")

    wire.on_state(raise_error)
    wire.on_state(told.append)
    wire.on_error(told.append)
    await wire.aclose()
    kinds = [type(one).__name__ for one in told]
    equal(["ValueError", "ConnectionState"] * 2, kinds, "the others are told")


REQUEST_CHECKS = (
    check_request,
    check_first_answer,
    check_no_responders,
    check_no_responders_notice,
    check_deadline,
    check_past_deadline,
    check_cancelled_request,
    check_inbox,
    check_flush,
    check_statistics,
    check_close,
    check_abort,
    check_listeners_raise,
)
