"""The options that commands share."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer


class Output(msgspec.Struct, frozen=True):
    """How a command talks; every command has these."""

    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, nothing else.")
    ] = False
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and agent99's own log.")
    ] = False


class Scope(Output, frozen=True):
    """Which mesh a command is about; every command that needs one has these."""

    mesh: Annotated[
        str | None,
        typer.Option("--mesh", metavar="NAME", help="The mesh; else AGENT99_MESH, main."),
    ] = None
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="The NATS server; else AGENT99_URL, else the project's own server.",
        ),
    ] = None
