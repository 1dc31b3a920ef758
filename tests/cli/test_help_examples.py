"""The examples of the help texts and of the reference work with the agents that come along."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli._cli import Cli, Within
from tests.cli.test_help import COMMANDS

ROOT = Path(__file__).parents[2]
ASKING = (
    *("call", "survey", "post", "append", "events publish", "ps", "info", "why", "top", "trace"),
    *("ctl", "streams", "schedule at", "schedule every", "schedule cron", "schedule list"),
)
"""Commands that look at a mesh or ask it."""
SOME_INSTANCE = "3f2a91c0"
"""Stands for an instance in the documents."""
SOME_TRACE = "6f1d2c3b12344abc8def0123456789ab"
"""Stands for a trace; with dashes, for a request."""
_LINE = re.compile(rf"^(?:\$ )?(agent99 (?:{'|'.join(ASKING)})\b.*)$", re.MULTILINE)


def _examples() -> dict[str, None]:
    texts = [command.help.replace("\n    ", "\n") for command in COMMANDS.values()]
    texts += [(ROOT / "docs" / "reference" / name).read_text() for name in ("cli.md", "control.md")]
    return dict.fromkeys(line.strip() for text in texts for line in _LINE.findall(text))


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Give a project whose mesh has every agent of the examples, twice."""
    cli = Cli(tmp_path_factory.mktemp("examples") / "project")
    files = sorted(str(path) for path in (ROOT / "examples").glob("*.py"))
    try:
        cli.start("run", *files, "--count", "2").wait_line("^ready: ")
        yield cli
    finally:
        cli.close()


@pytest.mark.parametrize("line", _examples())
def test_an_example_works(examples: Cli, within: Within, line: str) -> None:
    """Typed as it stands, it ends with exit code 0."""
    run = within(examples)
    words = shlex.split(line.partition(" | ")[0], comments=True)[1:]
    if SOME_INSTANCE in words:
        found = run("ps", "--json").document["instances"]
        some = next(i["instance"][:8] for i in found if i["name"] == "worker")
        words = [some if word == SOME_INSTANCE else word for word in words]
    if words[0] == "trace":
        traced = run("call", "greeter", "greet", "--trace").err.split()[1].rstrip(":")
        words = [traced if word.replace("-", "") == SOME_TRACE else word for word in words]
    done = run(*words)
    if "pause" in words:
        run("ctl", "resume", "all")
    assert 0 == done.code, (done.out, done.err)
    assert bool(done.err) == ("--trace" in words), done.err
