"""`agent99 saga cancel` and `retry`: say what shall become of sagas, and wait until it has."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from agent99.cli._confirm import ask_first
from agent99.cli._exits import Exit, RefusalError
from agent99.cli._join import join, run_async
from agent99.cli._saga_find import ID_HELP, find_sagas
from agent99.cli._saga_rows import (
    AgentOption,
    Scene,
    error_line,
    parse_agent,
    print_sagas,
    summary,
    where_text,
)
from agent99.cli._scope import Scope
from agent99.cli._show import count, print_json, say, tell
from agent99.errors import Agent99Error, UsageError

if TYPE_CHECKING:
    from agent99.saga import Desk, SagaView

WAIT_S_MAX = 86_400.0
_GOOD_ENDS = {"cancel": ("cancelled", "failed"), "retry": ("done", "failed", "cancelled")}
"""The ends that are as good as what was asked for: with `failed`, too, everything is undone."""


class AskOptions(msgspec.Struct, frozen=True):
    """The options of `agent99 saga cancel` and `retry`."""

    wait: Annotated[
        float | None,
        typer.Option(
            "--wait",
            metavar="SECONDS",
            min=0,
            max=WAIT_S_MAX,
            help="Wait so long until each has ended, or is stuck again.",
        ),
    ] = None


class RetryOptions(AskOptions, frozen=True):
    """The options of `agent99 saga retry`."""

    all_stuck: Annotated[
        bool, typer.Option("--all-stuck", help="All that are stuck; asks first.")
    ] = False
    agent: AgentOption = ""
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False


class Asked(msgspec.Struct):
    """One saga of which something was asked."""

    before: SagaView
    sequence: int = 0
    """Of the record that says so; 0: it was refused."""
    refusal: str = ""
    after: SagaView | None = None
    """How it stood after the wait; None: it was not waited for."""


Ids = Annotated[list[str], typer.Argument(metavar="ID...", help=ID_HELP)]
MaybeIds = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help=ID_HELP)]


def cancel(scope: Scope, options: AskOptions, ids: Ids) -> int:
    r"""Have sagas undone, as far as they have come; past its pivot a saga only goes forward.

    \b
    agent99 saga cancel 5fe90eb4-c162-50cb-9c1d-78d5a673b209
    agent99 saga cancel 5fe9 --wait 30

    It is written into the saga's journal, and its owner sees it within some seconds; a step that
    runs comes to its end first. Exit code 1 if one has ended or cannot turn back, or, with --wait,
    is not undone then; 3 if one is not there, and then nothing is asked of the others either.
    """
    return run_async(_ask("cancel", scope, options, ids))


def retry(scope: Scope, options: RetryOptions, ids: MaybeIds = None) -> int:
    r"""Have sagas go on that are stuck; what waits for its next attempt is tried at once.

    \b
    agent99 saga retry 5fe90eb4-c162-50cb-9c1d-78d5a673b209 --wait 30
    agent99 saga retry --all-stuck
    agent99 saga retry --all-stuck --agent orders --yes

    Mend first what is in the way: `agent99 saga show` says what it is. Exit codes are those of
    `cancel`; with --wait 1 if one is stuck again, or has not ended.
    """
    words = ids or []
    if bool(words) == options.all_stuck:
        raise RefusalError("say what to retry: the ID of a saga, or more of them, or --all-stuck")
    if not options.all_stuck:
        if options.agent or options.yes:
            raise RefusalError("--agent and --yes go with --all-stuck")
        return run_async(_ask("retry", scope, options, words))
    stuck = run_async(_stuck(scope, parse_agent(options.agent)))
    if stuck and not options.yes:
        ask_first(f"retry {count(len(stuck), 'stuck saga')}?", "nothing was retried")
    return run_async(_ask("retry", scope, options, [view.saga_id for view in stuck]))


async def _stuck(scope: Scope, agent: str) -> list[SagaView]:
    from agent99.saga import Desk

    async with join(scope) as mesh:
        found = await Desk(mesh).stuck_sagas(agent)
        if found and not scope.json:
            print_sagas(found, Scene(mesh))
        return found


async def _ask(verb: str, scope: Scope, options: AskOptions, words: Sequence[str]) -> int:
    from agent99.saga import Desk

    async with join(scope) as mesh:
        desk = Desk(mesh)
        asked = [Asked(view) for view in await find_sagas(desk, words)]
        for one in asked:
            await _ask_one(desk, verb, one, is_alone=len(asked) == 1)
        if not scope.json:
            _tell_asked(verb, asked, Scene(mesh), is_awaited=options.wait is not None)
        if options.wait is not None:
            await _wait_all(desk, asked, options.wait)
        scene = Scene(mesh)
    if scope.json:
        print_json(_document(asked, scene))
    else:
        _tell_ends(asked, scene)
    is_well = all(_is_well(verb, one) for one in asked)
    return Exit.OK if is_well else Exit.FAILED


async def _ask_one(desk: Desk, verb: str, one: Asked, *, is_alone: bool) -> None:
    """Write what is asked of one saga, or note why that cannot be.

    Raises:
        Agent99Error: nobody knows whether it is written; where several are meant, that is noted.
    """
    ask = desk.cancel if verb == "cancel" else desk.retry
    try:
        one.sequence = await ask(one.before.saga_id)
    except UsageError as error:  # it has ended, or there is no way back
        one.refusal = str(error)
    except Agent99Error as error:
        if is_alone:
            raise
        one.refusal = f"saga {one.before.saga_id}: {error} ({error.code})"


async def _wait_all(desk: Desk, asked: Sequence[Asked], wait_s: float) -> None:
    async def wait(one: Asked) -> None:
        saga_id, sequence = one.before.saga_id, one.sequence
        one.after = await desk.wait_settled(saga_id, timeout_s=wait_s, from_sequence=sequence)

    waiting = (wait(one) for one in asked if one.sequence)
    for failed in await asyncio.gather(*waiting, return_exceptions=True):
        if isinstance(failed, BaseException):
            failed.add_note("what was asked for is written")
            raise failed


def _is_well(verb: str, one: Asked) -> bool:
    """Tell whether what was asked for is written and, if it was waited for, done."""
    if not one.sequence:
        return False
    return one.after is None or one.after.history.state in _GOOD_ENDS[verb]


def _document(asked: Sequence[Asked], scene: Scene) -> dict[str, Any]:
    sagas = [
        {
            **summary(one.after or one.before, scene),
            "asked": bool(one.sequence),
            "refusal": one.refusal or None,
            "waited": one.after is not None,
        }
        for one in asked
    ]
    return {"wanted": len(asked), "asked": sum(bool(one.sequence) for one in asked), "sagas": sagas}


def _tell_asked(verb: str, asked: Sequence[Asked], scene: Scene, *, is_awaited: bool) -> None:
    """Say what is written, and what is not; on stderr if the result is still to come."""
    if not asked:
        tell("nothing is stuck")
        return
    for one in asked:
        if one.refusal:
            say(one.refusal)
    written = [one.before.agent for one in asked if one.sequence]
    seen = sum(agent in scene.names for agent in written)
    note = f"; {'its owner sees' if seen == 1 else 'their owners see'} it within some seconds"
    told = f"{verb} of {len(written):,} of {count(len(asked), 'saga')} is written"
    (say if is_awaited else tell)(f"{told}{note if seen else ''}")
    for agent in sorted(set(written) - scene.names):
        say(f"no agent {agent!r} is there now: its sagas go on once there is one")


def _tell_ends(asked: Sequence[Asked], scene: Scene) -> None:
    for one in asked:
        if one.after is not None:
            tell(f"{one.before.saga_id}: {_end(one.after, scene)}")


def _end(view: SagaView, scene: Scene) -> str:
    """Return how a saga stands after the wait."""
    error = error_line(view, scene)
    text = f"{where_text(view, scene)}{f': {error}' if error else ''}"
    if view.history.stuck is not None:
        return text.replace("stuck", "stuck again", 1)
    return text if view.is_settled else f"not ended yet: {text}"
