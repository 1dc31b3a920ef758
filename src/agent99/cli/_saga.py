"""`agent99 saga`: the durable functions that run, wait, are stuck, or have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from agent99.cli._exits import Exit
from agent99.cli._join import join, run_async
from agent99.cli._saga_ask import cancel, retry
from agent99.cli._saga_find import ID_HELP, find_saga, find_sagas
from agent99.cli._saga_one import one_document, print_one
from agent99.cli._saga_rows import AgentOption, Scene, parse_agent, print_sagas, summary
from agent99.cli._scope import Scope
from agent99.cli._show import count, print_json, tell

if TYPE_CHECKING:
    from agent99.agent import Mesh
    from agent99.saga import Listing

LIMIT = 100
LIMIT_MAX = 100_000


class ListOptions(msgspec.Struct, frozen=True):
    """The options of `agent99 saga list` alone."""

    agent: AgentOption = ""
    every: Annotated[
        bool, typer.Option("--all", help="Also those that have ended; the newest last.")
    ] = False
    limit: Annotated[
        int,
        typer.Option(
            "--limit",
            metavar="N",
            min=1,
            max=LIMIT_MAX,
            help=f"At most so many: the oldest, with --all the newest; {LIMIT} by default.",
        ),
    ] = LIMIT


def list_sagas(
    scope: Scope,
    options: ListOptions,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="These alone, ended or not.")
    ] = None,
) -> int:
    r"""List the sagas that are open, the oldest first: where each is, and what went wrong.

    \b
    agent99 saga list
    agent99 saga list --agent orders --all --limit 20
    agent99 saga list --json | jq -r '.sagas[] | select(.state == "stuck") | .saga_id'

    It runs, waits until a moment, is being undone, or is stuck: then somebody has to mend what is
    in its way and say `agent99 saga retry`. An owner that is gone is so marked: another instance of
    the agent goes on with it, once there is one. Ended sagas are kept for seven days.
    """
    return run_async(_list(scope, options, ids or []))


async def _list(scope: Scope, options: ListOptions, words: list[str]) -> int:
    from agent99.saga import Desk, Listing

    agent = parse_agent(options.agent)
    async with join(scope) as mesh:
        desk, limit = Desk(mesh), options.limit
        if words:
            found = await find_sagas(desk, words)
            listing = Listing(tuple(found), len(found))
        elif options.every:
            listing = await desk.last_sagas(agent, count_max=limit)
        else:
            listing = await desk.open_sagas(agent, count_max=limit)
        scene = Scene(mesh)
        if scope.json:
            sagas = [summary(view, scene) for view in listing.sagas]
            print_json({"mesh": mesh.name, "sagas": sagas, "count": listing.count})
            return Exit.OK
        if listing.sagas:
            print_sagas(listing.sagas, scene)
        tell(_last_line(mesh, listing, options, words))
    return Exit.OK


def _last_line(mesh: Mesh, listing: Listing, options: ListOptions, words: list[str]) -> str:
    """Return how many of how many are shown, and which were left out."""
    shown, total = len(listing.sagas), listing.count
    kind = "saga" if options.every or words else "open saga"
    of = f" of agent {options.agent!r}" if options.agent and not words else ""
    where = f"{of} on mesh {mesh.name!r} at {mesh.url}"
    if not total:
        return f"no {kind}s{where}"
    rest = ""
    if total > shown:
        age = "older" if options.every else "younger"
        rest = f"; {total - shown:,} {age} left out (--limit)"
    return f"{shown:,} of {count(total, kind)}{where}{rest}"


# --- show -----------------------------------------------------------------------------------------


def show(scope: Scope, saga_id: Annotated[str, typer.Argument(metavar="ID", help=ID_HELP)]) -> int:
    r"""Show all of one saga: its request, its steps, what befell it, its answer or error.

    \b
    agent99 saga show 5fe90eb4-c162-50cb-9c1d-78d5a673b209
    agent99 saga show 5fe9
    agent99 saga show 5fe9 --json | jq '.steps[] | select(.error)'

    The id stands in `agent99 saga list`, and in the answer PENDING, as details.saga_id. What steps
    returned, or failed with, is shortened; --json has it whole. Exit code 3 if there is no such
    saga, or if several open ones begin so.
    """
    return run_async(_show(scope, saga_id))


async def _show(scope: Scope, word: str) -> int:
    from agent99.saga import Desk

    async with join(scope) as mesh:
        view = await find_saga(Desk(mesh), word)
        scene = Scene(mesh)
        if scope.json:
            print_json(one_document(view, scene))
        else:
            print_one(view, scene)
    return Exit.OK


def build_app() -> typer.Typer:
    """Return the group of commands."""
    from agent99.cli._command import add_command

    app = typer.Typer(
        help="Look at durable functions; cancel them, or have them go on.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    commands = (("list", list_sagas), ("show", show), ("cancel", cancel), ("retry", retry))
    for name, function in commands:
        add_command(app, name, function)
    return app
