"""The commands, put together."""

from __future__ import annotations

import typer

from agent99.cli import _demo, _server
from agent99.cli._call import call
from agent99.cli._command import add_command
from agent99.cli._ctl import ctl
from agent99.cli._exits import exit_table
from agent99.cli._info import info
from agent99.cli._ps import ps
from agent99.cli._run import run
from agent99.cli._survey import survey
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
    ("ps", ps),
    ("info", info),
    ("why", why),
    ("ctl", ctl),
    ("version", version),
)


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
    app.add_typer(_server.build_app(), name="server")
    app.add_typer(_demo.build_app(), name="demo")
    return app


def run_app() -> int:
    """Run the command that `sys.argv` names; returns its exit code."""
    try:
        build_app()(prog_name="agent99")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _callback() -> None:
    """Do nothing: what is common to all commands are their own options."""
