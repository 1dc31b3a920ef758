"""`agent99 server`: the project's embedded server."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from agent99.cli._exits import Exit, RefusalError
from agent99.cli._join import run_async
from agent99.cli._scope import Output
from agent99.cli._show import count, duration, print_json, tell
from agent99.embedded import ServerStatus, reset_server, server_logs, server_status, stop_server
from agent99.settings import load_settings, redact_url

LINES_MAX = 10_000


def status(output: Output) -> int:
    r"""Show how the project's server is; exit code 5 if it does not run.

    \b
    agent99 server status
    """
    settings = load_settings()
    found = run_async(server_status(settings))
    if output.json:
        print_json(found)
    else:
        for line in _status_lines(found):
            tell(line)
        if settings.url is not None:
            tell(f"not used: this project's mesh is at {redact_url(settings.url)}")
    return Exit.OK if found.running else Exit.MESH


def _status_lines(found: ServerStatus) -> list[str]:
    if not found.running:
        return [f"no server runs for the state folder {found.state_folder}"]
    up = duration(found.uptime_s or 0.0)
    lines = [f"nats-server {found.version} at {found.url}, up {up}, pid {found.pid}"]
    if found.supervisor_pid is None:
        lines.append("its supervisor is gone; a user will start another")
    else:
        lines.append(f"supervisor pid {found.supervisor_pid}")
    if found.users is not None:
        lines.append(f"used by {count(found.users, 'process', 'processes')}")
    if found.store_bytes is not None and found.streams is not None:
        size = f"{found.store_bytes / 1e6:,.1f} MB"
        lines.append(f"{count(found.streams, 'stream')}, {size} in {found.state_folder}")
    return lines


def stop(output: Output) -> int:
    r"""Stop the project's server, used or not; what is stored stays.

    \b
    agent99 server stop
    """
    ran = run_async(stop_server(load_settings()))
    if output.json:
        print_json({"stopped": ran})
    else:
        tell("stopped" if ran else "no server ran")
    return Exit.OK


def reset(
    output: Output,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> int:
    r"""Stop the project's server and delete everything that it stored.

    \b
    agent99 server reset --yes
    """
    settings = load_settings()
    if not yes:
        question = f"delete all that is stored in {settings.state_folder}?"
        if not sys.stdin.isatty():
            raise RefusalError(f"{question} say --yes")
        if not typer.confirm(question, err=True):
            raise RefusalError("nothing was deleted", Exit.FAILED)
    ran = run_async(reset_server(settings))
    if output.json:
        print_json({"reset": True, "stopped": ran})
    else:
        tell(f"{'stopped, and ' if ran else ''}the store is empty")
    return Exit.OK


def logs(
    output: Output,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=1, max=LINES_MAX, help="How many, from the end.")
    ] = 50,
) -> int:
    r"""Print the end of the server's log.

    \b
    agent99 server logs -n 200
    """
    found = server_logs(load_settings(), lines=lines)
    if output.json:
        print_json({"lines": found})
    else:
        for line in found:
            tell(line)
    return Exit.OK


def build_app() -> typer.Typer:
    """Return the group of commands."""
    from agent99.cli._command import add_command

    app = typer.Typer(
        help="Look at, stop or empty the server that `agent99 run` starts.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    for name, function in (("status", status), ("stop", stop), ("logs", logs), ("reset", reset)):
        add_command(app, name, function)
    return app
