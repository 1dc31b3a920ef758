"""Sagas of four steps per second: agent99, DBOS, and the ten appends of one by bare nats-py.

The steps do nothing, so that what is measured is what it costs to lose none. Each stack is one
process that asks for sagas and runs them, so many at once; `remote` is ours asked by another one.
Where the row says `sync always` whatever is acknowledged is on the disk, as with PostgreSQL and
SQLite; else ours outlives the server's process, and not the machine's power.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import msgspec
from _bench import Options, is_installed
from _postgres import find_postgres, postgres
from _processes import HERE, nats_server, run, serving
from _report import Progress, Row, absent, at_least, figure, ratios

AT_ONCE = (1, 32, 128)
_TO_NATSPY = 0.6
_TO_POSTGRES = {1: 3.0, 32: 6.0}
_TO_SQLITE = {1: 10.0}
_SERVER_S = 120.0  # a remote server is ended long before
_SAGAS = "sagas of four steps"
_APPENDS = "ten appends by raw nats-py"
_SYNCED = "sync always"
_WEAKER = "acknowledged before fsync"
_UNIT = "sagas/s"


class Stack(msgspec.Struct):
    """Something that runs sagas, and what was measured of it, round by round."""

    name: str
    programme: str
    server: str
    at_once: tuple[int, ...] = AT_ONCE
    is_remote: bool = False
    why_absent: str = ""
    per_s: dict[int, list[float]] = {}
    """By how many there were at once."""


def saga_rows(options: Options, progress: Progress) -> list[Row]:
    """Sagas per second, to peers."""
    stacks = make_stacks()
    with tempfile.TemporaryDirectory(prefix="agent99-bench-") as folder:
        _measure(stacks, Path(folder), options, progress)
    return rows_of(stacks)


def make_stacks() -> dict[str, Stack]:
    """Return every stack; those that are not installed say so."""
    no_natspy = "" if is_installed("nats") else "nats-py is not installed"
    no_dbos = "" if is_installed("dbos") else "dbos is not installed"
    no_postgres = no_dbos or ("" if find_postgres() else "PostgreSQL is not installed")
    ours, natspy, dbos = "_sagas_agent99.py", "_sagas_natspy.py", "_sagas_dbos.py"
    remote = "agent99, asked by another process"
    return {
        "ours_synced": Stack(f"agent99, {_SYNCED}", ours, "synced"),
        "postgres": Stack("DBOS on PostgreSQL", dbos, "postgres", why_absent=no_postgres),
        "natspy_synced": Stack(f"{_APPENDS}, {_SYNCED}", natspy, "synced", why_absent=no_natspy),
        "remote_synced": Stack(f"{remote}, {_SYNCED}", ours, "synced", is_remote=True),
        "ours": Stack("agent99", ours, "lazy"),
        "natspy": Stack(_APPENDS, natspy, "lazy", why_absent=no_natspy),
        # More at once wait for one another's lock: it does no more of them, and takes long.
        "sqlite": Stack("DBOS on SQLite", dbos, "sqlite", at_once=(1,), why_absent=no_dbos),
        "remote": Stack(remote, ours, "lazy", is_remote=True),
    }


def rows_of(stacks: dict[str, Stack]) -> list[Row]:
    """Return the ratios, then what was measured of each."""
    rows = _to(stacks, "ours_synced", "postgres", f"{_SYNCED}, to DBOS on PostgreSQL", _TO_POSTGRES)
    rows += _to(stacks, "ours", "sqlite", f"{_WEAKER}, to DBOS on SQLite, after it", _TO_SQLITE)
    budgets = dict.fromkeys(AT_ONCE, _TO_NATSPY)
    rows += _to(stacks, "ours", "natspy", f"to {_APPENDS}", budgets)
    rows += _to(stacks, "ours_synced", "natspy_synced", f"{_SYNCED}, to {_APPENDS}", {})
    for stack in stacks.values():
        if not stack.why_absent:
            rows += [
                figure(f"{_SAGAS}, {at_once} at once, {stack.name}", per_s, _UNIT)
                for at_once, per_s in stack.per_s.items()
            ]
    return rows


def _to(
    stacks: dict[str, Stack], own: str, other: str, text: str, budgets: dict[int, float]
) -> list[Row]:
    """Return the rows of a comparison: one for each number of sagas at once."""
    ours, peer = stacks[own], stacks[other]
    rows: list[Row] = []
    for at_once in peer.at_once:
        name, unit = f"{_SAGAS}, {at_once} at once, {text}", "x"
        if peer.why_absent:
            rows.append(absent(name, unit, peer.why_absent))
            continue
        values = ratios(ours.per_s[at_once], peer.per_s[at_once])
        budget = budgets.get(at_once)
        if budget is None:
            rows.append(figure(name, values, unit))
        else:
            rows.append(at_least(name, values, unit, budget))
    return rows


def _measure(stacks: dict[str, Stack], folder: Path, options: Options, progress: Progress) -> None:
    present = [stack for stack in stacks.values() if not stack.why_absent]
    with contextlib.ExitStack() as servers:
        urls = {"sqlite": f"sqlite:///{folder}/dbos.sqlite"}
        for kind in ("synced", "lazy"):
            (folder / kind).mkdir()
            server = nats_server(folder / kind, sync_always=kind == "synced")
            urls[kind] = servers.enter_context(server)
        binaries = find_postgres()
        if binaries is not None and not stacks["postgres"].why_absent:
            urls["postgres"] = servers.enter_context(postgres(binaries))
        for _ in progress.rounds(_SAGAS, options.rounds):
            for stack in present:
                rates = _sagas_per_s(stack, urls[stack.server], folder, options.seconds / 2)
                for at_once, per_s in zip(stack.at_once, rates, strict=True):
                    stack.per_s.setdefault(at_once, []).append(per_s)


def _sagas_per_s(stack: Stack, url: str, folder: Path, seconds: float) -> list[float]:
    """Return one figure for each number of sagas at once."""
    programme, role = HERE / stack.programme, "client" if stack.is_remote else "inside"
    counts = ["--concurrency", *map(str, stack.at_once), "--seconds", str(seconds)]
    with contextlib.ExitStack() as server:
        if stack.is_remote:
            server.enter_context(serving(programme, url, seconds=_SERVER_S))
        rates: list[float] = run(
            [str(programme), role, "--url", url, *counts],
            seconds=len(stack.at_once) * 2 * seconds,
            cwd=folder,
        )
    return rates
