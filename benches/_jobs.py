"""Jobs done per second by one worker: agent99 and its peers, in turns.

Every job is the same order of 400 bytes, validated and confirmed. All are stored before the worker
begins, which is one process, has at most 100 under way and acknowledges each after it was done: a
figure is of a worker alone that never runs out of work. `unstored` is what a peer does without it.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import msgspec
from _bench import Options, is_installed
from _processes import HERE, nats_server, run
from _redis import find_redis, redis_server
from _report import Progress, Row, absent, at_least, figure, ratios

_WARM_UP = 4  # one more job for every so many


class Stack(msgspec.Struct):
    """Something that does jobs, and what was measured of it, round by round."""

    name: str
    programme: str
    server: str
    about_per_s: int
    """What it does on two cores of today: so many jobs make a figure of the seconds wanted."""
    roles: tuple[str, ...] = ("post", "work")
    """Of its processes, one after the other."""
    why_absent: str = ""
    jobs_per_s: list[float] = []


def job_rows(options: Options, progress: Progress) -> list[Row]:
    """Jobs that one worker does in a second, to peers."""
    stacks = make_stacks()
    with tempfile.TemporaryDirectory(prefix="agent99-bench-") as folder:
        _measure(stacks, Path(folder), options, progress)
    return rows_of(stacks)


def rows_of(stacks: dict[str, Stack]) -> list[Row]:
    """Return the ratios, then what was measured of each."""
    ours = stacks["ours"]
    rows: list[Row] = []
    for key, budget in (("taskiq", 1.5), ("celery", None)):
        peer = stacks[key]
        name, unit = f"jobs, one worker, to {peer.name}", "x"
        if peer.why_absent:
            rows.append(absent(name, unit, peer.why_absent))
        elif budget is None:
            rows.append(figure(name, ratios(ours.jobs_per_s, peer.jobs_per_s), unit))
        else:
            rows.append(at_least(name, ratios(ours.jobs_per_s, peer.jobs_per_s), unit, budget))
    present = [stack for stack in stacks.values() if not stack.why_absent]
    rows += [
        figure(f"jobs, one worker, {stack.name}", stack.jobs_per_s, "jobs/s") for stack in present
    ]
    return rows


def make_stacks() -> dict[str, Stack]:
    """Return every stack; those that are not installed say so."""
    has_taskiq = is_installed("taskiq") and is_installed("taskiq_nats")
    no_taskiq = "" if has_taskiq else "taskiq and taskiq-nats are not installed"
    if not (is_installed("celery") and is_installed("redis")):
        no_celery = "celery and redis are not installed"
    else:
        no_celery = "" if find_redis() else "there is no redis-server"
    return {
        "ours": Stack("agent99", "_jobs_agent99.py", "nats", 20_000),
        "taskiq": Stack(
            "Taskiq on JetStream, acknowledged when executed",
            "_jobs_taskiq.py",
            "nats",
            7_000,
            why_absent=no_taskiq,
        ),
        "unstored": Stack(
            "Taskiq on NATS, not stored and not acknowledged",
            "_jobs_taskiq.py",
            "nats",
            14_000,
            roles=("unstored",),
            why_absent=no_taskiq,
        ),
        "celery": Stack(
            "Celery on Redis, acks_late, solo pool",
            "_jobs_celery.py",
            "redis",
            1_000,
            why_absent=no_celery,
        ),
    }


def _measure(stacks: dict[str, Stack], folder: Path, options: Options, progress: Progress) -> None:
    present = {key: stack for key, stack in stacks.items() if not stack.why_absent}
    with contextlib.ExitStack() as servers:
        urls = {"nats": servers.enter_context(nats_server(folder))}
        binary = find_redis()
        if binary is not None and "celery" in present:
            urls["redis"] = servers.enter_context(redis_server(binary, folder))
        for number in progress.rounds("jobs, one worker", options.rounds):
            for key, stack in present.items():
                rate = _jobs_per_s(stack, urls[stack.server], f"{key}-{number}", options.seconds)
                stack.jobs_per_s.append(rate)


def _jobs_per_s(stack: Stack, url: str, queue: str, seconds: float) -> float:
    jobs = max(1, int(stack.about_per_s * seconds))
    counts = ["--warm-up", str(max(1, jobs // _WARM_UP)), "--jobs", str(jobs)]
    figures = {}
    for role in stack.roles:
        command = [str(HERE / stack.programme), role, "--url", url, "--queue", queue, *counts]
        figures = run(command, seconds=seconds)
    return float(figures["jobs_per_s"])
