"""`agent99 events`: stored events, and the groups that work on them."""

from __future__ import annotations

import typer

from agent99.cli._append import publish
from agent99.cli._command import add_command
from agent99.cli._groups import groups
from agent99.cli._replay import replay
from agent99.cli._tail import tail


def build_app() -> typer.Typer:
    """Return the group of commands."""
    app = typer.Typer(
        help="Look at stored events and the groups that work on them; replay them.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    commands = (("tail", tail), ("publish", publish), ("groups", groups), ("replay", replay))
    for name, function in commands:
        add_command(app, name, function)
    return app
