"""The control action `trace`: what a process tells of the requests that ended in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent99 import Agent, Mesh, Settings, control, named
from agent99.agent._traced import RECORDS_MAX, newest
from agent99.errors import UsageError
from agent99.observe import RequestFinished
from agent99.testing import MemoryEngine
from tests.agent._agents import Greeter, Shop
from tests.observe._records import finished

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def read(answer: Any) -> list[RequestFinished]:
    """Return the records of an answer."""
    assert set(answer) == {"records", "more"}
    return msgspec.convert(answer["records"], list[RequestFinished])


async def test_a_process_tells_what_it_has_of_a_trace(mesh: Mesh, client: Mesh) -> None:
    """By the trace's id or by that of a request in it; each instance answers for the process."""
    await mesh.host(Greeter(), Shop())
    await client.wait_for("shop")
    told: list[RequestFinished] = []
    client.hooks.listen(RequestFinished, told.append)
    assert "Hello, Ada!" in str(await client.request("shop", "block", {"text": "Ada"}))
    await client.request("greeter", "greet")
    asked = told[0]
    found = await client.control(None, "trace", {"id": asked.trace_id})
    shop, greeter = (read(result) for result in found.results)
    assert shop == greeter
    assert ["greet", "greet", "block"] == [record.operation for record in shop]
    assert {"greeter", "shop"} == {record.agent for record in shop}
    assert {asked.trace_id} == {record.trace_id for record in shop}
    assert [0, 0] == [result["more"] for result in found.results]
    nested = next(record for record in shop if record.side == "caller")
    for name in (asked.event_id, nested.event_id):
        again = await client.control(named("shop"), "trace", {"id": name})
        assert [shop] == [read(result) for result in again.results]


async def test_a_trace_that_nobody_knows_is_empty(mesh: Mesh, client: Mesh) -> None:
    """It may have left the ring, or never been here: that is no failure."""
    await mesh.host(Greeter())
    await client.wait_for("greeter")
    found = await client.control(named("greeter"), "trace", {"id": "4bf92f3577b34da6"})
    assert [{"records": [], "more": 0}] == found.results


@pytest.mark.parametrize("payload", [{}, {"id": ""}, {"id": 7}, {"id": "x" * 129}, {"trace": "x"}])
async def test_an_id_that_cannot_be_one_is_refused(
    mesh: Mesh, client: Mesh, payload: dict[str, Any]
) -> None:
    """With the path and the rule."""
    await mesh.host(Greeter())
    await client.wait_for("greeter")
    (answer,) = (await client.control(named("greeter"), "trace", payload)).answers
    assert answer.error is not None
    assert ("BAD_REQUEST", "$.id") == (answer.error.code, answer.error.details["path"])
    assert "128 characters at most" in answer.error.details["rule"]


async def test_a_process_that_keeps_nothing_says_so(tmp_path: Path) -> None:
    """It was asked in vain, and its answer names the setting."""
    settings = Settings(project=tmp_path, state_folder=tmp_path, trace_records_max=0)
    async with Mesh(settings=settings, engine=MemoryEngine()) as mesh:
        await mesh.host(Greeter())
        (answer,) = (await mesh.control(named("greeter"), "trace", {"id": "x"})).answers
        assert answer.error is not None
        assert "NO_RECORDS" == answer.error.code
        assert "trace_records_max is 0" in str(answer.error)


async def test_an_answer_fits_the_server(mesh: Mesh, client: Mesh) -> None:
    """However long the trace, and however long its records."""
    await mesh.host(Greeter())
    await client.wait_for("greeter")
    long = {"operation": "o" * 256, "target": "t" * 256, "code": "C" * 128}
    told = [
        finished(event_id=f"{at:0>128}", traceparent=TRACEPARENT, **long)
        for at in range(RECORDS_MAX + 500)
    ]
    assert mesh.hooks.finished is not None
    for record in told:
        mesh.hooks.finished(record)
    (answer,) = (await client.control(named("greeter"), "trace", {"id": TRACE})).answers
    assert answer.ok, answer.error
    kept = read(answer.result)
    assert told[-len(kept) :] == kept
    assert len(told) == len(kept) + answer.result["more"]
    assert 500 < len(kept) <= RECORDS_MAX


@pytest.mark.parametrize("size", [0, 1, RECORDS_MAX, RECORDS_MAX + 1])
def test_the_newest_are_kept(size: int) -> None:
    """In the order in which they came, and the rest is counted."""
    records = [finished(event_id=f"e{at}") for at in range(size)]
    answer = newest(records, bytes_max=1_000_000)
    assert records[-RECORDS_MAX:] == read(answer)
    assert max(0, size - RECORDS_MAX) == answer["more"]


@pytest.mark.parametrize("bytes_max", [0, 64, 500, 5_000, 20_000])
def test_no_more_is_kept_than_fits(bytes_max: int) -> None:
    """And no record less: the next one would be too much."""
    records = [finished(event_id=f"é{at}") for at in range(50)]
    answer = newest(records, bytes_max=bytes_max)
    kept = read(answer)
    assert (records[-len(kept) :] if kept else []) == kept
    assert 50 == len(kept) + answer["more"]
    size = len(msgspec.json.encode(answer))
    assert size <= max(bytes_max, 64)
    if answer["more"]:
        more = newest(records, bytes_max=size + 500)
        assert len(read(more)) > len(kept)


def test_the_action_is_built_in() -> None:
    """An agent's own of that name would never be reached."""

    class Detective(Agent):
        """Has a trace of its own."""

        capabilities = ("detective",)

        async def process_request(self, payload: dict[str, Any]) -> None:
            """Do nothing."""

        @control
        async def trace(self) -> None:
            """Never reached."""

    with pytest.raises(UsageError, match="'trace' is built in"):
        Detective.info()
