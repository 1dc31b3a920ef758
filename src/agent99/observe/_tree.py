"""One trace, put together from the records of several processes. Pure.

A request is one line: its caller's record and the records of whoever served it belong together by
the request's id. It hangs beneath the request whose operation made it. What the records speak of
and do not hold is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from agent99.errors import DID_NOT_RUN
from agent99.observe._records import OK, RequestFinished

DEPTH_MAX = 64
"""Levels that are drawn; what is deeper hangs at the last one."""


class Hop(msgspec.Struct, frozen=True, gc=False):
    """One request, or one event, with all that is known of it."""

    event_id: str
    sent: tuple[RequestFinished, ...]
    """Records of its caller; more than one where it was asked again under the same id."""
    served: tuple[RequestFinished, ...]
    """Records of those who served it; an event may have many."""

    @property
    def started_us(self) -> int:
        """Microseconds since the epoch, UTC, by the clock of whoever was first."""
        return min(record.started_us for record in (*self.sent, *self.served))

    @property
    def parent_id(self) -> str:
        """The span that made it; empty where it began the trace."""
        return (*self.sent, *self.served)[0].parent_id

    @property
    def is_unasked(self) -> bool:
        """Whether somebody asked of whom there is no record: so nobody knows what made it."""
        return not self.sent and self.served[0].kind == "request"

    @property
    def is_unserved(self) -> bool:
        """Whether somebody ran it, or may have, of whom there is no record."""
        return not self.served and self.sent[-1].code not in DID_NOT_RUN


class Row(msgspec.Struct, frozen=True):
    """One line of the drawing."""

    depth: int
    """Levels below the root; starts at 0."""
    hop: Hop | None
    """None: nobody has a record of the request that made the ones beneath."""
    span_id: str
    """Of what is missing; empty where there is a hop."""
    is_last: tuple[bool, ...]
    """For each level from 1 on, whether it is the last of its kind beneath the one above."""


class _Node:
    """A hop, or a gap, while the tree is put together."""

    def __init__(self, hop: Hop | None, span_id: str) -> None:
        self.hop = hop
        self.span_id = span_id
        self.children: list[_Node] = []

    def __repr__(self) -> str:
        return f"_Node({self.hop!r}, {self.span_id!r}, children={len(self.children)})"

    @property
    def started_us(self) -> int:
        hop = self.hop
        return hop.started_us if hop else min(child.started_us for child in self.children)


def lay_out_trace(records: Iterable[RequestFinished]) -> list[Row]:
    """Return the lines of a trace's tree, each request beneath the one that made it, by time.

    Args:
        records: Of one trace, in any order; the same one may come twice.
    """
    rows: list[Row] = []
    # The last comes off first, so that the oldest is drawn first.
    left = [(root, 0, ()) for root in reversed(_roots(_hops(records)))]
    stack: list[tuple[_Node, int, tuple[bool, ...]]] = list(left)
    while stack:
        node, depth, is_last = stack.pop()
        rows.append(Row(depth, node.hop, node.span_id, is_last))
        children = sorted(node.children, key=_by_time, reverse=True)
        if depth < DEPTH_MAX:
            stack += [
                (child, depth + 1, (*is_last, place == 0)) for place, child in enumerate(children)
            ]
        else:
            stack += [(child, depth, is_last) for child in children]
    return rows


def draw_trace(records: Iterable[RequestFinished], *, silent: Sequence[str] = ()) -> str:
    """Return a trace's tree for people, a line for each request, and what is missing of it.

    Args:
        records: Of one trace, in any order; the same one may come twice.
        silent: Who was asked for records and did not answer.
    """
    found = list(records)
    rows = lay_out_trace(found)
    lines = [_summary(found, rows)] if found else ["nobody has a record of this trace"]
    lines += [_line(row) for row in rows]
    if silent:
        lines.append(f"no answer from: {', '.join(silent)}")
    return "\n".join(lines)


# --- which request made which ---------------------------------------------------------------------


def _hops(records: Iterable[RequestFinished]) -> list[Hop]:
    by_event: dict[str, list[RequestFinished]] = {}
    for record in sorted(set(records), key=_in_order):
        by_event.setdefault(record.event_id, []).append(record)
    return [
        Hop(
            event_id,
            tuple(one for one in found if one.side == "caller"),
            tuple(one for one in found if one.side == "callee"),
        )
        for event_id, found in by_event.items()
    ]


def _roots(hops: list[Hop]) -> list[_Node]:
    nodes = [_Node(hop, "") for hop in hops]
    makers = {record.span_id: node for node in nodes for record in _hop(node).served}
    gaps: dict[str, _Node] = {}
    parents: dict[int, _Node] = {}
    for node in nodes:
        hop = _hop(node)
        wanted = hop.parent_id
        maker = makers.get(wanted)
        if maker is None and wanted and not hop.is_unasked:
            maker = gaps.get(wanted) or gaps.setdefault(wanted, _Node(None, wanted))
        if maker is not None and not _is_beneath(maker, node, parents):
            parents[id(node)] = maker
            maker.children.append(node)
    roots = [node for node in nodes if id(node) not in parents]
    return sorted([*roots, *(gap for gap in gaps.values() if gap.children)], key=_by_time)


def _is_beneath(node: _Node | None, above: _Node, parents: dict[int, _Node]) -> bool:
    """Return whether a node stands beneath another: forged records may go round in circles."""
    while node is not None:
        if node is above:
            return True
        node = parents.get(id(node))
    return False


def _hop(node: _Node) -> Hop:
    assert node.hop is not None, "only gaps have none"
    return node.hop


def _in_order(record: RequestFinished) -> tuple[int, str, bool, str]:
    return record.started_us, record.event_id, record.side == "callee", record.instance


def _by_time(node: _Node) -> tuple[int, str]:
    return node.started_us, node.hop.event_id if node.hop else node.span_id


# --- how it looks ---------------------------------------------------------------------------------


def _summary(records: list[RequestFinished], rows: list[Row]) -> str:
    hops = sum(row.hop is not None for row in rows)
    instances = len({record.instance for record in records})
    took_us = max(one.ended_us for one in records) - min(one.started_us for one in records)
    what = f"{_many(hops, 'request')} of {_many(instances, 'instance')}"
    return f"trace {records[0].trace_id}: {what}, {took_us / 1000:.1f} ms"


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number != 1 else ''}"


def _line(row: Row) -> str:
    bars = "".join("   " if last else "│  " for last in row.is_last[:-1])
    branch = ("└─ " if row.is_last[-1] else "├─ ") if row.is_last else ""
    return bars + branch + (_of_hop(row.hop) if row.hop is not None else _of_gap(row.span_id))


def _of_gap(span_id: str) -> str:
    return (
        f"? span {span_id} is missing: still running, no longer kept, or in a process that did"
        " not answer"
    )


def _of_hop(hop: Hop) -> str:
    first = (*hop.sent, *hop.served)[0]
    said = hop.sent[-1] if hop.sent else first
    parts = [f"{first.target}.{first.operation}"]
    if first.kind != "request":
        parts[0] = f"{first.kind} {parts[0]}"
    if hop.sent:
        parts.append(f"{said.code.lower() if said.code == OK else said.code} {_ms(said)}")
    if hop.sent and said.attempt > 1:
        parts.append(f"attempt {said.attempt}")
    if hop.sent and said.agent:
        parts.append(f"asked by {_who(said)}")
    parts += [_served(record, is_alone=not hop.sent) for record in hop.served]
    if hop.is_unasked:
        parts.append("? no record of who asked")
    if hop.is_unserved:
        parts.append("? no record of who served it")
    return "  ".join(parts)


def _served(record: RequestFinished, *, is_alone: bool) -> str:
    code = f" {record.code}" if is_alone or record.code != OK else ""
    attempt = f", attempt {record.attempt}" if record.attempt > 1 else ""
    return f"served by {_who(record)} in {_ms(record)}{code}{attempt}"


def _who(record: RequestFinished) -> str:
    return f"{record.agent} {record.instance[:8]}".strip()


def _ms(record: RequestFinished) -> str:
    return f"{record.duration_s * 1000:.1f} ms"
