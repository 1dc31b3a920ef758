"""A project in a temporary folder, and a mesh that a whole file of tests shares."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent99.cli._app import run_app
from tests.cli._cli import Ask, Cli, Done, Within
from tests.cli._programmes import CREW


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """Give a project of the test's own; everything that it started is ended afterwards."""
    cli = Cli(tmp_path / "my pröject")
    yield cli
    cli.close()


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Give a project whose mesh is up: two greeters and two echoes. Leave it as it was."""
    cli = Cli(tmp_path_factory.mktemp("crew") / "project")
    cli.write("crew.py", CREW)
    try:
        cli.start("run", "crew.py", "--count", "2").wait_line("^ready: ")
        yield cli
    finally:
        cli.close()


@pytest.fixture
def within(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Within:
    """Give `within(cli)`: what runs a project's commands in this process, which saves a start."""

    def of(cli: Cli) -> Ask:
        monkeypatch.chdir(cli.folder)
        for key in [key for key in os.environ if key.startswith("AGENT99_")]:
            monkeypatch.delenv(key)
        for key in ("AGENT99_STATE", "AGENT99_LINGER_S", "NO_COLOR"):
            monkeypatch.setenv(key, cli.environ[key])

        def run(*words: str) -> Done:
            monkeypatch.setattr("sys.argv", ["agent99", *words])
            code = run_app()
            out, err = capsys.readouterr()
            return Done(code, out, err)

        return run

    return of


@pytest.fixture
def ask(crew: Cli, within: Within) -> Ask:
    """Give `ask(*words)`: the crew's command line, in this process."""
    return within(crew)
