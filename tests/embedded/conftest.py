"""A state folder per test, and a check that no process outlives it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.embedded._place import Place


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """Give a state folder whose path has spaces and letters beyond ASCII."""
    place = Place(tmp_path / "my pröject ☂" / ".agent99")
    yield place
    await place.close()
