"""A request's cost, against the budgets of the design and against peers, in one run.

    make bench NAME=request            # a table, in some three minutes
    make bench NAME=request JSON=1     # a JSON array on standard output, and nothing else

Everything is started here and ended here: a nats-server, a server process for each stack, a client
process for each measurement. Stacks take turns, round by round, and each ratio is of one round; the
medians count. The exit code does not tell whether the budgets are met: a bench reports.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from _appends import append_figures, append_ratio, measure_appends
from _bench import ROUNDS_MIN, Options, is_installed, run_bench
from _processes import HERE, client, nats_server, run, serving
from _report import Progress, Row, absent, at_least, at_most, figure, ratios

BOUND = HERE.parent.parent / "shared" / "bench" / "bound.py"
MANY = 64
_SERVE_S = 3_600.0


class Stack(msgspec.Struct):
    """Something that answers orders, and what was measured of it, round by round."""

    name: str
    programme: Path
    why_absent: str = ""
    rps: list[float] = []
    p50_us: list[float] = []


def measure(options: Options, progress: Progress) -> list[Row]:
    """Return every row."""
    stacks = _stacks()
    rounds, seconds = options.rounds, options.seconds
    short_rounds = 1 if options.quick else max(rounds, ROUNDS_MIN)
    with (
        tempfile.TemporaryDirectory(prefix="agent99-bench-") as folder,
        nats_server(Path(folder)) as url,
    ):
        _measure_stacks(stacks, url, rounds, seconds, progress)
        progress.say("appends with an ack")
        append = measure_appends(url, options)
        progress.say("requests that somebody hears of")
        count = 200 if options.quick else 4_000
        arguments = [str(HERE / "_observed.py"), url, str(short_rounds), str(count)]
        observed = run(arguments, seconds=60)
    progress.say("requests within the process, and discover")
    count = 200 if options.quick else 5_000
    local = run([str(HERE / "_local.py"), str(short_rounds), str(count)], seconds=60)
    progress.say("imports")
    imports = [run([str(HERE / "_import.py")], seconds=5) for _ in range(short_rounds)]
    progress.say("agent99 run, to its first answer")
    first = run([str(HERE / "_first_answer.py"), str(short_rounds)], seconds=60)
    return [
        *_remote_rows(stacks),
        *_local_rows(local),
        *_observed_rows(observed),
        append_ratio(append),
        *_start_rows(imports, first),
        *_absolute_rows(stacks, local, append, imports),
        figure("agent99, processor time of both sides", observed["off"], "us"),
    ]


def _stacks() -> dict[str, Stack]:
    bound_absent = "" if BOUND.exists() else "the yardstick ../shared/bench/bound.py is absent"
    peer_absent = "" if is_installed("nats") else "nats-py is not installed"
    if is_installed("faststream") and is_installed("fast_depends"):
        stream_absent = ""
    else:
        stream_absent = "FastStream is not installed"
    return {
        "bound": Stack("the bound", BOUND, bound_absent),
        "natspy": Stack("raw nats-py", HERE / "_stack_natspy.py", peer_absent),
        "ours": Stack("agent99", HERE / "_stack_agent99.py"),
        "faststream": Stack("FastStream", HERE / "_stack_faststream.py", stream_absent),
        "moleculer": Stack("Moleculer", HERE, "Moleculer runs on Node, which is not set up here"),
    }


def _measure_stacks(
    stacks: dict[str, Stack], url: str, rounds: int, seconds: float, progress: Progress
) -> None:
    present = [stack for stack in stacks.values() if not stack.why_absent]
    with contextlib.ExitStack() as servers:
        for stack in present:
            progress.say(f"starting {stack.name}")
            servers.enter_context(serving(stack.programme, url, seconds=_SERVE_S))
        for _ in progress.rounds(f"requests, {MANY} at once and one at a time", rounds):
            for stack in present:
                many = client(stack.programme, url, concurrency=MANY, seconds=seconds)
                stack.rps.append(many["rps"])
            for stack in present:
                one = client(stack.programme, url, concurrency=1, seconds=seconds)
                stack.p50_us.append(one["p50_us"])


def _remote_rows(stacks: dict[str, Stack]) -> list[Row]:
    ours, bound = stacks["ours"], stacks["bound"]
    rows: list[Row] = []
    for key, budget in (
        ("natspy", 2.0),
        ("bound", 0.65),
        ("faststream", None),
        ("moleculer", None),
    ):
        peer = stacks[key]
        name, unit = f"remote request, {MANY} at once, to {peer.name}", "x"
        if peer.why_absent:
            rows.append(absent(name, unit, peer.why_absent))
        elif budget is None:
            rows.append(figure(name, ratios(ours.rps, peer.rps), unit))
        else:
            rows.append(at_least(name, ratios(ours.rps, peer.rps), unit, budget))
    name, unit = f"remote request, one at a time, p50, to {bound.name}", "x"
    if bound.why_absent:
        return [*rows, absent(name, unit, bound.why_absent)]
    return [*rows, at_most(name, ratios(ours.p50_us, bound.p50_us), unit, 1.25)]


def _local_rows(local: dict[str, list[float]]) -> list[Row]:
    return [
        at_least(
            "request in the same process, to a bare call with the codec",
            ratios(local["bare"], local["request"]),
            "x",
            0.5,
        ),
        at_most("discover 10 of 10,000 agents", local["found"], "us", 3.0),
    ]


def _observed_rows(observed: dict[str, list[float]]) -> list[Row]:
    name, off = "processor time of a request with {}, to without", observed["off"]
    return [
        at_most(name.format("metrics"), ratios(observed["metrics"], off), "x", 1.1),
        figure(name.format("the ring of records"), ratios(observed["ring"], off), "x"),
        figure(name.format("both"), ratios(observed["both"], off), "x"),
    ]


def _start_rows(imports: list[dict[str, Any]], first: list[float]) -> list[Row]:
    optional = {name for one in imports for name in one["optional"]}
    loaded = Row(
        "import agent99, optional dependencies", len(optional), "of them", 0.0, not optional
    )
    return [
        at_most("import agent99", [one["wall_ms"] for one in imports], "ms", 40.0),
        loaded,
        at_most("agent99 run to first answer", first, "s", 1.0),
    ]


def _absolute_rows(
    stacks: dict[str, Stack],
    local: dict[str, list[float]],
    append: dict[str, list[float]],
    imports: list[dict[str, Any]],
) -> list[Row]:
    rows: list[Row] = []
    for stack in stacks.values():
        if stack.why_absent:
            continue
        rows.append(figure(f"{stack.name}, {MANY} at once", stack.rps, "requests/s"))
        rows.append(figure(f"{stack.name}, one at a time, p50", stack.p50_us, "us"))
    rows.append(figure("agent99 in the same process", local["request"], "us"))
    rows.append(figure("a bare call with the codec both ways", local["bare"], "us"))
    rows.append(figure("discover, after a change", local["anew"], "us"))
    rows += append_figures(append)
    rows.append(figure("import agent99, processor time", [i["cpu_ms"] for i in imports], "ms"))
    return rows


if __name__ == "__main__":
    sys.exit(run_bench("What a request costs.", measure))
