"""A project in a temporary folder, and a mesh that a whole file of tests shares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli._cli import Cli
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
