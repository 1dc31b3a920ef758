"""The options of the demo: what the command says of them is what they are."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest

from agent99.cli._demo import ShopOptions
from agent99.errors import UsageError
from agent99.systems.shop._options import DemoOptions, read_options


@pytest.mark.parametrize("name", ["decline_rate", "seed", "scarcity", "instances", "speed"])
def test_the_help_has_the_defaults_and_the_bounds(name: str) -> None:
    """They are written twice, since the help must not load the shop: they may not differ."""
    (option,) = get_type_hints(ShopOptions, include_extras=True)[name].__metadata__
    assert f"else {getattr(DemoOptions(), name):g}" in option.help
    kind: Any = get_type_hints(DemoOptions, include_extras=True)[name]
    for rule in getattr(kind, "__metadata__", ()):
        assert (rule.ge, rule.le) == (option.min, option.max)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"scarcity": 101.0}, "--scarcity: expected"),
        ({"decline_rate": -0.1}, "--decline-rate: expected"),
        ({"data": ""}, "--data: the name of the file is empty"),
        ({"colour": "red"}, "'colour' is no option"),
    ],
)
def test_an_option_that_makes_no_sense(given: dict[str, Any], rule: str) -> None:
    """The sentence names the option as it is typed."""
    with pytest.raises(UsageError, match=rule):
        read_options(given)
