"""`agent99 run`: agents from files and modules, in one process or under a supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, Any, TextIO

import msgspec
import typer

from agent99.agent import Agent, Mesh
from agent99.cli._exits import Exit
from agent99.cli._host import host, ready_line
from agent99.cli._join import scoped_settings
from agent99.cli._lifeline import Lifeline, find_lifeline
from agent99.cli._load import load_agents
from agent99.cli._observe import LogForm, ObserveOptions, observed, set_up_logs
from agent99.cli._scope import Scope
from agent99.cli._show import print_json, tell
from agent99.cli._wish import StopWish, end_process, end_soon
from agent99.cli._workers import Crew, Plan
from agent99.clock import SystemClock

WORKERS_MAX = 256
INSTANCES_MAX = 10_000


class RunOptions(msgspec.Struct, frozen=True):
    """The options of `agent99 run` alone."""

    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", "-w", min=1, max=WORKERS_MAX, help="So many processes, supervised."
        ),
    ] = None
    count: Annotated[
        int,
        typer.Option(
            "--count", "-c", min=1, max=INSTANCES_MAX, help="Instances of each, in each process."
        ),
    ] = 1


def run(
    scope: Scope,
    options: RunOptions,
    observing: ObserveOptions,
    sources: Annotated[
        list[str], typer.Argument(metavar="FILE|MODULE[:CLASS]...", help="What defines the agents.")
    ],
) -> int:
    r"""Run agents until they are stopped; starts a mesh if there is none.

    \b
    agent99 run greeter.py
    agent99 run shop.orders:OrderProcessing stock.py --count 2
    agent99 run greeter.py --workers 4 --log json --metrics-port 9100

    Without :CLASS every agent that is defined there runs. Ctrl-C (or SIGTERM) drains: nothing new
    is taken, what runs finishes, 25 s at most; a second one ends at once. With --workers a
    supervisor starts processes, starts those that die again (5 times a minute each) and prefixes
    their output.
    """
    lifeline = find_lifeline()
    if options.workers is not None and lifeline is None:
        return _supervise(scope, options, observing, sources)
    return serve_agents(
        scope, observing, lambda: load_agents(sources), options.count, lifeline=lifeline
    )


def serve_agents(
    scope: Scope,
    observing: ObserveOptions,
    load: Callable[[], Sequence[type[Agent]]],
    instances: int = 1,
    *,
    lifeline: Lifeline | None = None,
) -> int:
    """Run agents in this process until they are stopped; returns the exit code.

    Args:
        load: Gives their classes; what it prints goes where what agents print goes.
        instances: Of each class.
        lifeline: To the supervisor, if this process is a worker.

    Raises:
        as `load`, and as `host`.
    """
    with _stdout_for_json(scope) as stdout:
        classes = load()
        set_up_logs(observing, debug=scope.debug)
        settings = scoped_settings(scope)

        def announce(document: dict[str, Any]) -> None:
            if lifeline is not None:
                lifeline.tell_ready(document)
            elif scope.json:
                print_json(document, stdout)
            else:
                tell(ready_line(document))

        def observe(mesh: Mesh) -> AbstractAsyncContextManager[list[str]]:
            return observed(mesh, observing)

        async def work() -> int:
            wish = _wish(lifeline)
            return await host(classes, instances, settings, wish, observe, announce)

        from agent99.dispatch import new_event_loop

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            code = runner.run(work())
            if code == Exit.INTERRUPTED:
                end_process(code)
            end_soon(code)
    return code


def _wish(lifeline: Lifeline | None) -> StopWish:
    wish = StopWish()
    if lifeline is not None:
        lifeline.on_end(wish.ask)
    return wish


@contextlib.contextmanager
def _stdout_for_json(scope: Scope) -> Generator[TextIO]:
    """With `--json` only the document goes to stdout; what agents print goes to stderr."""
    stdout = sys.stdout
    with contextlib.redirect_stdout(sys.stderr) if scope.json else contextlib.nullcontext():
        yield stdout


# --- under a supervisor ---------------------------------------------------------------------------


def _supervise(
    scope: Scope, options: RunOptions, observing: ObserveOptions, sources: Sequence[str]
) -> int:
    settings = scoped_settings(scope)  # what is wrong here is said once
    environ = {**os.environ, "PYTHONUNBUFFERED": "1", "AGENT99_MESH": settings.mesh}
    if scope.url is not None:  # by the environment: a credential never stands on a command line
        environ["AGENT99_URL"] = scope.url
    # -P: else a queue.py in the current folder would be imported instead of Python's own.
    command = [sys.executable, "-P", "-m", "agent99", "run", "--count", str(options.count)]
    command += ["--debug"] if scope.debug else []
    workers = range(options.workers or 1)
    plan = Plan(
        tuple((*command, *observing.words(place), "--", *sources) for place in workers),
        environ,
        crew_name(sources),
        bare=b"{" if observing.log is LogForm.JSON else b"",
    )
    return asyncio.run(_watch_crew(scope, plan))


async def _watch_crew(scope: Scope, plan: Plan) -> int:
    stdout = sys.stderr if scope.json else sys.stdout
    crew = Crew(plan, wish=StopWish(), clock=SystemClock(), stdout=stdout.buffer)
    telling = asyncio.ensure_future(_tell_ready(scope, crew))
    try:
        return await crew.run()
    finally:
        telling.cancel()


async def _tell_ready(scope: Scope, crew: Crew) -> None:
    documents = await crew.wait_ready()
    metrics = [url for document in documents for url in document["metrics"]]
    if scope.json:
        agents = [agent for document in documents for agent in document["agents"]]
        more = {"workers": len(documents), "agents": agents, "metrics": metrics}
        print_json({**documents[0], **more})
    else:
        tell(ready_line({**documents[0], "metrics": metrics}, len(documents)))


def crew_name(sources: Sequence[str]) -> str:
    """Return what the workers are called: the first source's stem, and how many more there are."""
    where, _, class_name = sources[0].partition(":")
    stem = class_name or Path(where).name.removesuffix(".py").rpartition(".")[2]
    return f"{stem}+{len(sources) - 1}" if len(sources) > 1 else stem
