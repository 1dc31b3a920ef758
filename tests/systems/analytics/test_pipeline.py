"""What a pipeline and a job may be."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import pytest

from agent99.errors import UsageError
from agent99.systems.analytics import (
    Count,
    CountOf,
    Hopping,
    Job,
    Max,
    Mean,
    Min,
    Pipeline,
    Session,
    Sliding,
    Source,
    Sum,
    Tumbling,
    Variance,
)


class Line(msgspec.Struct):
    """A line of an invoice."""

    sold_at: datetime
    country: str
    quantity: int
    price: float
    is_gift: bool


LINES = Source("lines", Line, time="sold_at", shards=2, shard_by="country")


def _pipeline(**changed: Any) -> Pipeline:
    right: dict[str, Any] = {
        "name": "revenue",
        "source": LINES,
        "key": ("country",),
        "window": Tumbling(3600),
        "columns": {"twice": lambda quantity: 2 * quantity},
        "aggregates": {"lines": Count(), "units": Sum("quantity"), "twice": Sum("twice")},
    }
    return Pipeline(**(right | changed))


def test_a_pipeline_knows_what_a_cell_holds() -> None:
    """A cell counts the records first; if they make the window's ends, their times are next."""
    assert _pipeline().measures == (Count(), Count(), Sum("quantity"), Sum("twice"))
    for window in (Session(60), CountOf(5)):
        measures = _pipeline(window=window, aggregates={"units": Sum("quantity")}).measures
        assert measures == (Count(), Min("sold_at"), Max("sold_at"), Sum("quantity"))


def test_a_parameter_with_a_default_keeps_it() -> None:
    """A function in a loop may hold a value by a default, as Python has it."""
    made = {f"times_{n}": lambda quantity, n=n: n * quantity for n in (1, 2)}
    pipeline = _pipeline(columns=made, aggregates={"lines": Count()})
    assert [one.parameters for one in pipeline.computes] == [("quantity",)] * 2


async def _asynchronous(quantity: int) -> int:
    return quantity


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"name": "no name"}, "no name"),
        ({"source": "lines"}, "source"),
        ({"key": ("colour",)}, "'colour'"),
        ({"key": "country"}, "tuple"),
        ({"window": 3600}, "window"),
        ({"aggregates": {}}, "no aggregates"),
        ({"aggregates": [Count()]}, "no aggregates"),
        ({"aggregates": {"n": Count}}, "'n' is no aggregate"),
        ({"aggregates": {"n": Sum("colour")}}, "'colour'"),
        ({"aggregates": {"n": Sum("price")}}, "float, not int"),
        ({"aggregates": {"n": Sum("is_gift")}}, "bool, not int"),
        ({"aggregates": {"n": Mean("price")}}, "float, not int"),
        ({"aggregates": {"n": Variance("sold_at")}}, "datetime, not int"),
        ({"columns": [len]}, "by name"),
        ({"columns": {"twice": 2}}, "'twice'"),
        ({"columns": {"twice": _asynchronous}}, "at once"),
        ({"columns": {"twice": lambda **named: named}}, "its parameters"),
        ({"columns": {"twice": lambda colour: colour}}, "'colour'"),
        ({"columns": {"quantity": lambda price: price}}, "hide"),
        ({"columns": {"a": lambda twice: twice, "twice": lambda quantity: quantity}}, "'twice'"),
        ({"where": lambda colour: colour}, "'colour'"),
        ({"where": type}, "'where'"),
        ({"lateness_s": -1}, "lateness_s"),
        ({"lateness_s": None}, "lateness_s"),
        ({"window": CountOf(5), "key": ("quantity",)}, "one shard"),
    ],
)
def test_what_does_not_fit_is_named(changed: dict[str, Any], named: str) -> None:
    """A pipeline that cannot be is refused where it is written, by the name of what is wrong."""
    with pytest.raises(UsageError, match=named):
        _pipeline(**changed)


@pytest.mark.parametrize("seconds", [0, -1, 1e-9, float("nan"), float("inf"), 1e11, "60", None])
def test_a_window_has_a_length(seconds: Any) -> None:
    """A window lasts a microsecond to a century."""
    for kind in (Tumbling, Sliding, Session):
        with pytest.raises(UsageError, match=r"size_s|gap_s"):
            kind(seconds)
    with pytest.raises(UsageError):
        Hopping(3600, seconds)


def test_hops_fit_their_windows() -> None:
    """Windows that hop leave no gaps, and are made of a bounded number of panes."""
    with pytest.raises(UsageError, match="gaps"):
        Hopping(60, 61)
    with pytest.raises(UsageError, match="panes"):
        Hopping(3600, 3599.999)
    assert Hopping(3600, 1500).pane_us == 300_000_000
    for records in (0, -1, 1.5):
        with pytest.raises(UsageError, match="at least 1"):
            CountOf(records)  # type: ignore[arg-type]  # that is what is tested


def test_a_job_has_pipelines_of_different_names() -> None:
    """A job is refused if it has none, two of one name, or a version that is no number."""
    one = _pipeline()
    assert Job("shop", [one], version=2).pipelines == {"revenue": one}
    wrong: list[tuple[Any, Any]] = [([], 1), ([one, one], 1), ([one], 0), ([one], "1"), (["x"], 1)]
    for pipelines, version in wrong:
        with pytest.raises(UsageError, match="'shop'"):
            Job("shop", pipelines, version=version)


def test_two_sources_of_one_name_are_no_job() -> None:
    """Pipelines of a job that mean different sources by one name are refused."""
    one, units = _pipeline(), _pipeline(name="units")
    assert Job("shop", [one, units]).pipelines == {"revenue": one, "units": units}
    other = Source("lines", Line, time="sold_at", shards=4, shard_by="country")
    with pytest.raises(UsageError, match="two sources have the name 'lines'"):
        Job("shop", [one, _pipeline(name="units", source=other)])
