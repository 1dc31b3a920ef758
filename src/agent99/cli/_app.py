"""The commands, put together."""

from __future__ import annotations

import sys
from typing import Annotated, Any, cast

import typer

from agent99.cli import (
    _analytics,
    _audit,
    _cache,
    _demo,
    _events,
    _quarantine,
    _saga,
    _schedule,
    _server,
)
from agent99.cli._append import append
from agent99.cli._call import call
from agent99.cli._command import add_command, run_safely
from agent99.cli._ctl import ctl
from agent99.cli._exits import Exit, RefusalError, exit_table
from agent99.cli._info import info
from agent99.cli._jobs import jobs
from agent99.cli._post import post
from agent99.cli._ps import ps
from agent99.cli._run import run
from agent99.cli._scope import Output
from agent99.cli._show import say
from agent99.cli._streams import streams
from agent99.cli._survey import survey
from agent99.cli._top import top
from agent99.cli._trace import trace
from agent99.cli._version import version
from agent99.cli._why import why

_HELP = """Agents that find each other by what they can do.

\b
agent99 run greeter.py                # in one terminal: starts a mesh if there is none
agent99 call greeter greet name=Ada   # in another: finds it
agent99 ps                            # who is there"""

_COMMANDS = (
    ("run", run),
    ("call", call),
    ("survey", survey),
    ("post", post),
    ("append", append),
    ("ps", ps),
    ("info", info),
    ("why", why),
    ("top", top),
    ("trace", trace),
    ("ctl", ctl),
    ("jobs", jobs),
    ("streams", streams),
    ("version", version),
)


_WordsError = cast("type[Exception]", typer.BadParameter.__base__)
"""Click's error for words that it cannot parse; typer has no name for it."""


def _tell_version(wanted: bool) -> None:
    if wanted:
        raise typer.Exit(version(Output()))


def build_app() -> typer.Typer:
    """Return the whole command line."""
    app = typer.Typer(
        name="agent99",
        help=_HELP,
        epilog=f"\b\n{exit_table()}",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(_callback)
    for name, function in _COMMANDS:
        add_command(app, name, function)
    app.add_typer(_events.build_app(), name="events")
    app.add_typer(_quarantine.build_app(), name="quarantine")
    app.add_typer(_saga.build_app(), name="saga")
    app.add_typer(_schedule.build_app(), name="schedule")
    app.add_typer(_audit.build_app(), name="audit")
    app.add_typer(_cache.build_app(), name="cache")
    app.add_typer(_analytics.build_app(), name="analytics")
    app.add_typer(_server.build_app(), name="server")
    app.add_typer(_demo.build_app(), name="demo")
    return app


def run_app() -> int:
    """Run the command that `sys.argv` names; returns its exit code."""
    output = Output(json="--json" in sys.argv[1:])  # also when the words cannot be parsed
    return run_safely(output, _run_words)


def _run_words() -> int:
    command = typer.main.get_command(build_app())
    try:
        return int(command.main(prog_name="agent99", standalone_mode=False))
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except typer.Abort:
        say("aborted")
        return Exit.FAILED
    except _WordsError as error:
        return _refuse(error)


def _refuse(error: Any) -> int:
    """Turn the parser's error into one of ours, in one sentence; without a command, show help.

    Raises:
        RefusalError: the words are wrong.
    """
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return Exit.USAGE
    message = " ".join(error.format_message().split()).rstrip(".")
    path = error.ctx.command_path if error.ctx is not None else "agent99"
    raise RefusalError(f"{message[:1].lower()}{message[1:]}; `{path} --help` explains")


def _callback(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_tell_version, help="What is installed; then end."
        ),
    ] = False,
) -> None:
    """Do nothing: what is common to all commands are their own options."""
