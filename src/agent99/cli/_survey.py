"""`agent99 survey`: ask every instance of a capability."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from agent99.agent import Answer, Survey
from agent99.cli._call import Timeout, warn_of_fields
from agent99.cli._exits import Exit
from agent99.cli._find import find_capable, nobody, unavailable
from agent99.cli._join import join, run_async
from agent99.cli._scope import Scope
from agent99.cli._show import compact, count, print_json, print_table, say, short, tell
from agent99.cli._values import parse_payload
from agent99.dispatch import DEFAULT_OPERATION


class SurveyOptions(msgspec.Struct, frozen=True):
    """The options of `agent99 survey` alone."""

    json_payload: Annotated[
        str | None, typer.Option("--json-payload", metavar="JSON", help="The payload, an object.")
    ] = None
    timeout: Timeout = 5.0
    wanted: Annotated[
        int | None, typer.Option("--wanted", metavar="N", min=1, help="So many results are enough.")
    ] = None


def survey(
    scope: Scope,
    options: SurveyOptions,
    capability: Annotated[str, typer.Argument(help="Whom to ask: all who offer it.")],
    operation: Annotated[str, typer.Argument(help="What to ask for.")] = DEFAULT_OPERATION,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="As of `call`.")
    ] = None,
) -> int:
    r"""Ask every instance of a capability; print who answered what, and who did not.

    \b
    agent99 survey weather_station measure city=Oslo
    agent99 survey backend handle item=7 --wanted 1 --timeout 1

    Exit code 0 if all answered with a result (or as many as were wanted), 1 if not, 3 if there is
    nobody to ask.
    """
    given = list(words or ())
    if "=" in operation:  # the operation was left out
        given.insert(0, operation)
        operation = DEFAULT_OPERATION
    payload = parse_payload(given, options.json_payload)
    found, names = run_async(_survey(scope, options, capability, operation, payload))
    if scope.json:
        print_json(survey_document(found, names))
    else:
        _show(found, names)
    if options.wanted is not None:
        if len(found.results) >= options.wanted:
            return Exit.OK
        few = count(len(found.results), "result")
        say(f"{options.wanted} were wanted, and {few} came of {found.asked} that were asked")
        return Exit.FAILED
    return Exit.OK if len(found.results) == found.asked else Exit.FAILED


async def _survey(
    scope: Scope, options: SurveyOptions, capability: str, operation: str, payload: Any
) -> tuple[Survey, dict[str, str]]:
    async with join(scope) as mesh:
        peers = mesh.peers()
        warn_of_fields(find_capable(peers, capability), operation, payload)
        found = await mesh.survey(
            capability, operation, payload, timeout_s=options.timeout, wanted=options.wanted
        )
        if not found.asked:
            if capable := find_capable(peers, capability):
                raise unavailable(capable, capability)
            raise nobody(peers, capability, capabilities=True)
        return found, {peer.instance: peer.name for peer in peers}


def survey_document(found: Survey, names: dict[str, str]) -> dict[str, Any]:
    """Return a survey as JSON: answers, refusals, and who was silent."""
    return {
        "asked": found.asked,
        "answers": [_answer_document(answer, names) for answer in found.answers],
        "silent": [
            {"instance": instance, "name": names.get(instance, "")} for instance in found.silent
        ],
    }


def _answer_document(answer: Answer, names: dict[str, str]) -> dict[str, Any]:
    document: dict[str, Any] = {
        "instance": answer.instance,
        "name": answer.name or names.get(answer.instance, ""),
        "ok": answer.ok,
    }
    if answer.error is None:
        return {**document, "result": answer.result}
    return {**document, "error": {"code": answer.error.code, "message": str(answer.error)}}


def survey_rows(found: Survey, names: dict[str, str]) -> list[tuple[str, str, str, str]]:
    """Return agent, instance, outcome and answer of each that was asked."""
    rows = [
        (
            answer.name or names.get(answer.instance, ""),
            short(answer.instance),
            "answered" if answer.error is None else answer.error.code,
            compact(answer.result) if answer.error is None else str(answer.error),
        )
        for answer in found.answers
    ]
    silent = [(names.get(i, ""), short(i), "silent", "no answer in time") for i in found.silent]
    return [*rows, *silent]


def _show(found: Survey, names: dict[str, str]) -> None:
    print_table(("agent", "instance", "outcome", "answer"), survey_rows(found, names))
    tell(f"{len(found.results)} of {found.asked} answered")
