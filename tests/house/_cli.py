"""The command line's commands, as the programme itself knows them."""

from __future__ import annotations

import importlib
from typing import Any

import typer


def commands() -> set[str]:
    """Return every command by its words, without the programme's: `run`, `server status`."""
    module = importlib.import_module("agent99.cli._app")
    found: set[str] = set()
    _collect(typer.main.get_command(module.build_app()), "", found)
    return found


def _collect(command: Any, path: str, found: set[str]) -> None:
    inner = getattr(command, "commands", {})
    for name, child in inner.items():
        if not child.hidden:
            _collect(child, f"{path} {name}".strip(), found)
    if path and (not inner or getattr(command, "invoke_without_command", False)):
        found.add(path)
