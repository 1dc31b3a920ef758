"""Ask the processes of a mesh for their records of one trace."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import msgspec

from agent99.agent import Mesh, Peer, Survey
from agent99.cli._show import short
from agent99.errors import BadAnswerError
from agent99.observe import RequestFinished, draw_trace


class Untold(msgspec.Struct, frozen=True):
    """A process that told nothing, by one of its instances."""

    name: str
    instance: str
    others: int = 0
    """Instances that run there besides."""
    code: str = ""
    """Why not; empty if it did not answer at all."""
    message: str = ""

    def __str__(self) -> str:
        others = f" (and {self.others} more in its process)" if self.others else ""
        return f"{self.name} {short(self.instance)}{others}"


class Found(msgspec.Struct, frozen=True):
    """What is known of one trace, and who told nothing."""

    records: tuple[RequestFinished, ...] = ()
    """Each once, in no order."""
    more: int = 0
    """Older ones that were left out, since there are too many."""
    untold: tuple[Untold, ...] = ()

    @property
    def silent(self) -> list[Untold]:
        """Who did not answer."""
        return [one for one in self.untold if not one.code]

    @property
    def refused(self) -> list[Untold]:
        """Who answered, and told nothing."""
        return [one for one in self.untold if one.code]

    @property
    def trace_id(self) -> str:
        """The trace that most of the records belong to; empty if there is none."""
        traces = Counter(record.trace_id for record in self.records)
        return traces.most_common(1)[0][0] if traces else ""


class Told(msgspec.Struct, frozen=True):
    """What an instance answers to `trace`."""

    records: tuple[RequestFinished, ...]
    more: int = 0


async def find_trace(mesh: Mesh, name: str, timeout_s: float) -> Found:
    """Return what all processes know of a trace.

    Args:
        name: The trace's id, or the event id of a request in it.
        timeout_s: For each of at most two rounds: only who has a record of a request knows which
            trace it is of, and the others are asked for that.
    """
    found = await _ask(mesh, name, timeout_s)
    trace_id = found.trace_id
    if trace_id and trace_id != name.replace("-", "").lower():
        found = await _ask(mesh, trace_id, timeout_s)
    return found


async def _ask(mesh: Mesh, name: str, timeout_s: float) -> Found:
    """Ask one instance of each process: it answers for all of them."""
    processes: dict[str, list[Peer]] = {}
    for peer in mesh.peers():
        processes.setdefault(peer.description.process or peer.instance, []).append(peer)
    payload = {"id": name}
    answers = await asyncio.gather(
        *(
            mesh.control(peers[0], "trace", payload, timeout_s=timeout_s)
            for peers in processes.values()
        )
    )
    records: set[RequestFinished] = set()
    more, untold = 0, list[Untold]()
    for peers, survey in zip(processes.values(), answers, strict=True):
        told = read_told(peers, survey)
        if isinstance(told, Untold):
            untold.append(told)
        else:
            records.update(told.records)
            more += told.more
    return Found(tuple(records), more, tuple(untold))


def read_told(peers: Sequence[Peer], survey: Survey) -> Told | Untold:
    """Return what a process told, or why it told nothing; the first of its peers was asked."""
    one, others = peers[0], len(peers) - 1
    if not survey.answers:
        return Untold(one.name, one.instance, others)
    error = survey.answers[0].error
    if error is not None:
        return Untold(one.name, one.instance, others, error.code, str(error))
    try:
        return msgspec.convert(survey.answers[0].result, Told)
    except msgspec.ValidationError as unreadable:
        return Untold(one.name, one.instance, others, BadAnswerError.code, str(unreadable))


def drawing(found: Found) -> str:
    """Return a trace for people: its tree, and who told nothing of it."""
    silent = [str(one) for one in found.silent]
    lines = [draw_trace(map(_readable, found.records), silent=silent), *refusals(found.refused)]
    if found.more:
        lines.append(f"left out: {found.more:,} older records")
    return "\n".join(lines)


def refusals(refused: Sequence[Untold]) -> list[str]:
    """Return a line for each reason that was given for telling nothing."""
    by_reason: dict[str, list[str]] = {}
    for one in refused:
        by_reason.setdefault(f"{one.message} ({one.code})", []).append(str(one))
    return [f"nothing from: {', '.join(names)}: {reason}" for reason, names in by_reason.items()]


def _readable(record: RequestFinished) -> RequestFinished:
    """Return a record without control characters: some of its text comes from anybody."""
    texts = {
        field: "".join(
            letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
        )
        for field in record.__struct_fields__
        if isinstance(text := getattr(record, field), str) and not text.isprintable()
    }
    return msgspec.structs.replace(record, **texts) if texts else record
