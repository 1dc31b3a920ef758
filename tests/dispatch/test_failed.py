"""Whatever a handler raises, its caller is told and its place is free again."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest

from agent99.dispatch import Call, Route
from agent99.envelope import Header, decode_error
from agent99.errors import Failure, RequestError
from tests.dispatch.conftest import Bench

Make = Callable[..., Bench]


async def settle() -> None:
    """Let tasks that are ready take their steps."""
    for _ in range(5):
        await asyncio.sleep(0)


def submit(bench: Bench, route: Route) -> Call:
    """Make a request within the process."""
    header = Header(type="request", from_uuid="a", to_uuid="b", event_uuid="e1", timestamp=1)
    return bench.dispatcher.submit(
        route,
        header,
        b"{}",
        sender="alice",
        deadline_s=bench.clock.monotonic_s() + 5,
        headers={},
    )


class Textless(Exception):  # noqa: N818 - what its text would be is the point
    """It has no text: `__str__` raises."""

    def __str__(self) -> str:
        """Raise."""
        return self.args[5]


class Hostile(Failure):
    """An answer of a user's class, none of whose attributes can be read."""

    @property
    def message(self) -> str:
        """Raise."""
        raise KeyError("message")

    @message.setter
    def message(self, _text: str) -> None:
        """Forget it."""


def spoilt(**attributes: Any) -> Failure:
    """Return an answer whose attributes were set to anything."""
    failure = Failure("no", code="NO")
    for name, value in attributes.items():
        setattr(failure, name, value)
    return failure


HUGE = "x" * 2_000_000


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "later"])
@pytest.mark.parametrize("place", ["remote", "local"])
@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (Textless(), "HANDLER_ERROR", "the operation raised Textless: a Textless that has no text"),
        (ValueError(Textless()), "HANDLER_ERROR", "raised ValueError: a ValueError that has no"),
        (Failure(Textless(), code="NO"), "NO", "a Textless that has no text"),  # type: ignore[arg-type] - whatever a user does
        (Failure("no", code=ValueError("NO")), "NO", "no"),  # type: ignore[arg-type] - as above
        (Hostile("no", code="NO"), "HANDLER_ERROR", "raised Hostile, which cannot be read"),
        (spoilt(code=[]), "[]", "no"),
        (spoilt(details=5), "HANDLER_ERROR", "raised Failure, which cannot be read"),
        (spoilt(retryable="x"), "NO", "no"),
        (Failure("\udcff", code="NO"), "NO", "?"),
        (RuntimeError(HUGE), "HANDLER_ERROR", "the operation raised RuntimeError: xxx"),
        (Failure(HUGE, code="NO"), "NO", "xxx"),
        (Failure("no", code="NO", details={"a": HUGE}), "NO", "no"),
        (Failure("no", code=HUGE), "x" * 128 + "… (2,000,000 characters)", "no"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_the_caller_is_told_and_the_place_is_free(
    make_bench: Make, error: Exception, code: str, message: str, place: str, *, waits: bool
) -> None:
    """Without a text, with attributes of any kind, or far too large: it is an answer that fits."""
    bench = make_bench(concurrency_max=1, waiting_max=0)

    async def work(_payload: Any) -> None:
        if waits:
            await asyncio.sleep(0)
        raise error

    route = bench.offer(work)
    if place == "local":
        call = submit(bench, route)
        await bench.dispatcher.wait(call)
        answer = decode_error(call.answer)
    else:
        bench.receive(route, bench.message())
        await settle()
        [answer] = bench.answers()
        assert len(bench.wire.sent[0][1]) <= bench.wire.payload_bytes_max
    assert (answer.code, message in answer.message) == (code, True)
    statistics = bench.dispatcher.statistics()
    assert (statistics.in_flight, statistics.errors, statistics.dropped) == (0, 1, {})
    assert len(statistics.last_error) <= 1000
    assert statistics.last_error.isprintable()


async def test_a_wire_that_breaks_costs_no_place(make_bench: Make) -> None:
    """What the wire raises that it should not goes to the loop; the place is free again."""
    bench = make_bench(concurrency_max=1, waiting_max=0)
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))

    def publish(_subject: bytes, _payload: bytes) -> None:
        raise OSError("broken")

    bench.wire.publish = publish  # type: ignore[method-assign] - it breaks

    async def work(payload: Any) -> Any:
        return payload

    bench.receive(bench.offer(work), bench.message())
    await settle()
    assert bench.dispatcher.statistics().in_flight == 0


async def test_requests_within_one_another_need_no_stack(make_bench: Make) -> None:
    """A chain of requests in one process may be as long as the places reach, across instances."""
    one, two = make_bench(concurrency_max=1000), make_bench(concurrency_max=1000)
    benches = (one, two)
    length = sys.getrecursionlimit()
    reached: list[int] = []

    async def work(_payload: Any) -> None:
        reached.append(len(reached))
        if len(reached) < length:
            bench = benches[len(reached) % 2]
            await bench.dispatcher.wait(submit(bench, routes[len(reached) % 2]))

    routes = [bench.offer(work) for bench in benches]
    call = submit(one, routes[0])
    await one.dispatcher.wait(call)
    assert (call.outcome, len(reached)) == ("value", length)
    assert [bench.dispatcher.statistics().in_flight for bench in benches] == [0, 0]


@pytest.mark.parametrize("place", ["remote", "local"])
async def test_an_instance_that_is_stopped_by_its_handlers_first_step_ends_it(
    make_bench: Make, place: str
) -> None:
    """A handler that has not waited yet is ended like any other: its caller is told at once."""
    bench, ended = make_bench(), []

    async def work(_payload: Any) -> None:
        bench.dispatcher.stop()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    route = bench.offer(work)
    if place == "local":
        call = submit(bench, route)
        await bench.dispatcher.wait(call)
        answer: RequestError = decode_error(call.answer)
    else:
        bench.receive(route, bench.message())
        await settle()
        [answer] = bench.answers()
    await settle()
    assert (answer.code, ended) == ("CANCELLED", ["cancelled"])
    assert bench.dispatcher.statistics().in_flight == 0


async def test_stopping_tells_the_caller_of_a_handler_with_a_bad_header(make_bench: Make) -> None:
    """A header that cannot be sent keeps nobody else from being told."""
    bench = make_bench()

    async def work(context: Any, _payload: Any) -> None:
        context.header["no header"] = "x"
        await asyncio.Event().wait()

    route = bench.offer(work, with_context=True)
    bench.receive(route, bench.message())
    bench.receive(route, bench.message())
    await settle()
    bench.dispatcher.stop()
    await settle()
    assert bench.codes() == ["HANDLER_ERROR"] * 2
    assert bench.dispatcher.statistics().in_flight == 0
