"""What the tests of every system may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).parents[2]
_BESIDE = _REPOSITORY.parent / "shared" / "data" / "online_retail_2009_2010.parquet"


@pytest.fixture(scope="session")
def year_file() -> Path:
    """Return the file of the whole year; `AGENT99_DATA` names another place."""
    path = Path(os.environ.get("AGENT99_DATA") or _BESIDE)
    if not path.is_file():
        pytest.skip(f"the whole year is not at {path}; set AGENT99_DATA to where it lies")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the address of an empty database, of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/system.db"
    address: str = request.getfixturevalue("postgres_url")
    return address
