"""Finds what the server has given up on: a message delivered too often is parked without a word.

It publishes a notice, once, to whoever listens at that moment; so a stream keeps the notices. A
handler that takes its whole process along, whatever is done about it, ends in quarantine this way.
"""

from __future__ import annotations

import logging

import msgspec

from agent99.envelope import Name, parse_work, peek_header
from agent99.journal import ConsumerConfig, Delivery
from agent99.work._attempt import DIED
from agent99.work._quarantine import Place
from agent99.work._reading import Reading
from agent99.work._streams import ADVISORIES, ADVISORY_SUBJECT, Streams
from agent99.work._worker import Parts

_log = logging.getLogger("agent99.work")
_PREFETCH_MAX = 8


class _Notice(msgspec.Struct):
    """As much of the server's notice as is of use."""

    stream: str
    stream_seq: int
    deliveries: int


class Advisories:
    """Buries the work for one capability that the server has given up on."""

    def __init__(self, capability: Name, streams: Streams, parts: Parts) -> None:
        self._parts = parts
        self._stream = streams.jobs(capability)
        consumer = ConsumerConfig(
            stream=ADVISORIES,
            name=self._stream,
            subjects=(f"{ADVISORY_SUBJECT}.{self._stream}.*",),
        )
        self._reading = Reading(
            parts.journal,
            consumer,
            self._attend,
            ensure=streams.ensure_advisories,
            clock=parts.clock,
            prefetch_max=_PREFETCH_MAX,
        )

    def __repr__(self) -> str:
        return f"Advisories({self._stream!r})"

    def start(self) -> None:
        """Look for notices from now on, until `stop`."""
        self._reading.start()

    async def leave(self) -> None:
        """Look no more; what is in hand goes on. Idempotent."""
        await self._reading.leave()

    async def stop(self, timeout_s: float) -> bool:
        """Look no more, and let what is in hand end; returns False when it did not in time."""
        return await self._reading.stop(timeout_s)

    async def _attend(self, delivery: Delivery) -> None:
        try:
            notice = msgspec.json.decode(delivery.record.payload, type=_Notice)
        except msgspec.MsgspecError as error:
            _log.error("a notice of the server's cannot be read: %s", error)
            await delivery.terminate("unreadable")
            return
        record = await self._parts.journal.get(notice.stream, notice.stream_seq)
        if record is not None and notice.stream == self._stream:
            what = parse_work(record.subject)
            await self._parts.quarantine.bury(
                record,
                peek_header(record.payload),
                DIED,
                Place(notice.stream, what.capability, what.operation),
                reason="attempts",
                attempts=notice.deliveries,
            )
            await self._parts.journal.delete(notice.stream, notice.stream_seq)
        await delivery.ack()
