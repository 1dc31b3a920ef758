"""What it costs to find a key's owner, against uhashring.

    make bench NAME=cache_lookup

Both have five nodes and are asked for the same keys in turn, within one process: there is no
server, and nothing waits.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Sequence

from _bench import ROUNDS_MIN, Options, is_installed, run_bench
from _report import Progress, Row, absent, at_least, at_most, ratios

from agent99.systems.cache._edits import joined
from agent99.systems.cache._lookup import Lookup
from agent99.systems.cache._table import Node, new_table

NODES = 5
KEYS = 1_000
_LOOKUP_NS_MAX = 300
_RATIO_MIN = 6.0


def measure_lookup(options: Options, progress: Progress) -> list[Row]:
    """Return the rows of the look-up: its cost, and how many times faster it is than uhashring."""
    keys = [f"sessions:user-{number:06}" for number in range(KEYS)]
    count = 10 if options.quick else 200
    lookup, ring = _lookup(), _uhashring()
    ours: list[float] = []
    theirs: list[float] = []
    rounds = 1 if options.quick else max(options.rounds, ROUNDS_MIN)
    for _ in progress.rounds("look-ups of a key's owner", rounds):
        ours.append(_cost_ns(lookup.owner_of, keys, count))
        if ring is not None:
            theirs.append(_cost_ns(ring, keys, max(1, count // 10)))
    rows = [at_most("look-up of a key's owner", ours, "ns", _LOOKUP_NS_MAX)]
    name = "look-up of a key's owner, to uhashring"
    if ring is None:
        return [*rows, absent(name, "x faster", "uhashring is not installed")]
    return [*rows, at_least(name, ratios(theirs, ours), "x faster", _RATIO_MIN)]


def _lookup() -> Lookup:
    table = new_table(replicas=1)
    for number in range(NODES):
        table = joined(table, Node(f"node-{number}", "cache-node", f"instance-{number}"))
    return Lookup(table)


def _uhashring() -> Callable[[str], object] | None:
    if not is_installed("uhashring"):
        return None
    ring = importlib.import_module("uhashring").HashRing([f"node-{n}" for n in range(NODES)])
    get_node: Callable[[str], object] = ring.get_node
    return get_node


def _cost_ns(find: Callable[[str], object], keys: Sequence[str], count: int) -> float:
    # Nothing waits: the processor's time is the cost, and who else runs here does not add to it.
    began = time.process_time_ns()
    for _ in range(count):
        for key in keys:
            find(key)
    return (time.process_time_ns() - began) / (count * len(keys))


if __name__ == "__main__":
    sys.exit(run_bench("the look-up of a key's owner", measure_lookup))
