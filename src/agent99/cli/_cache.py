"""`agent99 cache`: the nodes of the distributed cache, and what it has for a key."""

from __future__ import annotations

import typer

from agent99.cli._cache_keys import delete, get
from agent99.cli._cache_keys import set_ as set_key
from agent99.cli._cache_nodes import nodes, stats
from agent99.cli._cache_serve import serve
from agent99.cli._command import add_command


def build_app() -> typer.Typer:
    """Return the group of commands."""
    app = typer.Typer(
        help="Look at the distributed cache; read and change its keys; run a node of it.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    commands = (
        *(("nodes", nodes), ("stats", stats), ("get", get)),
        *(("set", set_key), ("delete", delete), ("serve", serve)),
    )
    for name, function in commands:
        add_command(app, name, function)
    return app
