"""Make a function a command: shared options, one place where errors become sentences and codes."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable
from typing import Any

import msgspec
import typer

from agent99.cli._exits import Exit, RefusalError, error_document, event_id_of, exit_of
from agent99.cli._scope import Output
from agent99.cli._show import let_go_of, print_json, say
from agent99.errors import Agent99Error, UsageError

Command = Callable[..., int]


def add_command(app: typer.Typer, name: str, function: Command) -> None:
    """Add `function` to the app, as a command that ends with the exit code that it returns.

    A parameter whose type is a Struct stands for one option per field of it; one of them is an
    `Output`, which says how to talk. The docstring is the help.
    """
    signature = inspect.signature(function, eval_str=True)
    groups: dict[str, type[msgspec.Struct]] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        kind = parameter.annotation
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            groups[parameter.name] = kind
            parameters += _options_of(kind)
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    def invoke(**given: Any) -> None:
        for group, kind in groups.items():
            fields = {field: given.pop(field) for field in kind.__struct_fields__}
            given[group] = kind(**fields)
        output = next(value for value in given.values() if isinstance(value, Output))
        raise typer.Exit(run_safely(output, lambda: function(**given)))

    invoke.__name__ = function.__name__
    invoke.__doc__ = function.__doc__
    invoke.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # what typer reads
    invoke.__annotations__ = {p.name: p.annotation for p in parameters}
    app.command(name, help=help_of(function))(invoke)


def help_of(function: Command) -> str:
    r"""Return a docstring as help: a paragraph that begins with `\b` keeps its lines."""
    return (inspect.getdoc(function) or "").replace(r"\b", "\b")


def _options_of(kind: type[msgspec.Struct]) -> list[inspect.Parameter]:
    hints = inspect.get_annotations(kind, eval_str=True)
    for base in kind.__mro__[1:]:
        if issubclass(base, msgspec.Struct) and base is not msgspec.Struct:
            hints = {**inspect.get_annotations(base, eval_str=True), **hints}
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.required else field.default,
            annotation=hints[field.name],
        )
        for field in msgspec.structs.fields(kind)
    ]


def run_safely(output: Output, work: Callable[[], int]) -> int:
    """Run a command's work; an error becomes one sentence on stderr and an exit code."""
    try:
        return _run_told(output, work)
    except KeyboardInterrupt:
        say("interrupted")
        return Exit.INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough, as `head` does
        let_go_of(sys.stdout)
        return Exit.FAILED
    except OSError as error:
        return _report_system(output, error)


def _run_told(output: Output, work: Callable[[], int]) -> int:
    try:
        return work()
    except Agent99Error as error:
        return report(output, error)


def _report_system(output: Output, error: OSError) -> Exit:
    """Tell what the system refused; most often it is stdout, with a full disk behind it."""
    about = f": {error.filename}" if error.filename else ""
    message = f"the system refuses: {error.strerror or error}{about}"
    failed = RefusalError(message, Exit.FAILED, code="SYSTEM")
    failed.__cause__ = error
    try:
        sys.stdout.flush()
        return report(output, failed)
    except OSError:
        let_go_of(sys.stdout)
        return report(output, failed)


def report(output: Output, error: Agent99Error) -> Exit:
    """Tell of an error; returns the exit code that goes with it."""
    if output.debug:
        traceback.print_exception(error)
    if output.json:
        print_json(error_document(error))
    event = f"event {event_id_of(error)}"  # a note, for tracebacks; here it stands with the code
    notes = (note for note in getattr(error, "__notes__", ()) if note != event)
    say("; ".join((f"{error}{_codes(error)}", *notes)))
    return exit_of(error)


def _codes(error: Agent99Error) -> str:
    """Return what tables and logs go by: an error's code, and the event id of a request."""
    if isinstance(error, (RefusalError, UsageError)):
        return ""  # the sentence is all there is to know
    event_id = event_id_of(error)
    return f" ({error.code}, event {event_id})" if event_id else f" ({error.code})"
