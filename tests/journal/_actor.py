"""A stand-in for JetStream on the memory wire: it plays its part, line by line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec

from agent99.ids import SeededIds
from agent99.journal import JetStreamJournal
from agent99.testing import ManualClock
from agent99.wire import MemoryBroker, MemoryWire, Message

ResultT = TypeVar("ResultT")
Line = bytes | tuple[bytes, bytes] | None
"""What is answered: a payload; headers and a payload; or nothing."""
Part = Callable[[Message], list[Line]]

INFO = msgspec.json.encode(
    {"config": {"allow_direct": True, "num_replicas": 1}, "state": {"last_seq": 6}}
)


def refusal(err_code: int, code: int = 503, words: str = "no") -> bytes:
    """Return an answer that is an error."""
    error = {"code": code, "err_code": err_code, "description": words}
    return msgspec.json.encode({"error": error})


def batched(sequence: int, previous: int, pending: int = 1) -> tuple[bytes, bytes]:
    """Return one message of a batch of direct gets."""
    return (
        b"NATS/1.0\r\nNats-Stream: S\r\nNats-Subject: s.a\r\nNats-Sequence: %d\r\n"
        b"Nats-Time-Stamp: 2026-01-02T03:04:05Z\r\nNats-Num-Pending: %d\r\n"
        b"Nats-Last-Sequence: %d\r\n\r\n" % (sequence, pending, previous),
        b"%d" % sequence,
    )


def end_of_batch(last: int, pending: int = 0) -> tuple[bytes, bytes]:
    """Return the end of a batch of direct gets."""
    block = b"NATS/1.0 204 EOB\r\nNats-Num-Pending: %d\r\nNats-Last-Sequence: %d\r\n\r\n"
    return block % (pending, last), b""


class Actor:
    """Answers on the subjects that it was given a part for."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self._ids = SeededIds(1)
        self._broker = MemoryBroker(ids=self._ids, clock=self.clock)
        self.wire: MemoryWire = self._broker.connect(b"client")
        self._stage: MemoryWire = self._broker.connect(b"server")
        self.journal = JetStreamJournal(self.wire, clock=self.clock, ids=self._ids)
        self.heard: list[tuple[str, bytes]] = []
        """Subject and payload of everything that was asked."""

    def __repr__(self) -> str:
        return f"Actor({len(self.heard)})"

    def plays(self, pattern: str, *scenes: list[Line]) -> None:
        """Answer on `pattern` scene by scene; the last one is played again for ever."""
        left = list(scenes)

        def play(message: Message) -> None:
            self.heard.append((message.subject.decode(), message.payload))
            for line in left.pop(0) if len(left) > 1 else left[0]:
                if isinstance(line, bytes):
                    self._stage.publish(message.reply, line)
                elif line is not None:
                    self._stage.publish(message.reply, line[1], headers=line[0])

        self._stage.subscribe(pattern.encode(), play)

    def delivers(self, inbox: bytes, *sequences: int, attempt: int = 1) -> None:
        """Deliver messages of consumer `c` of stream `S`, as a server does."""
        for sequence in sequences:
            reply = b"$JS.ACK.S.c.%d.%d.%d.1767323045000000000.0" % (attempt, sequence, sequence)
            self._stage.publish(inbox, b"%d" % sequence, reply=reply)

    def tells(self, subject: bytes, headers: bytes, reply: bytes = b"") -> None:
        """Say something unasked."""
        self._stage.publish(subject, b"", headers=headers, reply=reply)

    async def within(self, seconds: float, call: Awaitable[ResultT]) -> ResultT:
        """Return what `call` returns; it must be done when so much time has passed."""
        task = asyncio.ensure_future(call)
        passed_s = 0.0
        while passed_s < seconds and not task.done():
            await self.clock.advance(0.05)
            passed_s += 0.05
        if not task.done():
            task.cancel()
        return await task

    async def aclose(self) -> None:
        """Leave the stage."""
        await self.wire.aclose()
        await self._stage.aclose()


@asynccontextmanager
async def acting() -> AsyncIterator[Actor]:
    """Give an actor."""
    actor = Actor()
    try:
        yield actor
    finally:
        await actor.aclose()
