"""The data of the shop's tests: the extract always, the whole year where it lies beside the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent99.systems.shop._data import EXTRACT, read_year
from agent99.systems.shop._year import Year

_REPOSITORY = Path(__file__).parents[3]
_BESIDE = _REPOSITORY.parent / "shared" / "data" / "online_retail_2009_2010.parquet"


@pytest.fixture(scope="session")
def year_file() -> Path:
    """Return the file of the whole year; `AGENT99_DATA` names another place."""
    path = Path(os.environ.get("AGENT99_DATA") or _BESIDE)
    if not path.is_file():
        pytest.skip(f"the whole year is not at {path}; set AGENT99_DATA to where it lies")
    return path


@pytest.fixture(scope="session")
def whole_year(year_file: Path) -> Year:
    """Return the whole year."""
    return read_year(year_file)


@pytest.fixture(scope="session")
def extract() -> Year:
    """Return the four weeks that ship in the package."""
    return read_year(EXTRACT)
