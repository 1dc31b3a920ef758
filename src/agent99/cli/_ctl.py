"""`agent99 ctl`: steer running agents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import typer

from agent99.agent import Named, Peer, Survey, Target, named
from agent99.cli._call import Timeout
from agent99.cli._exits import Exit, RefusalError
from agent99.cli._find import find_instance, find_named, nobody
from agent99.cli._join import join, run_async
from agent99.cli._scope import Scope
from agent99.cli._show import (
    compact,
    duration,
    print_json,
    print_table,
    short,
    tell,
    with_lacks,
)
from agent99.cli._survey import survey_document, survey_rows
from agent99.cli._values import parse_words

EVERYBODY = "all"
QUIET = frozenset({"pause", "resume", "shutdown", "status", "update_config"})
"""Actions whose answers need no line of their own: only what went wrong is shown."""
_STATUS = (
    *("agent", "instance", "state", "uptime", "requests", "errors", "refused", "in flight"),
    "config",
)


def ctl(
    scope: Scope,
    action: Annotated[
        str,
        typer.Argument(help="shutdown, pause, resume, status, update_config, or one of its own."),
    ],
    target: Annotated[
        str, typer.Argument(help="An agent's name, (the beginning of) an instance's UUID, or all.")
    ] = "",
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="As of `call`.")
    ] = None,
    timeout: Timeout = 5.0,
) -> int:
    r"""Pause, resume, configure or shut down agents; print what each instance answered.

    \b
    agent99 ctl status all
    agent99 ctl pause backend
    agent99 ctl update_config weather-proxy patience_s=2
    agent99 ctl shutdown 3f2a91c0

    Prints how many applied it, and who refused or was silent; exit code 1 if not all applied it.
    """
    if "=" in target or (not target and action != "status"):
        raise RefusalError(
            f"say whom to {action}: an agent's name, an instance, or {EVERYBODY}"
            f" (agent99 ctl {action} {EVERYBODY})"
        )
    payload = parse_words(words or ())
    found, names = run_async(_ctl(scope, action, target or EVERYBODY, payload, timeout))
    applied = len(found.results)
    if scope.json:
        print_json({"applied": applied, **survey_document(found, names)})
    else:
        _show(action, found, names)
    return Exit.OK if applied == found.asked else Exit.FAILED


async def _ctl(
    scope: Scope, action: str, target: str, payload: dict[str, Any], timeout_s: float
) -> tuple[Survey, dict[str, str]]:
    async with join(scope) as mesh:
        peers = mesh.peers()
        found = await mesh.control(
            _whom(peers, action, target), action, payload, timeout_s=timeout_s
        )
        names = {peer.instance: peer.name for peer in peers}
        order = [peer.instance for peer in peers]  # as `ps` shows them
        answers = sorted(found.answers, key=lambda answer: _place(order, answer.instance))
        return msgspec.structs.replace(found, answers=tuple(answers)), names


def _place(order: Sequence[str], instance: str) -> int:
    return order.index(instance) if instance in order else len(order)


def _whom(peers: Sequence[Peer], action: str, target: str) -> Target | None:
    if target == EVERYBODY and peers:
        return None
    if find_named(peers, target):
        whom: Named = named(target)
        return whom
    one = find_instance(peers, target)
    if one is None:
        error = nobody(peers, target, capabilities=False)
        if target.lower() in QUIET:
            error.add_note(f"did you mean agent99 ctl {target.lower()} {action}?")
        raise error
    return one


def _show(action: str, found: Survey, names: dict[str, str]) -> None:
    if action == "status" and found.results:
        print_table(_STATUS, [_status_row(answer.result) for answer in found.answers if answer.ok])
    rows = survey_rows(found, names)
    if action in QUIET:
        rows = [row for row in rows if row[2] != "answered"]
    if rows:
        print_table(("agent", "instance", "outcome", "answer"), rows)
    tell(f"{len(found.results)} of {found.asked} applied")


def _status_row(status: Any) -> tuple[str, ...]:
    operations = status["operations"]
    state = status["state"]
    state = with_lacks(state, status["missing"], status.get("full", ()))  # an older one has none
    return (
        status["name"],
        short(status["instance"]),
        state,
        duration(status["uptime_s"]),
        str(operations["requests"]),
        str(operations["errors"]),
        str(operations["refused"]),
        str(operations["in_flight"] + operations["waiting"]),
        compact(status["config"]),
    )
