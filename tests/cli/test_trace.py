"""`agent99 trace` and `agent99 call --trace`: one request's way through several processes."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from agent99 import Mesh, Settings
from agent99.agent import Answer, Survey
from agent99.cli._traced import Found, Untold, drawing, find_trace, read_told, refusals
from agent99.errors import RemoteError
from agent99.observe import RequestFinished
from agent99.testing import MemoryEngine
from tests._wait import wait_until
from tests.agent._agents import Greeter
from tests.cli._cli import TIMEOUT_S, Cli, Done, Started, Within
from tests.cli._programmes import CHAIN
from tests.observe._records import EVENT, finished, make_trace

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PARTS = ("Front", "Back", "Bell")


class Chain(NamedTuple):
    """A mesh of three processes, one agent each, that work on one request after another."""

    cli: Cli
    parts: dict[str, Started]

    def order(self, sku: str = "tea") -> Done:
        """Make a request that goes through all of them, and trace it at once."""
        return self.cli.run("call", "front", "order", f"sku={sku}", "--trace")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Give the mesh; leave it as it was."""
    cli = Cli(tmp_path_factory.mktemp("chain") / "project")
    cli.write("chain.py", CHAIN)
    try:
        parts = {part: cli.start("run", f"chain.py:{part}") for part in PARTS}
        for part in parts.values():
            part.wait_line("^ready: ")
        yield Chain(cli, parts)
    finally:
        cli.close()


def trace_id(text: str) -> str:
    """Return the trace that a drawing is of."""
    found = re.search(r"^trace ([0-9a-f]{32}): ", text, re.MULTILINE)
    assert found, text
    return found[1]


def test_a_call_is_traced_at_once(chain: Chain) -> None:
    """Its result alone is on stdout; every hop is drawn beneath the one that made it."""
    done = chain.order()
    assert (0, '"packed tea"\n') == (done.code, done.out)
    head, *rows = done.err.splitlines()
    assert f"trace {trace_id(done.err)}: " in head
    assert rows[0].startswith("front.order  ok ")
    assert re.match(r"├─ back\.pack  ok .* asked by front .* served by back .* in ", rows[1])
    assert "?" not in rows[0] + rows[1]


@pytest.mark.slow
def test_a_trace_is_found_from_any_process_by_any_id(chain: Chain) -> None:
    """Also by the id of a request of which most processes have no record, and by an event's."""
    wanted = trace_id(chain.order().err)
    wait_until(lambda: "order.packed" in chain.cli.run("trace", wanted).out, timeout_s=TIMEOUT_S)
    done = chain.cli.run("trace", wanted)
    assert (0, "") == (done.code, done.err)
    root, pack, ring = done.out.splitlines()[1:]
    assert root.startswith("front.order  served by front ")
    assert root.endswith("? no record of who asked")  # the command has ended
    assert pack.startswith("├─ back.pack  ok ")
    assert ring.startswith("└─ event order.packed.ring  served by bell ")
    found = chain.cli.run("trace", wanted, "--json").document
    records = msgspec.convert(found["records"], list[RequestFinished])
    assert {wanted} == {found["trace_id"], *(record.trace_id for record in records)}
    assert (0, [], []) == (found["more"], found["silent"], found["refused"])
    for event_id in {record.event_id for record in records}:
        assert done == chain.cli.run("trace", event_id)


def test_a_failure_is_traced_by_what_is_said_of_it(chain: Chain) -> None:
    """The id at the end of the sentence is enough."""
    failed = chain.order("none")
    assert 1 == failed.code
    assert "front.order  SOLD_OUT" in failed.err
    sentence = failed.err.splitlines()[-1]
    found = re.search(r"event ([0-9a-f-]{36})\)", sentence)
    assert found, sentence
    done = chain.cli.run("trace", found[1])
    assert trace_id(failed.err) == trace_id(done.out)
    assert re.search(
        r"└─ back\.pack  SOLD_OUT .* served by back .* SOLD_OUT$", done.out, re.MULTILINE
    )


@pytest.mark.slow
def test_who_does_not_answer_is_named(chain: Chain) -> None:
    """The trace is drawn without it, and the exit code says that it may not be whole."""
    wanted = trace_id(chain.order().err)
    hung = chain.parts["Back"]
    os.kill(hung.pid, signal.SIGSTOP)
    try:
        done = chain.cli.run("trace", wanted, "--timeout", "0.3")
        nothing = chain.cli.run("trace", "f" * 32, "--timeout", "0.3")
        found = chain.cli.run("trace", wanted, "--timeout", "0.3", "--json")
    finally:
        os.kill(hung.pid, signal.SIGCONT)
    assert (1, "") == (done.code, done.err)
    assert re.search(r"^no answer from: back [0-9a-f]{8}$", done.out, re.MULTILINE), done.out
    assert (1, ["back"]) == (found.code, [one["name"] for one in found.document["silent"]])
    assert 3 == nothing.code
    assert re.search(r"; no answer from: back [0-9a-f]{8}$", nothing.err), nothing.err


def test_who_keeps_nothing_is_named(chain: Chain) -> None:
    """With the setting that is the reason; a trace of that mesh is never whole."""
    deaf = chain.cli.start("run", "chain.py:Bell", "--count", "2", AGENT99_TRACE_RECORDS_MAX="0")
    deaf.wait_line("^ready: ")
    try:
        done = chain.cli.run("trace", trace_id(chain.order().err))
        found = chain.cli.run("trace", "f" * 32)
    finally:
        deaf.signal(signal.SIGINT)
        deaf.wait()
    assert 1 == done.code
    line = next(line for line in done.out.splitlines() if line.startswith("nothing from: "))
    assert re.match(r"nothing from: bell [0-9a-f]{8} \(and 1 more in its process\): ", line)
    assert line.endswith("its setting trace_records_max is 0 (NO_RECORDS)")
    assert (3, True) == (found.code, "trace_records_max is 0" in found.err)


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("f" * 32,), 3, f"nobody has a record of '{'f' * 32}': it is event_id or trace_id in"),
        ((EVENT[:8],), 3, "give the whole id"),
        (("x" * 129,), 3, "128 characters at most"),
        (("x", "--timeout", "0"), 2, "--timeout is a number of seconds above 0"),
        (("x", "--mesh", "empty"), 3, "no agents on mesh 'empty'"),
        ((), 2, "missing argument 'ID'"),
    ],
)
def test_what_is_not_found_is_one_sentence(
    chain: Chain, within: Within, words: tuple[str, ...], code: int, part: str
) -> None:
    """It says where ids are to be found."""
    done = within(chain.cli)("trace", *words)
    assert (code, "", 1) == (done.code, done.out, len(done.err.splitlines()))
    assert part in done.err


def test_a_request_that_was_never_sent_has_no_trace(chain: Chain) -> None:
    """What is said of it is all there is."""
    done = chain.cli.run("call", "a*b", "order", "--trace")
    assert (2, 1) == (done.code, len(done.err.splitlines()))


@pytest.mark.parametrize("result", [None, [], {"records": [{"side": "caller"}]}, {"records": 7}])
def test_an_answer_that_cannot_beread_told_is_told(result: object) -> None:
    """Whoever answers may be of another release: the others' records are drawn all the same."""
    told = read_told([_Peer("front", "3f2a91c0-1")], Survey((Answer("i", "front", result),), ()))
    assert isinstance(told, Untold)
    assert ("BAD_ANSWER", "front 3f2a91c0") == (told.code, str(told))


def test_an_older_process_has_no_such_action() -> None:
    """Its refusal is passed on."""
    error = RemoteError("no action 'trace'", code="UNKNOWN_OPERATION", details={})
    told = read_told(
        [_Peer("front", "3f2a91c0-1")] * 3, Survey((Answer("i", "front", error=error),), ())
    )
    assert Untold("front", "3f2a91c0-1", 2, "UNKNOWN_OPERATION", "no action 'trace'") == told


def test_reasons_are_told_once() -> None:
    """With all who gave them."""
    one, two = (Untold(name, "3f2a91c0-1", code="C", message="why") for name in ("one", "two"))
    other = Untold("three", "3f2a91c0-1", 1, "D", "why not")
    assert [
        "nothing from: one 3f2a91c0, two 3f2a91c0: why (C)",
        "nothing from: three 3f2a91c0 (and 1 more in its process): why not (D)",
    ] == refusals([one, other, two])


async def test_what_was_left_out_is_counted(tmp_path: Path) -> None:
    """A trace may be longer than what is sent of it."""
    settings = Settings(project=tmp_path, state_folder=tmp_path)
    records = [finished(event_id=f"e{at}", traceparent=TRACEPARENT) for at in range(1_200)]
    async with Mesh(settings=settings, engine=MemoryEngine()) as mesh:
        await mesh.host(Greeter(), Greeter())
        assert mesh.hooks.finished is not None
        for record in records:
            mesh.hooks.finished(record)
        found = await find_trace(mesh, "e7", 5.0)
    assert (200, set(records[200:])) == (found.more, set(found.records))
    assert "left out: 1,200 older records" in drawing(Found((finished(),), more=1200))
    assert "left out" not in drawing(Found((finished(),)))


def test_an_operation_named_by_anybody_cannot_steer_the_terminal() -> None:
    """Control characters stand for nothing; line breaks begin no line."""
    text = drawing(Found((finished(operation="reserve\x1b[2J\nno answer from: \x07you"),)))
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert 2 == len(text.splitlines())


def test_the_trace_is_the_one_that_most_records_are_of() -> None:
    """A forged record with the same event id names another one in vain."""
    records = tuple(record for asked in make_trace(7, 5) for record in (asked.sent, asked.served))
    forged = finished(event_id=EVENT)
    assert records[0].trace_id == Found((forged, *records)).trace_id
    assert "" == Found().trace_id


class _Peer(NamedTuple):
    """As much of a peer as is named."""

    name: str
    instance: str
