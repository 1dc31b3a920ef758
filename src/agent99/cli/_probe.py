"""Ask the server who listens, without running anything.

A probe is a message whose kind does not fit where it goes: an event, sent where requests arrive.
The server says at once when nobody listens; an agent refuses it at the door, whatever its state,
and so shows that it lives and who it is. No operation ever sees it.
"""

from __future__ import annotations

import asyncio
from typing import Literal

import msgspec

from agent99.clock import Clock
from agent99.envelope import Header, Subjects, decode_header, encode_message, parse_name
from agent99.errors import BadRequestError, DeadlineExceededError, NoRespondersError
from agent99.ids import Ids
from agent99.registry import Description
from agent99.wire import Message, Wire

Interest = Literal["answers", "silent", "nobody"]

PROBES_MAX = 64
"""Instances that are probed one by one."""


class Probed(msgspec.Struct, frozen=True):
    """What a probe found."""

    interest: Interest
    """`answers`; `silent`: somebody listens and does not answer; `nobody` listens."""
    instance: str = ""
    """Who answered."""
    took_ms: float = 0.0


class Prober:
    """Sends probes over an open wire."""

    def __init__(
        self, wire: Wire, subjects: Subjects, *, clock: Clock, ids: Ids, timeout_s: float
    ) -> None:
        self._wire = wire
        self._subjects = subjects
        self._clock = clock
        self._ids = ids
        self._timeout_s = timeout_s

    def __repr__(self) -> str:
        return f"Prober({self._subjects!r}, timeout_s={self._timeout_s})"

    async def group(self, kind: str, target: str, operation: str) -> Probed:
        """Probe a capability or a name: the queue group that shares its requests.

        Raises:
            InvalidNameError, TransportError
        """
        name, verb = parse_name(kind, target), parse_name("operation", operation)
        subjects = self._subjects
        make = subjects.capability if kind == "capability" else subjects.named
        return await self._probe(make(name, verb))

    async def instances(self, found: list[Description], operation: str) -> dict[str, Probed]:
        """Probe instances directly, all at once; returns what each said, by UUID.

        Raises:
            InvalidNameError, TransportError
        """
        chosen = found[:PROBES_MAX]
        verb = parse_name("operation", operation)
        subjects = (
            self._subjects.instance(
                parse_name("agent name", d.name), parse_name("instance", d.instance), verb
            )
            for d in chosen
        )
        outcomes = await asyncio.gather(*map(self._probe, subjects))
        return {d.instance: outcome for d, outcome in zip(chosen, outcomes, strict=True)}

    async def _probe(self, subject: bytes) -> Probed:
        began_s = self._clock.monotonic_s()
        header = Header(
            type="event",
            from_uuid=self._ids.uuid(),
            to_uuid="",
            event_uuid=self._ids.uuid(),
            timestamp=self._clock.wall_us(),
        )
        data = encode_message(header, b"{}")
        deadline_s = began_s + self._timeout_s
        try:
            answer = await self._wire.request(subject, data, deadline_s=deadline_s)
        except NoRespondersError:
            return Probed("nobody")
        except DeadlineExceededError:
            return Probed("silent")
        took_ms = round((self._clock.monotonic_s() - began_s) * 1e3, 2)
        return Probed("answers", _answerer(answer), took_ms)


def _answerer(answer: Message) -> str:
    try:
        return decode_header(answer.payload).from_uuid
    except BadRequestError:
        return ""  # something that is not ours listens there
