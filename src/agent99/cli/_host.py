"""Host agents in this process until they are stopped."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from agent99.agent import Agent, Mesh
from agent99.cli._exits import Exit, RefusalError, exit_of
from agent99.cli._show import count, say
from agent99.cli._wish import StopWish, wait_or
from agent99.errors import Agent99Error
from agent99.settings import Settings

END_S = 2.0
"""Seconds that an end at once may take to tell the callers and the registry."""
Announce = Callable[[dict[str, Any]], None]
Observe = Callable[[Mesh], AbstractAsyncContextManager[list[str]]]
"""Watches a mesh meanwhile; gives the addresses of its metrics."""


async def host(
    classes: Sequence[type[Agent]],
    instances: int,
    settings: Settings,
    wish: StopWish,
    observe: Observe,
    announce: Announce,
) -> int:
    """Start `instances` of each class, announce them, and run until a wish or a shutdown.

    Raises:
        RefusalError: an agent did not start; names it.
        UsageError: it cannot be observed so.
        EmbeddedServerError, TransportError: no mesh.
    """
    task = asyncio.current_task()
    wish.give_up = task.cancel if task is not None else None
    try:
        mesh = Mesh(settings=settings)
        async with observe(mesh) as metrics, mesh:
            await _start(mesh, classes, instances)
            wish.give_up = None
            embedded = settings.url is None
            announce({**ready_document(mesh, embedded=embedded), "metrics": metrics})
            return await _serve(mesh, wish)
    except asyncio.CancelledError:
        if not wish.asked.is_set():
            raise
        say("stopped before it was ready")
        return Exit.INTERRUPTED


async def _start(mesh: Mesh, classes: Sequence[type[Agent]], instances: int) -> None:
    for agent_class in classes:
        for _ in range(instances):
            await _start_one(mesh, agent_class)


async def _start_one(mesh: Mesh, agent_class: type[Agent]) -> None:
    try:
        await mesh.host(agent_class())
    except Exception as error:  # noqa: BLE001 - the user's `__init__` and `start`
        failed = error
    else:
        return
    raise _not_started(agent_class, failed) from failed


def _not_started(agent_class: type[Agent], error: Exception) -> RefusalError:
    message = " ".join(str(error).split())
    code = Exit.FAILED
    if isinstance(error, Agent99Error):
        code = exit_of(error)
    else:
        message = f"{type(error).__name__}{f': {message}' if message else ''}"
    name = agent_class.info().name
    return RefusalError(f"agent {name!r} did not start: {message}", code, code="NOT_STARTED")


async def _serve(mesh: Mesh, wish: StopWish) -> int:
    emptied = asyncio.ensure_future(mesh.wait_empty())
    try:
        if await wait_or(emptied, wish.asked) and not wish.asked.is_set():
            say("every agent was shut down")
            return Exit.OK
    finally:
        emptied.cancel()
    return await _drain(mesh, wish)


async def _drain(mesh: Mesh, wish: StopWish) -> int:
    running = count(mesh.in_flight, "operation")
    say(f"draining: {running} in flight; Ctrl-C again ends at once")
    closing = asyncio.ensure_future(mesh.aclose())
    if await wait_or(closing, wish.forced):
        closing.result()
        say("drained")
        return Exit.OK
    say(f"ending at once: {count(mesh.in_flight, 'operation')} given up")
    mesh.abandon()
    await asyncio.wait((closing,), timeout=END_S)
    return Exit.INTERRUPTED


def ready_document(mesh: Mesh, *, embedded: bool) -> dict[str, Any]:
    """Return what runs here and where, for `--json` and for a supervisor."""
    agents: list[dict[str, Any]] = []
    for agent in mesh.hosted:
        about = agent.info()
        agents.append(
            {
                "name": about.name,
                "instance": agent.instance,
                "capabilities": about.capabilities,
                "operations": [operation.name for operation in about.operations],
            }
        )
    return {"mesh": mesh.name, "url": mesh.url, "embedded": embedded, "agents": agents}


def ready_line(document: dict[str, Any], workers: int = 0) -> str:
    """Return the same as one line; with workers, the document is one worker's."""
    groups: dict[str, int] = {}
    for agent in document["agents"]:
        offered = ", ".join(agent["capabilities"])
        asked = ", ".join(agent["operations"])
        more = ": ".join(part for part in (offered, asked) if part)
        text = f"{agent['name']} ({more})" if more else agent["name"]
        groups[text] = groups.get(text, 0) + 1
    shown = "; ".join(f"{times} x {text}" if times > 1 else text for text, times in groups.items())
    where = f"mesh {document['mesh']!r} at {document['url']}"
    kind = " (embedded)" if document["embedded"] else ""
    crew = f"{count(workers, 'worker')} of " if workers else ""
    metrics = f"; metrics at {', '.join(document['metrics'])}" if document["metrics"] else ""
    return f"ready: {crew}{shown} on {where}{kind}{metrics}; Ctrl-C drains"


def set_up_log(*, debug: bool, level: str = "INFO") -> None:
    """Let the agents' log lines out on stderr, unless their own code has set up logging."""
    logging.basicConfig(
        level=level,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)-7s %(message)s",
        datefmt="%H:%M:%S",
    )
    if debug:
        logging.getLogger("agent99").setLevel(logging.DEBUG)
