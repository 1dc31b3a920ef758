"""Every message that arrives ends in exactly one of: a reply, an error reply, a counted drop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from agent99.dispatch import Call, Context, current_context, find_context
from agent99.envelope import Header, decode_error, decode_header, decode_user_headers
from agent99.errors import (
    BadRequestError,
    DeadlineExceededError,
    Failure,
    NoAgentError,
    OverloadedError,
    PausedError,
    UsageError,
)
from agent99.observe import RequestFinished
from agent99.wire import Message
from tests.dispatch.conftest import Bench

Make = Callable[..., Bench]


async def settle() -> None:
    """Let tasks that are ready take their steps."""
    for _ in range(5):
        await asyncio.sleep(0)


async def echo(payload: Any) -> Any:
    """Answer with what came."""
    return payload


async def forever(_payload: Any) -> None:
    """Never return."""
    await asyncio.Event().wait()


async def test_a_request_is_answered_with_its_result(make_bench: Make) -> None:
    """The answer goes to the reply subject, carries the request's id, and the instance's own."""
    bench = make_bench()
    bench.receive(bench.offer(echo), bench.message({"a": 1}, reply=b"_INBOX.alice.c.t"))
    await settle()
    [(subject, data)] = bench.wire.sent
    header = decode_header(data)
    assert subject == b"_INBOX.alice.c.t"
    assert (header.type, header.outcome, header.event_uuid) == ("response", "ok", "e1")
    assert (header.from_uuid, header.to_uuid) == ("instance-1", "caller")
    assert bench.answers() == [{"a": 1}]


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b"{", "$"),
        (b"[]", "$"),
        (b'{"header":{"type":"request"}}', "$.header"),
        (b'{"a":"\xff"}', "$"),
    ],
)
async def test_what_cannot_be_read_is_answered_with_path_and_rule(
    make_bench: Make, data: bytes, path: str
) -> None:
    """A malformed message gets an error reply, and costs nothing else."""
    bench = make_bench()
    route = bench.offer(echo)
    bench.receive(route, bench.message(data=data))
    bench.receive(route, bench.message({"still": "alive"}))
    await settle()
    refused, fine = bench.answers()
    assert isinstance(refused, BadRequestError)
    assert refused.path == path
    assert fine == {"still": "alive"}


@pytest.mark.parametrize("fields", [{"type": "response"}, {"type": "event"}, {"wire": 2}])
async def test_another_kind_or_version_is_refused(make_bench: Make, fields: dict[str, Any]) -> None:
    """Only requests of the version that is spoken here are taken on."""
    bench = make_bench()
    bench.receive(bench.offer(echo), bench.message(**fields))
    await settle()
    assert bench.codes() == ["BAD_REQUEST"]


BEYOND = 2**63


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[(field, -1) for field in ("timestamp", "ttl_us", "deadline")],
        *[(field, BEYOND) for field in ("timestamp", "ttl_us", "deadline", "attempt")],
        *[(field, 10**400) for field in ("timestamp", "ttl_us", "deadline", "attempt")],
        ("from_uuid", "x" * 129),
        ("to_uuid", "x" * 257),
        ("event_uuid", "x" * 129),
        ("event_uuid", ""),
        *[(name, "x" * 257) for name in ("operation", "traceparent", "idempotency_key")],
    ],
    ids=lambda value: str(value)[:12],
)
async def test_a_header_beyond_its_bounds_is_refused(
    make_bench: Make, field: str, value: int | str
) -> None:
    """Each field of the header has a bound, and the answer names the one that is broken."""
    bench = make_bench()
    header = {"type": "request", "from_uuid": "a", "to_uuid": "b", "event_uuid": "e1"}
    data = json.dumps({"header": {**header, "timestamp": 1, field: value}}).encode()
    bench.receive(bench.offer(echo), bench.message(data=data))
    await settle()
    [error] = bench.answers()
    assert isinstance(error, BadRequestError)
    assert error.path == f"$.header.{field}"


async def test_the_largest_times_are_taken(make_bench: Make) -> None:
    """At its bound a time is a time: the instance's own bounds hold then."""
    bench = make_bench()
    largest = {"timestamp": BEYOND - 1, "ttl_us": BEYOND - 1, "deadline": BEYOND - 1}
    header = {"type": "request", "from_uuid": "a", "to_uuid": "b", "event_uuid": "e1", **largest}
    bench.receive(bench.offer(echo), bench.message(data=json.dumps({"header": header}).encode()))
    await settle()
    assert bench.codes() == ["OK"]


async def test_a_sender_that_is_no_text_is_answered_like_any_other(make_bench: Make) -> None:
    """Whoever may publish there may call itself anything; no permission rests on this text."""
    bench, seen = make_bench(), []

    async def work(context: Context, _payload: Any) -> None:
        seen.append(context.sender)
        await asyncio.Event().wait()

    route = bench.offer(work, with_context=True)
    message = bench.message()
    sender = b"\xff\xfe"
    bench.receive(route, Message(b"a99.m.cap.c.work." + sender, b"r", message.payload))
    await settle()
    assert seen == ["\ufffd\ufffd"]
    bench.dispatcher.cancel(sender, ["e1"])
    await settle()
    assert bench.dispatcher.statistics().in_flight == 0


async def test_a_payload_that_breaks_the_schema_never_reaches_the_handler(make_bench: Make) -> None:
    """Validation happens in the decode, and the error names the path."""
    bench, ran = make_bench(), []

    async def work(payload: Any) -> None:
        ran.append(payload)

    bench.receive(bench.offer(work, body=dict[str, int]), bench.message({"a": "text"}))
    await settle()
    [error] = bench.answers()
    assert error.code == "BAD_REQUEST"
    assert error.details["path"] == "$[...]"
    assert ran == []


class Panic(BaseException):
    """What extensions raise that do not want to be caught."""


def raising(error: BaseException) -> Callable[[Any], Any]:
    """Return a handler that raises."""

    async def work(_payload: Any) -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("raised", "code", "details"),
    [
        (Failure("no", code="INVENTORY_ERROR", details={"n": 1}), "INVENTORY_ERROR", {"n": 1}),
        (ValueError("bad"), "HANDLER_ERROR", {"exception": "ValueError"}),
        (UsageError("wrong call"), "HANDLER_ERROR", {"exception": "UsageError"}),
        (SystemExit(3), "HANDLER_ERROR", {"exception": "SystemExit"}),
        (asyncio.CancelledError(), "HANDLER_ERROR", {}),
        (NoAgentError("nobody"), "HANDLER_ERROR", {"cause": "NO_AGENT"}),
        (OverloadedError("full"), "HANDLER_ERROR", {"cause": "OVERLOADED"}),
        (Failure("full", code="OVERLOADED"), "HANDLER_ERROR", {"cause": "OVERLOADED"}),
        (RecursionError("deep"), "HANDLER_ERROR", {"exception": "RecursionError"}),
        (GeneratorExit(), "HANDLER_ERROR", {"exception": "GeneratorExit"}),
        (Panic("rust"), "HANDLER_ERROR", {"exception": "Panic"}),
        (ExceptionGroup("many", [ValueError()]), "HANDLER_ERROR", {"exception": "ExceptionGroup"}),
    ],
)
async def test_whatever_a_handler_raises_is_an_error_to_the_caller(
    make_bench: Make, raised: BaseException, code: str, details: dict[str, Any]
) -> None:
    """A `Failure` is its own word; all else is the handler's error, which says that it did run."""
    bench = make_bench()
    route = bench.offer(raising(raised))
    bench.receive(route, bench.message())
    bench.receive(bench.offer(echo, operation="echo"), bench.message({"a": 1}))
    await settle()
    error, fine = bench.answers()
    assert (error.code, error.details, error.retryable) == (code, details, False)
    assert fine == {"a": 1}
    assert bench.dispatcher.statistics().in_flight == 0


@pytest.mark.parametrize("result", [object(), {"a": object()}, "\ud800"])
async def test_a_result_that_json_cannot_carry_is_the_handlers_error(
    make_bench: Make, result: Any
) -> None:
    """The caller learns that the answer could not be written."""
    bench = make_bench()

    async def work(_payload: Any) -> Any:
        return result

    bench.receive(bench.offer(work), bench.message())
    await settle()
    assert bench.codes() == ["HANDLER_ERROR"]


async def test_a_result_of_another_type_is_the_handlers_error(make_bench: Make) -> None:
    """What is returned is held against what is declared."""
    bench = make_bench()
    bench.receive(bench.offer(echo, answer=int), bench.message({"a": 1}))
    await settle()
    assert bench.codes() == ["HANDLER_ERROR"]


async def test_a_result_too_large_for_the_server_is_the_handlers_error(make_bench: Make) -> None:
    """It is not sent, since the server would close the connection."""
    bench = make_bench()

    async def work(_payload: Any) -> str:
        return "x" * bench.wire.payload_bytes_max

    bench.receive(bench.offer(work), bench.message())
    await settle()
    assert bench.codes() == ["HANDLER_ERROR"]
    assert "limit" in bench.answers()[0].message


async def test_a_handler_that_never_returns_is_ended_at_the_deadline(make_bench: Make) -> None:
    """The caller's time is authoritative; the drop is counted, and the place is free again."""
    bench = make_bench()
    bench.receive(bench.offer(forever), bench.message(ttl_us=500_000))
    await bench.clock.advance(0.4)
    assert bench.dispatcher.statistics().in_flight == 1
    await bench.clock.advance(0.2)
    await settle()
    assert bench.dispatcher.statistics().in_flight == 0
    assert bench.dropped == {"deadline": 1}
    assert bench.wire.sent == []


async def test_a_caller_that_names_no_time_gets_the_longest(make_bench: Make) -> None:
    """Ruby peers name none: the instance's own bound ends the operation."""
    bench = make_bench(timeout_s_max=10)
    route = bench.offer(forever)
    bench.receive(route, bench.message())
    bench.receive(route, bench.message(ttl_us=3_600_000_000))
    await bench.clock.advance(10.1)
    await settle()
    assert bench.dropped == {"deadline": 2}


async def test_a_handler_that_swallows_its_cancellation_hurts_nobody(make_bench: Make) -> None:
    """Its late result is not sent, and it is counted once."""
    bench, finish = make_bench(), asyncio.Event()

    async def stubborn(_payload: Any) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await finish.wait()
        return "late"

    bench.receive(bench.offer(stubborn), bench.message(ttl_us=100_000))
    await bench.clock.advance(0.2)
    await settle()
    assert bench.dropped == {"deadline": 1}
    finish.set()
    await settle()
    assert bench.wire.sent == []
    assert bench.dropped == {"deadline": 1}
    assert bench.dispatcher.statistics().in_flight == 0


async def test_a_request_long_past_its_deadline_is_dropped_on_arrival(make_bench: Make) -> None:
    """What comes more than 2 s past its deadline is not run; less than that may be skew."""
    bench = make_bench()
    route, now_us = bench.offer(echo), bench.clock.wall_us()
    bench.receive(route, bench.message(deadline=now_us - 2_100_000))
    bench.receive(route, bench.message(deadline=now_us - 1_900_000))
    await settle()
    assert bench.dropped == {"stale": 1}
    assert bench.codes() == ["OK"]


async def test_beyond_its_bounds_an_instance_says_overloaded_at_once(make_bench: Make) -> None:
    """So many run, so many wait, the rest is refused before anything else ends."""
    bench = make_bench(concurrency_max=2, waiting_max=3)
    route = bench.offer(forever)
    for _ in range(7):
        bench.receive(route, bench.message())
    await settle()
    statistics = bench.dispatcher.statistics()
    assert (statistics.in_flight, statistics.waiting) == (2, 3)
    assert (statistics.requests, statistics.errors, statistics.refused) == (2, 0, 2)
    assert bench.codes() == ["OVERLOADED", "OVERLOADED"]
    assert bench.answers()[0].retryable
    bench.dispatcher.stop()


async def test_what_waits_runs_in_order_when_a_place_is_free(make_bench: Make) -> None:
    """First come, first served, each once."""
    bench, gates = make_bench(concurrency_max=1, waiting_max=10), asyncio.Event()

    async def gated(payload: Any) -> Any:
        await gates.wait()
        return payload

    route = bench.offer(gated)
    for n in range(5):
        bench.receive(route, bench.message({"n": n}))
    gates.set()
    await settle()
    await settle()
    assert [answer["n"] for answer in bench.answers()] == [0, 1, 2, 3, 4]


async def test_a_long_queue_of_quick_work_does_not_recurse(make_bench: Make) -> None:
    """Handlers that end in their first step are worked off in a loop, however many wait."""
    bench, gate = make_bench(concurrency_max=1, waiting_max=1_000), asyncio.Event()

    async def first(_payload: Any) -> None:
        await gate.wait()

    bench.receive(bench.offer(first, operation="first"), bench.message())
    route = bench.offer(echo)
    for _ in range(1_000):
        bench.receive(route, bench.message())
    gate.set()
    await bench.dispatcher.wait_idle(5)
    assert len(bench.wire.sent) == 1_001


async def test_what_expires_while_it_waits_is_never_run(make_bench: Make) -> None:
    """A request whose caller has gone gives its place in the queue to the next."""
    bench, ran, gate = make_bench(concurrency_max=1), [], asyncio.Event()

    async def work(payload: Any) -> None:
        ran.append(payload["n"])
        await gate.wait()

    route = bench.offer(work)
    bench.receive(route, bench.message({"n": 0}))
    bench.receive(route, bench.message({"n": 1}, ttl_us=100_000))
    bench.receive(route, bench.message({"n": 2}))
    await bench.clock.advance(0.2)
    gate.set()
    await settle()
    await settle()
    assert ran == [0, 2]
    assert bench.dropped == {"deadline": 1}


async def test_a_message_that_nobody_can_be_answered_is_dropped(make_bench: Make) -> None:
    """A request without a reply subject is counted, not run."""
    bench, ran = make_bench(), []

    async def work(payload: Any) -> None:
        ran.append(payload)

    bench.receive(bench.offer(work), bench.message(reply=b""))
    await settle()
    assert (ran, bench.dropped) == ([], {"no_reply_subject": 1})


@pytest.mark.parametrize(
    "reply",
    [b"$JS.API.STREAM.DELETE.S", b"_INBOX.bob.c.t", b"_INBOX.alicex.c.t", b"a99.m.ctl._all"],
)
@pytest.mark.parametrize("data", [None, b"{"])
async def test_with_permissions_on_a_forged_reply_subject_is_dropped(
    make_bench: Make, reply: bytes, data: bytes | None
) -> None:
    """An answer goes only to an inbox of the sender that the subject proves, errors included."""
    bench = make_bench(verify_senders=True)
    route = bench.offer(echo)
    bench.receive(route, bench.message(reply=reply, data=data))
    bench.receive(route, bench.message())
    await settle()
    assert bench.dropped == {"forged_reply": 1}
    assert bench.codes() == ["OK"]


async def test_an_answer_that_cannot_be_sent_is_counted(make_bench: Make) -> None:
    """A full buffer costs the answer, not the agent."""
    bench = make_bench()
    route = bench.offer(echo)
    bench.wire.is_full = True
    bench.receive(route, bench.message())
    await settle()
    assert bench.dropped == {"answer_not_sent": 1}
    assert bench.dispatcher.statistics().in_flight == 0


async def test_answers_that_cannot_be_sent_are_no_flood_of_log_lines(
    make_bench: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is counted; the log has the 1st, 2nd, 4th, 8th, and so on."""
    bench = make_bench()
    route = bench.offer(echo)
    bench.wire.is_full = True
    for _ in range(100):
        bench.receive(route, bench.message())
        await settle()
    assert bench.dropped == {"answer_not_sent": 100}
    assert 7 == sum("could not be sent" in line.getMessage() for line in caplog.records)


async def test_who_gives_up_while_waiting_leaves_the_queue(make_bench: Make) -> None:
    """A queue of the departed does not turn the patient away."""
    bench = make_bench(concurrency_max=1, waiting_max=2)
    route = bench.offer(forever)
    bench.receive(route, bench.message())
    for _ in range(2):
        bench.receive(route, bench.message(ttl_us=100_000))
    await bench.clock.advance(0.2)
    assert bench.dispatcher.statistics().waiting == 0
    bench.receive(route, bench.message())
    assert bench.codes() == []
    bench.dispatcher.stop()


async def test_a_paused_instance_says_so(make_bench: Make) -> None:
    """It did not run, and may be tried again."""
    bench = make_bench()
    route = bench.offer(echo)
    bench.dispatcher.refusal = "paused"
    bench.receive(route, bench.message())
    await settle()
    [error] = bench.answers()
    assert isinstance(error, PausedError)
    assert error.retryable
    assert error.details == {"state": "paused"}


async def test_a_caller_cancels_only_its_own_requests(make_bench: Make) -> None:
    """A cancellation is believed of the sender that the subject names, and of nobody else."""
    bench = make_bench()
    route = bench.offer(forever)
    bench.receive(route, bench.message(event_uuid="mine", sender="alice"))
    await settle()
    bench.dispatcher.cancel(b"bob", ["mine"])
    await settle()
    assert bench.dispatcher.statistics().in_flight == 1
    bench.dispatcher.cancel(b"alice", ["mine", "unknown"])
    await settle()
    assert bench.dispatcher.statistics().in_flight == 0
    assert bench.dropped == {"cancelled": 1}


async def test_stopping_tells_every_caller(make_bench: Make) -> None:
    """What is unfinished when an instance stops ends with an error, running or waiting."""
    bench = make_bench(concurrency_max=1)
    route = bench.offer(forever)
    bench.receive(route, bench.message())
    bench.receive(route, bench.message())
    assert not await _idle_within(bench, 1.0)
    bench.dispatcher.stop()
    await settle()
    assert bench.codes() == ["CANCELLED", "CANCELLED"]
    assert bench.dispatcher.statistics().in_flight == 0
    assert await bench.dispatcher.wait_idle(1)


async def _idle_within(bench: Bench, delay_s: float) -> bool:
    waiting = asyncio.ensure_future(bench.dispatcher.wait_idle(delay_s))
    await settle()
    await bench.clock.advance(delay_s + 0.1)
    return await waiting


async def test_the_operation_in_the_payload_chooses_only_for_the_default_one(
    make_bench: Make,
) -> None:
    """Ruby peers name it there; where the subject names an operation, the payload is just data."""
    bench = make_bench()

    async def default(_payload: Any) -> str:
        return "default"

    async def refund(_payload: Any) -> str:
        return "refund"

    first = bench.offer(default, operation="request")
    second = bench.offer(refund, operation="refund")
    bench.receive(first, bench.message({"action": "REFUND"}))
    bench.receive(first, bench.message({"operation": "refund"}))
    bench.receive(first, bench.message({"action": "unknown"}))
    bench.receive(first, bench.message({"action": 3}))
    bench.receive(second, bench.message({"action": "request"}))
    await settle()
    assert bench.answers() == ["refund", "refund", "default", "default", "refund"]


async def test_an_operation_that_is_not_there_is_named(make_bench: Make) -> None:
    """The error lists what there is."""
    bench = make_bench()
    bench.offer(echo, operation="echo")
    bench.dispatcher.receive_by_subject(bench.message(operation="ehco"))
    bench.dispatcher.receive_by_subject(bench.message({"action": "nope"}, operation="request"))
    bench.dispatcher.receive_by_subject(bench.message({"a": 1}, operation="echo"))
    await settle()
    unknown, none, fine = bench.answers()
    assert unknown.code == none.code == "UNKNOWN_OPERATION"
    assert unknown.details == {"operation": "ehco", "operations": ["echo"]}
    assert fine == {"a": 1}


async def test_the_context_belongs_to_one_request(make_bench: Make) -> None:
    """Two requests in flight see their own headers, and set those of their own answers."""
    bench, gate = make_bench(), asyncio.Event()

    async def work(context: Context, _payload: Any) -> str:
        await gate.wait()
        assert current_context() is context
        context.header["seen"] = context.header["user_agent"]
        return context.header["user_agent"]

    route = bench.offer(work, with_context=True)
    for agent in ("one", "two"):
        bench.receive(route, bench.message(headers={"user_agent": agent}))
    gate.set()
    await settle()
    assert bench.answers() == ["one", "two"]
    assert [decode_user_headers(data)["seen"] for _, data in bench.wire.sent] == ["one", "two"]
    assert find_context() is None


async def test_a_header_that_cannot_be_sent_is_the_handlers_error(make_bench: Make) -> None:
    """A bad name set on the answer is refused by name."""
    bench = make_bench()

    async def work(context: Context, _payload: Any) -> None:
        context.header["event_uuid"] = "mine"

    bench.receive(bench.offer(work, with_context=True), bench.message())
    await settle()
    [error] = bench.answers()
    assert error.code == "HANDLER_ERROR"
    assert "event_uuid" in error.message


async def test_a_context_tells_what_a_handler_may_know(make_bench: Make) -> None:
    """Who asks, for how long, under which key."""
    bench, seen = make_bench(), []

    async def work(context: Context, _payload: Any) -> None:
        seen.append((context.sender, context.operation, context.idempotency_key))
        seen.append(round(context.remaining_s(), 3))
        del context.header["nothing"]

    message = bench.message(ttl_us=1_500_000, idempotency_key="k1")
    bench.receive(bench.offer(work, with_context=True), message)
    await settle()
    assert seen == [("alice", "work", "k1"), 1.5]
    assert bench.codes() == ["HANDLER_ERROR"]
    assert "e1" in repr(Context("w", "s", "i", 1.0, bench.clock, {}, _header(), None, None, None))


def _header() -> Header:
    return Header(type="request", from_uuid="a", to_uuid="b", event_uuid="e1", timestamp=1)


def test_outside_of_an_operation_there_is_no_context() -> None:
    """Asking for it is a mistake with a sentence."""
    with pytest.raises(UsageError, match="not inside an operation"):
        current_context()


async def test_middleware_wraps_the_handler_the_first_outermost(make_bench: Make) -> None:
    """Each layer may act before, after, or instead."""
    bench, order = make_bench(), []

    def layer(name: str) -> Any:
        async def run(context: Context, payload: Any, proceed: Any) -> Any:
            order.append(f"{name}>")
            if payload.get("stop") == name:
                raise Failure("stopped", code=name.upper())
            result = await proceed(context, payload)
            order.append(f"<{name}")
            return result

        return run

    route = bench.offer(echo, middleware=(layer("a"), layer("b")))
    bench.receive(route, bench.message({}))
    bench.receive(route, bench.message({"stop": "b"}))
    await settle()
    assert order == ["a>", "b>", "<b", "<a", "a>", "b>"]
    assert bench.codes() == ["OK", "B"]


async def test_an_event_is_answered_by_nobody(make_bench: Make) -> None:
    """A handler's error is counted; an event that cannot be read is a counted drop."""
    bench, heard = make_bench(kind="event"), []

    async def work(context: Context, payload: Any) -> None:
        heard.append((context.operation, context.sender, payload))
        raise ValueError("broken")

    route = bench.offer(work, with_context=True)
    message = bench.message({"a": 1})
    subject = b"a99.m.evt.alice.order.placed"
    bench.receive(route, Message(subject, b"_INBOX.x", message.payload))
    bench.receive(route, Message(subject, b"_INBOX.x", b"{"))
    await settle()
    assert heard == [("order.placed", "alice", {"a": 1})]
    assert bench.wire.sent == []
    assert bench.dropped == {"bad_request": 1}
    assert bench.dispatcher.statistics().errors == 1


def submit(bench: Bench, route: Any, body: bytes = b"{}", ttl_s: float = 5) -> Call:
    """Make a request within the process."""
    return bench.dispatcher.submit(
        route,
        _header(),
        body,
        sender="alice",
        deadline_s=bench.clock.monotonic_s() + ttl_s,
        headers={"user_agent": "x"},
    )


async def test_within_the_process_the_semantics_are_the_same(make_bench: Make) -> None:
    """Decoded, validated, bounded, ended at the deadline: only the broker is left out."""
    bench = make_bench(concurrency_max=1, waiting_max=0)
    route = bench.offer(echo, body=dict[str, int])
    fine = submit(bench, route, b'{"a":1}')
    await bench.dispatcher.wait(fine)
    broken = submit(bench, route, b'{"a":"x"}')
    await bench.dispatcher.wait(broken)
    assert (fine.outcome, fine.answer, broken.outcome) == ("ok", b'{"a":1}', "error")
    assert isinstance(decode_error(broken.answer), BadRequestError)
    slow = submit(bench, bench.offer(forever, operation="slow"), ttl_s=0.5)
    await settle()
    with pytest.raises(OverloadedError):
        submit(bench, route)
    assert slow.outcome is None
    await bench.clock.advance(0.6)
    await bench.dispatcher.wait(slow)
    assert slow.outcome == "error"
    assert isinstance(decode_error(slow.answer), DeadlineExceededError)
    bench.dispatcher.give_up(slow)
    bench.dispatcher.refusal = "paused"
    with pytest.raises(PausedError):
        submit(bench, route)


async def test_a_caller_in_the_process_that_is_cancelled_gives_its_call_up(
    make_bench: Make,
) -> None:
    """The handler is cancelled with whoever waits for it."""
    bench, ended = make_bench(), []

    async def work(_payload: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    call = submit(bench, bench.offer(work))
    waiting = asyncio.ensure_future(bench.dispatcher.wait(call))
    await settle()
    waiting.cancel()
    await settle()
    assert (waiting.cancelled(), call.outcome, ended) == (True, "error", ["cancelled"])


async def test_the_header_of_a_request_in_the_process_is_made_when_it_is_looked_at(
    make_bench: Make,
) -> None:
    """It costs nothing where no handler asks, and is the same however often one does."""
    bench, made = make_bench(), []
    bench.hooks.listen(RequestFinished, lambda record: told.append(record.event_id))
    told: list[str] = []

    class Asked:
        event_id, attempt = "e1", 1
        traceparent: str | None = None

        def header(self) -> Header:
            made.append(1)
            return _header()

    async def work(context: Context, payload: dict[str, Any]) -> list[str]:
        return [context.event_id, context.request.event_uuid] if payload else []

    route = bench.offer(work, with_context=True)
    for body, expected in ((b"{}", b"[]"), (b'{"a":1}', b'["e1","e1"]')):
        call = bench.dispatcher.submit(
            route, Asked(), body, sender="alice", deadline_s=9.0, headers={}
        )
        await bench.dispatcher.wait(call)
        assert call.answer == b'{"result":' + expected + b"}"
    assert (made, told) == ([1], ["e1", "e1"])


class Fragile(msgspec.Struct):
    """A type of the user's whose own check raises what no decoder expects."""

    a: int

    def __post_init__(self) -> None:
        if self.a < 0:
            raise KeyError(self.a)


async def test_a_type_that_raises_costs_its_request_alone(make_bench: Make) -> None:
    """In a payload or in a result: the caller is told, and the place is free again."""
    bench = make_bench(concurrency_max=1, waiting_max=0)
    takes = bench.offer(echo, body=Fragile)

    async def give(payload: dict[str, Any]) -> Any:
        return payload

    gives = bench.offer(give, operation="give", answer=Fragile)
    for route in (takes, gives, takes, gives):
        bench.receive(route, bench.message({"a": -1}))
        await settle()
    assert bench.codes() == ["HANDLER_ERROR"] * 4
    assert bench.dispatcher.statistics().in_flight == 0


async def test_the_counts_say_what_happened(make_bench: Make) -> None:
    """Requests, errors, the last error, time spent, and a readable form."""
    bench = make_bench()
    route = bench.offer(echo, answer=int)
    bench.receive(route, bench.message({"a": 1}))
    await settle()
    statistics = bench.dispatcher.statistics()
    assert (statistics.requests, statistics.errors, statistics.refused) == (1, 1, 0)
    assert statistics.last_error.startswith("HANDLER_ERROR: ")
    for thing in (bench.dispatcher, bench.dispatcher.routes, bench.dispatcher.counts, route):
        assert type(thing).__name__ in repr(thing)
    assert len(bench.dispatcher.routes) == 1
    assert msgspec.to_builtins(statistics)["in_flight"] == 0
