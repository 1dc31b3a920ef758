"""Where the agents keep their data, and the options of the demo: every bad value by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent99.errors import UsageError
from agent99.systems.shop import load_shop_settings, run_demo
from agent99.systems.shop._data import EXTRACT
from agent99.systems.shop._declines import DeclineRule
from agent99.systems.shop._options import read_options
from agent99.systems.shop._settings import settings_in


def test_without_a_word_it_is_in_the_project(tmp_path: Path) -> None:
    """A file for each agent, in a folder that is made; no declines, stock held for 15 minutes."""
    state = tmp_path / "state"
    settings = load_shop_settings({"AGENT99_STATE": str(state)})
    assert settings_in(state / "shop") == settings
    assert (state / "shop").is_dir()
    assert f"sqlite:///{state}/shop/stock.db" == settings.stock_url
    assert DeclineRule(rate=0.0) == settings.declines
    assert 900.0 == settings.hold_s


def test_the_environment_says_where_and_what() -> None:
    """One database for all, and the bank's share; a credential is never shown."""
    settings = load_shop_settings(
        {
            "AGENT99_SHOP_STORE": "postgresql://me:secret@db/shop",
            "AGENT99_SHOP_DECLINE_RATE": "0.25",
            "AGENT99_SHOP_SEED": "7",
            "AGENT99_SHOP_HOLD_S": "0.5",
        }
    )
    assert 1 == len({settings.orders_url, settings.stock_url, settings.payments_url})
    assert DeclineRule(rate=0.25, seed=7) == settings.declines
    assert 0.5 == settings.hold_s
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("AGENT99_SHOP_DECLINE_RATE", "often", "must be a number"),
        ("AGENT99_SHOP_DECLINE_RATE", "1.5", "between 0 and 1"),
        ("AGENT99_SHOP_SEED", "0.5", "must be a whole number"),
        ("AGENT99_SHOP_HOLD_S", "soon", "must be a number"),
        ("AGENT99_SHOP_HOLD_S", "0", "held for 0.0 s"),
        ("AGENT99_SHOP_HOLD_S", "nan", "held for nan s"),
        ("AGENT99_SHOP_HOLD_S", "604801", "at most 7 days"),
    ],
)
def test_a_variable_that_makes_no_sense(tmp_path: Path, name: str, value: str, part: str) -> None:
    """One sentence, before anything is opened."""
    with pytest.raises(UsageError, match=part):
        load_shop_settings({name: value, "AGENT99_STATE": str(tmp_path)})


def test_the_options_of_the_demo() -> None:
    """By default the extract, one in twenty declined, nothing scarce, two instances."""
    options = read_options({})
    assert (EXTRACT, 0.05, 0, 1.0, 2) == (
        options.path,
        options.decline_rate,
        options.seed,
        options.scarcity,
        options.instances,
    )
    assert Path("year.parquet") == read_options({"data": "year.parquet"}).path


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"decline_rate": 1.5}, "--decline-rate: expected `float` <= 1.0"),
        ({"decline_rate": -0.1}, "--decline-rate: expected `float` >= 0.0"),
        ({"scarcity": -1.0}, "--scarcity"),
        ({"scarcity": float("nan")}, "--scarcity"),
        ({"instances": 0}, "--instances"),
        ({"instances": 33}, "--instances"),
        ({"speed": -1.0}, "--speed"),
        ({"speed": float("inf")}, "--speed"),
        ({"seed": "many"}, "--seed: expected `int`"),
        ({"colour": "red"}, "'colour' is no option"),
    ],
)
def test_an_option_out_of_range(given: dict[str, Any], part: str) -> None:
    """It is named, with what it may be; nothing is started."""
    with pytest.raises(UsageError) as caught:
        run_demo(given)
    assert part in str(caught.value)


@pytest.mark.parametrize("name", ["nothing.parquet", "words.parquet", "columns.parquet"])
def test_a_file_that_is_no_year(tmp_path: Path, name: str) -> None:
    """It is named, and what had been started for it has ended."""
    import polars as pl

    (tmp_path / "words.parquet").write_text("these are words")
    pl.DataFrame({"Invoice": ["1"]}).write_parquet(tmp_path / "columns.parquet")
    with pytest.raises(UsageError, match=name):
        run_demo({"data": str(tmp_path / name)})
