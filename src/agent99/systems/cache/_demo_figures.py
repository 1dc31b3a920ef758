"""What the cache's demo is given, and what came of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta


class DemoGoods(msgspec.Struct, frozen=True):
    """What is cached, and how often each is asked for: a shop's catalogue and its order lines."""

    prices: Mapping[str, Sequence[int]]
    """By product, what it costs, in pence."""
    asked: Sequence[str]
    """The product of each order line, in the order of the orders: few are bought often."""


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the demo is to run."""

    seconds: Annotated[float, Meta(ge=1.0, le=3_600.0)] = 15.0
    """How long there is a load, and nodes come and go."""
    nodes: Annotated[int, Meta(ge=2, le=16)] = 3
    """At the beginning; one more joins."""
    json: bool = False
    debug: bool = False


class NodePlan(msgspec.Struct, frozen=True):
    """What the process of a node needs to know. It holds a credential: it travels by a pipe."""

    folder: str
    url: str
    mesh: str
    memory_bytes: int
    debug: bool

    def __repr__(self) -> str:
        return f"NodePlan({self.mesh!r})"


class CacheFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    ok: bool
    nodes: int
    """At the end."""
    keys: int
    """That were written, besides counters."""
    took_s: float
    reads: int
    hits: int
    misses: int
    writes: int
    """Acknowledged."""
    unknown: int
    """Changes of which nobody knows whether they were made: their node died over them."""
    failed: int
    """Reads that no node has answered in time."""
    stale: int
    """Reads that gave less than had been acknowledged before they were asked."""
    lost: int
    """Acknowledged writes that are not there at the end."""
    counters: int
    counted: int
    """Additions that were acknowledged."""
    counters_wrong: int
    """Counters that are less than was acknowledged, or more than was tried."""
    joined: int
    left: int
    killed: int
    moves: int
    """Changes of a partition's owner that were seen."""
    partitions_lost: int
    findings: tuple[str, ...]


def rows_of(figures: CacheFigures) -> list[tuple[str, str]]:
    """Return the figures in words."""
    ratio = figures.hits / figures.reads if figures.reads else 0.0
    return [
        ("nodes that joined, left, were killed", _three(figures)),
        ("changes of a partition's owner", f"{figures.moves:,}"),
        ("partitions lost", f"{figures.partitions_lost:,}"),
        ("reads", f"{figures.reads:,}"),
        ("  hits", f"{figures.hits:,} ({ratio:.1%})"),
        ("  stale", f"{figures.stale:,}"),
        ("  without an answer", f"{figures.failed:,}"),
        ("writes acknowledged", f"{figures.writes:,}"),
        ("  lost", f"{figures.lost:,}"),
        ("  and of unknown outcome", f"{figures.unknown:,}"),
        ("additions to counters", f"{figures.counted:,}"),
        ("  counters that are wrong", f"{figures.counters_wrong:,} of {figures.counters:,}"),
        ("time", f"{figures.took_s:,.1f} s"),
    ]


def _three(figures: CacheFigures) -> str:
    return f"{figures.joined}, {figures.left}, {figures.killed}"


def verdict_of(figures: CacheFigures) -> str:
    """Return in a sentence whether all is well."""
    if figures.ok:
        return (
            f"{_what_happened(figures)}, and nothing was lost: every acknowledged write is there,"
            " no read gave anything older, and every counter counts."
        )
    return f"The cache did not keep its word: {len(figures.findings)} kinds of difference."


def _what_happened(figures: CacheFigures) -> str:
    """Return what nodes did: a short run ends before any has died."""
    counts = {"joined": figures.joined, "left": figures.left, "died": figures.killed}
    *others, last = [word for word, count in counts.items() if count] or ["stayed"]
    return f"Nodes {', '.join(others)} and {last}" if others else f"Nodes {last}"
