"""The cache's nodes in processes of their own, to redis-server by redis-py: the rows."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from _bench import Options, is_installed
from _processes import HERE, nats_server, read_line, run, started
from _redis import find_redis, redis_server
from _report import Progress, Row, absent, at_least, at_most, figure, ratios

NODES: Final = 2
_MEMORY: Final = 256 * 1024 * 1024
_FIGURES: Final = 6  # of a client, warming up included
_SET_UP_S: Final = 20.0

Figures = dict[str, list[float]]
"""By what was measured, round by round."""


def remote_rows(options: Options, progress: Progress) -> list[Row]:
    """What reads and changes cost over the network, with one copy of each key."""
    ours: Figures = {}
    theirs: Figures = {}
    why = _why_absent()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agent99-bench-")))
        progress.say(f"starting {NODES} nodes of the cache, and Redis")
        url = stack.enter_context(nats_server(folder))
        for _ in range(NODES):
            stack.enter_context(node(url, _MEMORY, replicas=1))
        binary = find_redis()
        if binary is not None and not why:
            redis_url = stack.enter_context(redis_server(binary, folder, keeps=False))
        for _ in progress.rounds("keys read and set", options.rounds):
            _measure(ours, ["_cache_role.py", "client", url], options.seconds)
            if not why:
                _measure(theirs, ["_cache_redis.py", redis_url], options.seconds)
    return rows_of(ours, theirs, why)


@contextlib.contextmanager
def node(url: str, memory_bytes: int, *, replicas: int) -> Iterator[int]:
    """Run a node; gives its process id, once it is ready."""
    role = str(HERE / "_cache_role.py")
    command = [sys.executable, role, "node", url, str(memory_bytes), str(replicas)]
    with started(command) as process:
        read_line(process, "a node of the cache")
        yield process.pid


def rows_of(ours: Figures, theirs: Figures, why_absent: str = "") -> list[Row]:
    """Return the budgets, then what was measured of each.

    Args:
        theirs: Empty where Redis is absent.
    """
    rows: list[Row] = []
    for what, name, budget in (
        ("get_64", "remote get, 64 at once, to redis-py", 2.0),
        ("many", "get_many of 1,000 keys, to redis-py's MGET", 0.5),
        ("set_64", "set with one copy, 64 at once, to redis-py", None),
    ):
        if not theirs:
            rows.append(absent(name, "x", why_absent))
        elif budget is None:
            rows.append(figure(name, ratios(ours[what], theirs[what]), "x"))
        else:
            rows.append(at_least(name, ratios(ours[what], theirs[what]), "x", budget))
    name = "remote get, one at a time, p50, to a bare request"
    rows.append(at_most(name, ratios(ours["get_1"], ours["plain_1"]), "x", 1.3))
    name = "remote get, one at a time, p50, to redis-py"
    if theirs:
        rows.append(figure(name, ratios(ours["get_1"], theirs["get_1"]), "x"))
    for stack, figures in (("agent99", ours), ("redis-py", theirs)):
        rows += [
            figure(f"{stack}, {form}", figures[what], unit)
            for what, form, unit in (
                ("get_64", "get, 64 at once", "keys/s"),
                ("set_64", "set, 64 at once", "keys/s"),
                ("many", "1,000 keys at once", "values/s"),
                ("get_1", "get, one at a time, p50", "us"),
                ("plain_1", "bare request, one at a time, p50", "us"),
            )
            if what in figures
        ]
    return rows


def _why_absent() -> str:
    if not is_installed("redis"):
        return "redis-py is not installed"
    return "" if find_redis() is not None else "redis-server is not installed"


def _measure(figures: Figures, programme: list[str], seconds: float) -> None:
    name, *arguments = programme
    command = [str(HERE / name), *arguments, str(seconds / 2)]
    found: dict[str, float] = run(command, seconds=_FIGURES * seconds + _SET_UP_S)
    for what, value in found.items():
        figures.setdefault(what, []).append(value)
