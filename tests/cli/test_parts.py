"""The parts of long-running commands, without the commands."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import sys
from typing import Any, cast

import pytest

from agent99.agent import Peer
from agent99.cli._exits import RefusalError
from agent99.cli._find import find_instance
from agent99.cli._lifeline import VARIABLE, Lifeline, find_lifeline
from agent99.cli._probe import Prober
from agent99.cli._wish import StopWish
from agent99.cli._workers import LINE_BYTES_MAX, Crew, Plan, Worker, relay
from agent99.clock import SystemClock
from agent99.envelope import Subjects
from agent99.ids import SystemIds
from agent99.registry import Description


def _peer(instance: str) -> Peer:
    return Peer(Description(instance=instance, name="greeter"), cast("Any", None))


def test_an_instance_is_found_by_the_beginning_of_its_uuid() -> None:
    """Four characters are enough, unless two begin so."""
    peers = [_peer("aaaa1111-0000"), _peer("aaaa2222-0000"), _peer("bbbb3333-0000")]
    assert peers[2] is find_instance(peers, "BBBB")
    assert peers[0] is find_instance(peers, "aaaa1")
    assert find_instance(peers, "bbb") is None
    assert find_instance(peers, "greeter") is None
    with pytest.raises(RefusalError, match="begins several instances: greeter aaaa1111"):
        find_instance(peers, "aaaa")


async def test_a_lifeline_tells_when_the_supervisor_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And carries one line: ready. A process started from here does not see it."""
    ours, theirs = socket.socketpair()
    monkeypatch.setenv(VARIABLE, str(os.dup(theirs.fileno())))
    theirs.close()
    lifeline = find_lifeline()
    assert lifeline is not None
    assert find_lifeline() is None
    lifeline.tell_ready({"agents": []})
    assert ours.recv(100) == b'{"agents":[]}\n'
    gone = asyncio.Event()
    lifeline.on_end(gone.set)
    ours.close()
    await asyncio.wait_for(gone.wait(), 5.0)
    lifeline.tell_ready({"agents": []})  # nobody hears it, and that is no error
    lifeline.close()


async def test_output_is_passed_on_line_by_line() -> None:
    """Each with its prefix; a line without end is cut, and the last one needs no end."""
    stream = asyncio.StreamReader()
    stream.feed_data(b"one\ntwo" + b"x" * LINE_BYTES_MAX + b"three\nfour")
    stream.feed_eof()
    sink = io.BytesIO()
    await relay(stream, sink, b"[a/1] ")
    lines = sink.getvalue().splitlines()
    assert all(line.startswith(b"[a/1] ") for line in lines)
    bare = [line.removeprefix(b"[a/1] ") for line in lines]
    assert (b"one", b"four") == (bare[0], bare[-1])
    assert b"".join(bare) == b"onetwo" + b"x" * LINE_BYTES_MAX + b"threefour"


async def test_the_first_wish_drains_and_the_second_ends_at_once() -> None:
    """While there is nothing to drain, the first gives up."""
    wish = StopWish()
    given_up: list[bool] = []
    wish.give_up = lambda: given_up.append(True)
    wish.ask()
    assert ([True], True, False) == (given_up, wish.asked.is_set(), wish.forced.is_set())
    wish.give_up = None
    wish.ask()
    assert repr(wish) == "StopWish(asked=True, forced=True)"
    wish.close()


async def test_parts_say_what_they_are() -> None:
    """No part shows a credential."""
    wish, clock, ids = StopWish(), SystemClock(), SystemIds()
    plan = Plan((("agent99",),) * 2, {"AGENT99_URL": "nats://me:secret@x"}, "greeter")
    crew = Crew(plan, wish=wish, clock=clock, stdout=sys.stdout.buffer)
    worker = "Worker('greeter/1', pid=0), Worker('greeter/2', pid=0)"
    assert f"Crew([{worker}])" == repr(crew)
    assert repr(plan) == "Plan('greeter', workers=2)"
    assert repr(Worker(3, "x", ())) == "Worker('x/3', pid=0)"
    subjects = Subjects("main", "me")
    prober = Prober(cast("Any", None), subjects, clock=clock, ids=ids, timeout_s=1.0)
    assert "timeout_s=1.0" in repr(prober)
    ours, theirs = socket.socketpair()
    lifeline = Lifeline(os.dup(theirs.fileno()))
    assert repr(lifeline).startswith("Lifeline(")
    lifeline.close()
    ours.close()
    theirs.close()
    wish.close()
