"""What happens on a mesh is told, on both sides, with ids that belong together."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any

import msgspec
import pytest

from agent99 import Agent, Failure, Mesh, job, named, on, operation
from agent99.errors import Agent99Error, DeadlineExceededError
from agent99.observe import (
    ConnectionChanged,
    HandlerBroke,
    Hooks,
    MessageDropped,
    Record,
    RequestFinished,
    RequestReceived,
    RequestSent,
    Ring,
    TraceContext,
    draw_trace,
    lay_out_trace,
)
from tests._wait import eventually
from tests.agent.conftest import OpenMesh

REQUESTS = (RequestSent, RequestReceived, RequestFinished)


class Till(Agent):
    """Takes money: the last of a chain."""

    capabilities = ("till",)

    async def start(self) -> None:
        """Count what is heard."""
        self.heard = 0
        self.spans: list[TraceContext] = []

    @operation
    async def charge(self, amount: int) -> int:
        """Answer, refuse or break."""
        self.spans.append(self.context.trace)
        if amount < 0:
            raise Failure("no", code="DECLINED")
        if amount == 0:
            raise ValueError("nothing to charge")
        return amount

    @operation
    async def hang(self) -> None:
        """Never answer."""
        await asyncio.get_running_loop().create_future()

    @on("sold.*")
    async def note(self, event: dict[str, Any]) -> None:
        """Hear of a sale."""
        del event
        self.heard += 1


class Clerk(Agent):
    """Works."""

    capabilities = ("clerk",)

    @job
    async def file(self) -> None:
        """Do nothing."""


class Counter99(Agent):
    """Asks the till, and tells of the sale."""

    capabilities = ("counter",)

    @operation
    async def sell(self, amount: int) -> int:
        """Charge, then tell."""
        charged: int = await self.request("till", "charge", {"amount": amount}, returns=int)
        await self.publish("sold.one", {})
        return charged


def listen(mesh: Mesh, *kinds: type[Any]) -> list[Any]:
    """Return a list that grows by what is told."""
    told: list[Record] = []
    for kind in kinds:
        mesh.hooks.listen(kind, told.append)
    return told


def ring_of(mesh: Mesh) -> Ring:
    """Return what a mesh keeps."""
    assert mesh._link is not None
    assert mesh._link.ring is not None
    return mesh._link.ring


async def test_a_request_is_told_on_both_sides(mesh: Mesh, client: Mesh) -> None:
    """Sent and finished by the caller, received and finished by who serves it; one event id."""
    asked, served = listen(client, *REQUESTS), listen(mesh, *REQUESTS)
    till = Till()
    await mesh.host(till)
    await client.wait_for("till")
    assert 5 == await client.request("till", "charge", {"amount": 5})
    sent, finished = asked
    received, done = served
    assert [RequestSent, RequestFinished] == [type(sent), type(finished)]
    assert [RequestReceived, RequestFinished] == [type(received), type(done)]
    assert 1 == len({record.event_id for record in (*asked, *served)})
    assert ("caller", "", "till", "charge", "OK") == (
        finished.side, finished.agent, finished.target, finished.operation, finished.code
    )  # fmt: skip
    assert ("callee", "till", till.instance, "charge", "OK") == (
        done.side, done.agent, done.instance, done.operation, done.code
    )  # fmt: skip
    assert finished.duration_s >= done.duration_s >= 0
    assert (finished.span_id, finished.trace_id) == (done.parent_id, done.trace_id)
    assert till.spans == [TraceContext(done.trace_id, done.span_id)]


async def test_stored_work_is_told_as_a_job(mesh: Mesh, client: Mesh) -> None:
    """What is posted, and not what is asked for of the same operation."""
    served = listen(mesh, *REQUESTS)
    await mesh.host(Clerk())
    await client.wait_for("clerk")
    event_id = await client.post("clerk", "file")
    await eventually(lambda: len(served) == 2)
    await client.request("clerk", "file")
    assert ["job", "job", "request", "request"] == [record.kind for record in served]
    assert {event_id} == {record.event_id for record in served[:2]}
    assert "" == served[1].parent_id
    (answer,) = (await client.control(named("clerk"), "status")).results
    assert 2 == answer["operations"]["requests"]


@pytest.mark.parametrize(
    ("amount", "code"), [(-1, "DECLINED"), (0, "HANDLER_ERROR"), ("x", "BAD_REQUEST")]
)
async def test_failures_are_told_by_their_code(
    mesh: Mesh, client: Mesh, amount: object, code: str
) -> None:
    """Both sides tell the code that the caller got."""
    asked, served = listen(client, RequestFinished), listen(mesh, RequestFinished)
    await mesh.host(Till())
    await client.wait_for("till")
    with pytest.raises(Agent99Error) as failed:
        await client.request("till", "charge", {"amount": amount})
    assert code == failed.value.code
    assert [[code], [code]] == [[one.code for one in told] for told in (asked, served)]


async def test_a_broken_operation_is_told_and_logged_once(
    mesh: Mesh, client: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    """Its record has the error; its line in the log names agent, instance, event and trace."""
    told = listen(mesh, HandlerBroke)
    till = Till()
    await mesh.host(till)
    await client.wait_for("till")
    with caplog.at_level(logging.ERROR), pytest.raises(Agent99Error) as failed:
        await client.request("till", "charge", {"amount": 0})
    event_id = failed.value.event_id  # type: ignore[attr-defined]  # of every RequestError
    assert [(event_id, "ValueError")] == [(one.event_id, type(one.error).__name__) for one in told]
    lines = [line for line in caplog.records if "broke" in line.getMessage()]
    wanted = ("till", till.instance, event_id, event_id.replace("-", ""))
    names = ("agent", "instance", "event_id", "trace_id")
    assert [wanted] == [tuple(getattr(line, name) for name in names) for line in lines]


async def test_what_is_not_answered_is_told_as_a_drop(mesh: Mesh, client: Mesh) -> None:
    """An operation that is given up is dropped by its deadline, with its request's id."""
    told, asked = listen(mesh, MessageDropped, RequestFinished), listen(client, RequestFinished)
    await mesh.host(Till())
    await client.wait_for("till")
    with pytest.raises(DeadlineExceededError):
        await client.request("till", "hang", timeout_s=0.05)
    await eventually(lambda: len(told) == 2)
    drop, finished = sorted(told, key=lambda one: type(one).__name__)
    assert asked[0].event_id == drop.event_id == finished.event_id
    assert ("deadline", "till", "hang") == (drop.reason, drop.agent, drop.operation)
    assert ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED") == (finished.code, asked[0].code)


async def test_a_given_up_request_is_told(mesh: Mesh, client: Mesh) -> None:
    """A caller that is cancelled tells so, and so does who served it."""
    told, asked = listen(mesh, RequestFinished), listen(client, RequestFinished)
    await mesh.host(Till())
    await client.wait_for("till")
    asking = asyncio.ensure_future(client.request("till", "hang"))
    await eventually(lambda: mesh.in_flight == 1)
    asking.cancel()
    await eventually(lambda: bool(told))
    assert [["CANCELLED"], ["CANCELLED"]] == [[one.code for one in few] for few in (asked, told)]


async def test_a_trace_is_whole_through_every_hop(open_mesh: OpenMesh) -> None:
    """A request, the one that it makes and the event that it publishes are one tree, no gaps."""
    meshes = [await open_mesh() for _ in range(3)]
    till, counter, client = Till(), Counter99(), meshes[2]
    await meshes[0].host(till)
    await meshes[1].host(counter)
    await client.wait_for("counter")
    await meshes[1].wait_for("till")
    told = listen(client, RequestFinished)
    assert 7 == await client.request("counter", "sell", {"amount": 7})
    await eventually(lambda: till.heard == 1)
    name = told[0].event_id
    records = {record for mesh in meshes for record in ring_of(mesh).find(told[0].trace_id)}
    rows = lay_out_trace(records)
    assert [(0, "counter", "sell"), (1, "till", "charge"), (1, "sold.one", "note")] == [
        (row.depth, row.hop.sent[0].target if row.hop.sent else row.hop.served[0].target,
         row.hop.served[0].operation)
        for row in rows if row.hop is not None
    ]  # fmt: skip
    assert "?" not in draw_trace(records)
    assert len(rows) == 3
    assert ring_of(client).find(name) == ring_of(client).find(told[0].trace_id)


async def test_a_trace_is_whole_within_one_process(mesh: Mesh) -> None:
    """What never travels is recorded as what does."""
    till = Till()
    await mesh.host(till, Counter99())
    assert 7 == await mesh.request("counter", "sell", {"amount": 7})
    await eventually(lambda: till.heard == 1)
    ring = ring_of(mesh)
    records = ring.find(ring._records[0].trace_id)
    sides = Counter((record.side, record.kind) for record in records)
    assert {("caller", "request"): 2, ("callee", "request"): 2, ("callee", "event"): 1} == sides
    assert "?" not in draw_trace(records)


async def test_refused_requests_are_told(mesh: Mesh, client: Mesh) -> None:
    """Who is refused at the door was served by nobody, for the length of nothing."""
    told = listen(mesh, RequestFinished)
    await mesh.host(Till())
    await client.wait_for("till")
    with pytest.raises(Agent99Error):
        await client.request("till", "no_such", {})
    (peer,) = await client.discover("till")
    with pytest.raises(Agent99Error):
        await peer.request("no_such", {})
    assert [("UNKNOWN_OPERATION", 0.0)] == [(one.code, one.duration_s) for one in told]


class Spans:
    """A tracing library of our own, as small as can be."""

    def __init__(self) -> None:
        self.now: TraceContext | None = TraceContext("a" * 32, "b" * 16)
        self.entered: list[TraceContext] = []

    def current(self) -> TraceContext | None:
        """Return the span in which the code runs."""
        return self.now

    def enter(self, span: TraceContext) -> None:
        """Remember the span of a task."""
        self.entered.append(span)


async def test_spans_of_a_tracing_library_belong_to_the_trace(mesh: Mesh, client: Mesh) -> None:
    """A request hangs beneath the caller's current span; its handler is told its own."""
    theirs, ours = Spans(), Spans()
    client.hooks.use_tracing(theirs)
    mesh.hooks.use_tracing(ours)
    told = listen(client, RequestFinished)
    till = Till()
    await mesh.host(till)
    await client.wait_for("till")
    await client.request("till", "charge", {"amount": 1})
    assert ("a" * 32, "b" * 16) == (told[0].trace_id, told[0].parent_id)
    assert ours.entered == till.spans
    assert ["a" * 32] == [span.trace_id for span in till.spans]


async def test_the_connection_is_told(open_mesh: OpenMesh) -> None:
    """From its first moment to its end."""
    hooks = Hooks()
    assert "Hooks()" == repr(hooks)
    mesh = await open_mesh()
    told = listen(mesh, ConnectionChanged)
    await mesh.aclose()
    states = [one.state for one in told]
    assert "closed" == states[-1]
    async with mesh:
        assert "connected" == told[-1].state
        assert mesh.url == told[-1].url


async def test_loads_are_read_while_an_agent_runs(mesh: Mesh, client: Mesh) -> None:
    """Whoever asks is told how much each instance has to do; one that stopped says no more."""
    till = Till()
    await mesh.host(till)
    await client.wait_for("till")
    asking = asyncio.ensure_future(client.request("till", "hang"))
    await eventually(lambda: [1] == [load.in_flight for load in mesh.hooks.loads()])
    asking.cancel()
    await eventually(lambda: [0] == [load.in_flight for load in mesh.hooks.loads()])
    assert [("till", till.instance)] == [(one.agent, one.instance) for one in mesh.hooks.loads()]
    await mesh.stop(till)
    assert [] == mesh.hooks.loads()


async def test_nothing_is_kept_where_nothing_is_wanted(open_mesh: OpenMesh) -> None:
    """With `trace_records_max` 0 a process keeps no records, and nobody listens."""
    mesh = await open_mesh()
    bare = Mesh(
        settings=msgspec.structs.replace(mesh._settings, trace_records_max=0),
        engine=mesh._opening.engine,
    )
    async with bare:
        assert bare._link is not None
        assert bare._link.ring is None
        assert "Hooks()" == repr(bare.hooks)
        await bare.control(named("nobody"), "status", timeout_s=0.05)
