"""What the cache costs within one process: what is near, who is evicted, what memory it takes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from _bench import ROUNDS_MIN, Options
from _cache_remotes import node
from _processes import HERE, nats_server, resident_bytes, run
from _report import Progress, Row, absent, at_least, at_most, figure, ratios
from cache_hits import KEYS, READS, gains

_NEAR_NS_MAX: Final = 1_000
_NEAR_RATIO: Final = 2.0
_NEAR_COUNT: Final = 100
_BUDGET: Final = 64 * 1024 * 1024
_CONSTANT: Final = 8 * 1024 * 1024
_MEMORY_RATIO: Final = 1.1
_FILL_S: Final = 120.0

Costs = dict[str, list[float]]
"""Nanoseconds of a read, round by round: `awaited`, `nowait`, and `cachetools` if it is there."""


def near_rows(options: Options, progress: Progress) -> list[Row]:
    """What a read costs of what is near."""
    progress.say("reads of what is near")
    rounds = 1 if options.quick else max(options.rounds, ROUNDS_MIN)
    count = 2 if options.quick else _NEAR_COUNT
    arguments = [str(HERE / "_cache_near.py"), str(rounds), str(count)]
    costs: Costs = run(arguments, seconds=rounds * options.seconds)
    return near_rows_of(costs)


def near_rows_of(costs: Costs) -> list[Row]:
    """Return the budgets, then what was measured of each."""
    rows = [at_most("near hit, awaited", costs["awaited"], "ns", _NEAR_NS_MAX)]
    name = "near hit by get_nowait, to cachetools' TTLCache"
    if "cachetools" in costs:
        faster = ratios(costs["cachetools"], costs["nowait"])
        rows.append(at_least(name, faster, "x faster", _NEAR_RATIO))
    else:
        rows.append(absent(name, "x faster", "cachetools is not installed"))
    rows.append(figure("near hit by get_nowait", costs["nowait"], "ns"))
    if "cachetools" in costs:
        rows.append(figure("hit of cachetools' TTLCache", costs["cachetools"], "ns"))
    return rows


def hit_rows(options: Options, progress: Progress) -> list[Row]:
    """How many more reads it answers than LRU; one round, since the traces are given."""
    progress.say("hit ratios")
    keys, reads = (500, 3_000) if options.quick else (KEYS, READS)
    stays, changes = gains(1, keys=keys, reads=reads)
    return [
        at_least("hit ratio above LRU's, popularity that stays", [stays], "", 0.03),
        at_most("hit ratio below LRU's, popularity that changes", [-changes], "", 0.01),
    ]


def memory_rows(options: Options, progress: Progress) -> list[Row]:
    """What a node's process grows by when it is full, and has evicted as much again; one round."""
    progress.say("a node filled to its budget")
    budget = _BUDGET // 16 if options.quick else _BUDGET
    with (
        tempfile.TemporaryDirectory(prefix="agent99-bench-") as folder,
        nats_server(Path(folder)) as url,
        node(url, budget, replicas=0) as pid,
    ):
        before = resident_bytes(pid)
        held: dict[str, float] = run(
            [str(HERE / "_cache_role.py"), "fill", url, str(budget)], seconds=_FILL_S
        )
        grown = resident_bytes(pid) - before
    return memory_rows_of(grown, held["keys"], budget)


def memory_rows_of(grown: int, keys: float, budget: int) -> list[Row]:
    """Return the budget, and what a key takes; there is no tolerance: memory does not drift."""
    ratio = (grown - _CONSTANT) / budget
    name = f"growth of a full node less {_CONSTANT >> 20} MiB, to its budget"
    return [
        Row(name, ratio, "x", _MEMORY_RATIO, ratio <= _MEMORY_RATIO),
        figure("memory of a key with its value of 1,000 bytes", [grown / keys], "bytes"),
    ]
