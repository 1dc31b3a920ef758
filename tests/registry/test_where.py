"""Filters: what they match, and the place at which a bad one breaks."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.errors import InvalidFilterError
from agent99.registry import where
from agent99.registry._where import CLAUSES_MAX, TEXT_CHARACTERS_MAX
from tests.registry._describe import describe

_ORDERS = describe(
    "i1",
    "orders",
    "order_processing",
    "shop",
    version="2.10.0",
    host="node-1",
    metadata={"region": "eu", "cores": "8", "release": "1.10", "version": "x", "note": "a, b|c"},
)


@pytest.mark.parametrize(
    "text",
    [
        "region=eu",
        "region == eu",
        " region = eu , version >= 2 ",
        "region=us|eu",
        "region!=us|asia",
        "colour!=blue",
        "version>=2.10",
        "version=2.10",
        "version>2.9.9",
        "version<2.10.1",
        "version>2.10.0-rc.1",
        "cores>4",
        "cores>=8.0",
        "cores<10",
        "release>1.9.0",
        "name=Orders",
        "kind=server",
        "state=READY",
        "capability=shop, capability=order_processing",
        "capability!=stock",
        "metadata.version=x",
        'note="a, b|c"',
        "host=node-1, instance=i1",
        "region>asia",
    ],
)
def test_matches(text: str) -> None:
    """The filter fits the description."""
    assert where(text).matches(_ORDERS)


@pytest.mark.parametrize(
    "text",
    [
        "region=us",
        "region=EU",
        "region!=eu",
        "region!=us|eu",
        "region=eu, version<2",
        "version>=2.11",
        "version>2.10",
        "version=2",
        "cores>8",
        "colour=blue",
        "colour>a",
        "state=paused",
        "capability=stock",
        "capability!=shop",
        "region<asia",
    ],
)
def test_does_not_match(text: str) -> None:
    """The filter does not fit the description."""
    assert not where(text).matches(_ORDERS)


@pytest.mark.parametrize(
    ("text", "place", "rule"),
    [
        ("", 0, "begins with the name of a field"),
        ("   ", 3, "begins with the name of a field"),
        ("=eu", 0, "begins with the name of a field"),
        ("region", 6, "stands after 'region'"),
        ("region ~ eu", 7, "stands after 'region'"),
        ("region=", 7, "a value stands after '='"),
        ("region=eu,", 9, "a clause stands after a comma"),
        ("region=eu,,zone=a", 10, "begins with the name of a field"),
        ("region=eu zone=a", 14, "a comma or the end stands after a value"),
        ('region="eu" zone=a', 12, "a comma or the end stands after a value"),
        ("cores>4|5", 7, "stands only after = or !="),
        ("region=eu|", 10, "a value stands after '='"),
        ("version>=two", 9, "a version is numbers"),
        ("state=redy", 6, "a state is one of"),
        ("name>orders", 4, "has no order"),
        ('region="eu', 7, "a value stands after"),
    ],
)
def test_a_bad_expression_names_the_place(text: str, place: int, rule: str) -> None:
    """What breaks the grammar is refused with the place and the rule."""
    with pytest.raises(InvalidFilterError) as caught:
        where(text)
    assert place == caught.value.place
    assert rule in caught.value.rule
    assert text == caught.value.text


def test_expressions_are_bounded() -> None:
    """Very long expressions are refused."""
    with pytest.raises(InvalidFilterError, match="characters"):
        where("a=" + "b" * TEXT_CHARACTERS_MAX)
    with pytest.raises(InvalidFilterError, match="clauses"):
        where(",".join(f"l{n}=x" for n in range(CLAUSES_MAX + 1)))


@given(st.text(max_size=40))
def test_any_text_is_a_filter_or_a_typed_error(text: str) -> None:
    """No text whatever raises anything but the typed error, and its place lies in the text."""
    places = [0]
    try:
        where(text).matches(_ORDERS)
    except InvalidFilterError as error:
        places.append(error.place)
    assert 0 <= places[-1] <= len(text)


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=3),
    st.lists(st.integers(0, 12), min_size=1, max_size=3),
)
def test_versions_order_as_padded_tuples(have: list[int], asked: list[int]) -> None:
    """Versions compare number by number, where missing parts are 0."""
    description = describe(version=".".join(map(str, have)))
    padded = [tuple(numbers + [0] * (3 - len(numbers))) for numbers in (have, asked)]
    text = ".".join(map(str, asked))
    assert (padded[0] >= padded[1]) == where(f"version>={text}").matches(description)
    assert (padded[0] < padded[1]) == where(f"version<{text}").matches(description)
    assert (padded[0] == padded[1]) == where(f"version={text}").matches(description)


def test_apply_keeps_the_order() -> None:
    """`apply` returns those that fit, in their order."""
    first, second = describe("i1", metadata={"region": "eu"}), describe("i2")
    third = describe("i3", metadata={"region": "eu"})
    assert (third, first) == where("region=eu").apply([third, second, first])


def test_a_version_that_is_none_is_before_all() -> None:
    """An agent whose version is no version is older than any."""
    assert where("version<0.0.1").matches(describe(version="unknown"))
    assert not where("version>=0").matches(describe(version="unknown"))


def test_a_prerelease_is_before_its_release() -> None:
    """Pre-releases order as semantic versioning has it."""
    ordered = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0"]
    for lower, higher in pairwise(ordered):
        assert where(f"version<{higher}").matches(describe(version=lower)), (lower, higher)
