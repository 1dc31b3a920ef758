"""The help texts and the reference."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import typer.main

from agent99.cli._app import build_app
from agent99.cli._exits import MEANINGS

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


def _commands() -> dict[str, Any]:
    """Return every command by its words, such as `server stop`."""
    found: dict[str, Any] = {}
    waiting = [("", typer.main.get_command(build_app()))]
    while waiting:
        words, command = waiting.pop()
        for name, child in getattr(command, "commands", {}).items():
            waiting.append((f"{words} {name}".strip(), child))
        if not hasattr(command, "commands"):
            found[words] = command
    return found


COMMANDS = _commands()


@pytest.mark.parametrize("words", sorted(COMMANDS))
def test_a_command_explains_itself_by_an_example(words: str) -> None:
    """Help begins with a sentence; an example shows the command with its own words."""
    text = inspect.cleandoc(COMMANDS[words].help)
    assert text.splitlines()[0].endswith((".", ";"))
    if words != "version":
        assert f"agent99 {words}" in text


@pytest.mark.parametrize("words", sorted(COMMANDS))
def test_a_command_can_speak_json(words: str) -> None:
    """`--json` everywhere."""
    options = {name for p in COMMANDS[words].params for name in p.opts}
    assert {"--json", "--debug"} <= options


@pytest.mark.parametrize("words", sorted(COMMANDS))
def test_the_reference_has_every_command_and_option(words: str) -> None:
    """The reference cannot go stale."""
    text = REFERENCE.read_text()
    assert f"agent99 {words}" in text
    for parameter in COMMANDS[words].params:
        for option in parameter.opts:
            assert not option.startswith("--") or f"`{option}" in text, option


def test_the_reference_has_every_exit_code() -> None:
    """With the meaning that the help gives."""
    text = REFERENCE.read_text()
    for code, meaning in MEANINGS.items():
        assert f"| {int(code)} | {meaning} |" in text
