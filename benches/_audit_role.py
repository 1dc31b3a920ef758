"""Writes entries of an audit log, in batches and one by one, and verifies them.

Prints one JSON object: lists of entries per second, one figure per round. The log grows from round
to round, and all of it is verified in each; every commit is synced to disk.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence

import msgspec

from agent99.dispatch import new_event_loop
from agent99.envelope import Header, Subjects, Topic, encode_message, parse_key
from agent99.groups import Batch, reader_name
from agent99.journal import Record
from agent99.systems.events import AuditLog

BATCH = 100
"""Events of a partition that a group's member is given at once, under load."""
_ONE_BY_ONE = 40  # one for so many in batches: each has a commit of its own
_TOPIC = "order.placed"
_SUBJECT = Subjects("bench", "me").log(Topic(_TOPIC), parse_key("order-7"))
_READER = reader_name("bench", "audit")
_BODY = msgspec.json.encode({"order": "7f3a", "lines": [["tea", 2, 375], ["mug", 1, 950]]})


def record(sequence: int) -> Record:
    """Return a stored event of some 300 bytes."""
    header = Header(
        type="event",
        from_uuid=f"order-processor-{sequence % 5:08x}",
        to_uuid=_TOPIC,
        event_uuid=f"{sequence:032x}",
        timestamp=sequence * 1_000,
        traceparent=f"00-{sequence:032x}-{1:016x}-01",
    )
    return Record(_SUBJECT, sequence, encode_message(header, _BODY), sequence * 1_000 + 500)


def batches(begin: int, entries: int, size: int) -> list[Batch]:
    """Return so many events in batches."""
    return [
        Batch(
            group="audit",
            reader=_READER,
            partition=0,
            epoch=1,
            records=tuple(map(record, range(first, first + size))),
        )
        for first in range(begin, begin + entries, size)
    ]


async def entries_per_s(log: AuditLog, written: Sequence[Batch]) -> float:
    """Write them, each when the one before is on the disk."""
    began = time.perf_counter()
    for batch in written:
        await log.add(batch)
    return sum(len(batch.records) for batch in written) / (time.perf_counter() - began)


async def verified_per_s(log: AuditLog) -> float:
    """Look at all that is there."""
    began = time.perf_counter()
    proof = await log.verify(_READER)
    assert proof.is_sound, proof.breach
    return proof.entries / (time.perf_counter() - began)


async def measure(url: str, rounds: int, entries: int) -> dict[str, list[float]]:
    """Measure all, round by round."""
    figures: dict[str, list[float]] = {"batches": [], "alone": [], "verified": []}
    async with AuditLog.opened(url) as log:
        for _ in range(rounds):
            for name, count, size in (
                ("batches", entries, BATCH),
                ("alone", entries // _ONE_BY_ONE, 1),
            ):
                begin = (await log.head()).number + 1
                figures[name].append(await entries_per_s(log, batches(begin, count, size)))
            figures["verified"].append(await verified_per_s(log))
    return figures


def main() -> None:
    """Measure; the arguments are the database's URL, rounds, and entries in batches of a round."""
    url, rounds, entries = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        print(msgspec.json.encode(runner.run(measure(url, rounds, entries))).decode())


if __name__ == "__main__":
    main()
