"""A pipeline over a file shows what polars finds in it, and says what of a file it cannot read."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from agent99.errors import UsageError
from agent99.systems.analytics import (
    Count,
    Hopping,
    Max,
    Min,
    Pipeline,
    Sliding,
    Source,
    Sum,
    Tumbling,
    read_file,
    run_file,
)
from agent99.systems.analytics._windows import Window

EXTRACT = Path(
    str(importlib.resources.files("agent99.systems.shop") / "data/online_retail_extract.parquet")
)
RENAME = {"InvoiceDate": "sold_at", "Country": "country", "Quantity": "quantity"}
HOUR_S = 3_600


class Line(msgspec.Struct):
    """A line of an invoice."""

    sold_at: datetime
    country: str
    quantity: int
    price_pence: int


LINES = Source("lines", Line, time="sold_at")


def sellable(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the lines that are sales, by time, with their prices in pence."""
    return (
        frame.filter(pl.col("Quantity") > 0, pl.col("Price") > 0)
        .with_columns(price_pence=(pl.col("Price") * 100).round().cast(pl.Int64))
        .sort("InvoiceDate")
    )


def figures(window: Window) -> Pipeline:
    """Return a pipeline whose figures polars can make as well."""
    return Pipeline(
        "figures",
        LINES,
        key=("country",),
        window=window,
        columns={"pence": lambda quantity, price_pence: quantity * price_pence},
        aggregates={
            "lines": Count(),
            "pence": Sum("pence"),
            "least": Min("price_pence"),
            "most": Max("price_pence"),
        },
    )


FIGURES = (
    pl.len().alias("lines"),
    (pl.col("Quantity") * pl.col("price_pence")).sum().alias("pence"),
    pl.col("price_pence").min().alias("least"),
    pl.col("price_pence").max().alias("most"),
)
Found = dict[tuple[str, int], tuple[int, ...]]


def ours(window: Window) -> Found:
    """Return the figures by country and end of the window."""
    run = run_file(figures(window), EXTRACT, rename=RENAME, prepare=sellable)
    assert run.counts.on_time == run.counts.records == sellable(pl.read_parquet(EXTRACT)).height
    return {(str(row.key[0]), row.end_us): tuple(row.values.values()) for row in run.result}


def theirs(frame: pl.DataFrame, after_s: int) -> Found:
    """Return polars' figures by country and end, which is so much after the time in a row."""
    found = frame.with_columns(end=pl.col("InvoiceDate").dt.epoch("us") + after_s * 1_000_000)
    names = ("lines", "pence", "least", "most")
    return {
        (row["Country"], row["end"]): tuple(row[name] for name in names)
        for row in found.iter_rows(named=True)
    }


@pytest.mark.parametrize(
    ("window", "every", "offset"),
    [
        (Tumbling(HOUR_S), "1h", "0h"),
        (Tumbling(24 * HOUR_S), "24h", "0h"),
        (Hopping(HOUR_S, 600), "10m", "-50m"),
    ],
    ids=["hours", "days", "hours-every-10-minutes"],
)
def test_windows_as_polars_makes_them(window: Tumbling | Hopping, every: str, offset: str) -> None:
    """Tumbling and hopping windows have the figures of polars' `group_by_dynamic`."""
    size_s = window.size_us // 1_000_000
    grouped = sellable(pl.read_parquet(EXTRACT)).group_by_dynamic(
        "InvoiceDate", every=every, period=f"{size_s}s", offset=offset, group_by="Country"
    )
    assert theirs(grouped.agg(*FIGURES), size_s) == ours(window)


def test_sliding_as_polars_makes_it() -> None:
    """Sliding windows have the figures of polars' `rolling`, once for each moment."""
    rolled = (
        sellable(pl.read_parquet(EXTRACT))
        .rolling("InvoiceDate", period="1h", group_by="Country")
        .agg(*FIGURES)
    )
    expected = {
        (country, end_us + 1): values for (country, end_us), values in theirs(rolled, 0).items()
    }
    assert expected == ours(Sliding(HOUR_S))


class Sample(msgspec.Struct):
    """A record with a field of every type."""

    at: datetime
    name: str
    count: int
    weight: float
    is_good: bool
    note: str | None


SAMPLES = Source("samples", Sample, time="at")
ROW: dict[str, Any] = {
    "at": datetime(2010, 1, 1),  # noqa: DTZ001 - files have times without a zone
    "name": "12",
    "count": 3,
    "weight": 2,
    "is_good": True,
    "note": None,
}
READ = {
    "at": [int(datetime(2010, 1, 1, tzinfo=UTC).timestamp() * 1_000_000)],
    "name": ["12"],
    "count": [3],
    "weight": [2.0],
    "is_good": [True],
    "note": [None],
}
WRITE: dict[str, Callable[[pl.DataFrame, Path], None]] = {
    "csv": lambda frame, path: frame.write_csv(path),
    "parquet": lambda frame, path: frame.write_parquet(path),
}


@pytest.mark.parametrize("kind", WRITE)
def test_types(kind: str, tmp_path: Path) -> None:
    """A field of every type is read from either kind of file; a time without a zone is UTC."""
    path = tmp_path / f"samples.{kind}"
    WRITE[kind](pl.DataFrame([ROW]), path)
    assert [READ] == list(read_file(SAMPLES, path))


def test_zones(tmp_path: Path) -> None:
    """A time with a zone is read as the moment that it is."""
    path = tmp_path / "samples.parquet"
    zoned = pl.DataFrame([ROW]).with_columns(pl.col("at").dt.replace_time_zone("Europe/Berlin"))
    zoned.write_parquet(path)
    (columns,) = read_file(SAMPLES, path)
    assert columns["at"] == [READ["at"][0] - HOUR_S * 1_000_000]


def test_slices(tmp_path: Path) -> None:
    """A file is read some records at a time, in its order."""
    path = tmp_path / "samples.parquet"
    pl.DataFrame([ROW | {"count": n} for n in range(5)]).write_parquet(path)
    slices = [columns["count"] for columns in read_file(SAMPLES, path, slice_rows=2)]
    assert slices == [[0, 1], [2, 3], [4]]
    with pytest.raises(UsageError, match="at least 1"):
        read_file(SAMPLES, path, slice_rows=0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda frame: frame.drop("count"), "no column 'count'; it has 'at', 'name'"),
        (lambda frame: frame.with_columns(count=pl.lit("3")), "'count' is String, not a whole"),
        (lambda frame: frame.with_columns(count=pl.lit(2.5)), "'count' is Float64, not a whole"),
        (lambda frame: frame.with_columns(at=pl.lit(1)), "'at' is Int32, not a date and time"),
        (lambda frame: frame.with_columns(name=pl.lit(1)), "'name' is Int32, not text"),
        (lambda frame: frame.with_columns(is_good=pl.lit(1)), "'is_good' is Int32, not true or"),
        (lambda frame: frame.with_columns(weight=pl.lit("2")), "'weight' is String, not a number"),
        (lambda frame: frame.with_columns(count=None), "'count' has no value in 1 rows, the first"),
        (lambda frame: frame.with_columns(count=pl.lit(2**63, pl.UInt64)), "column 'count'"),
    ],
)
def test_wrong_columns(
    change: Callable[[pl.DataFrame], pl.DataFrame], reason: str, tmp_path: Path
) -> None:
    """A column that is missing, of another type or without a value is refused by its name."""
    path = tmp_path / "samples.parquet"
    change(pl.DataFrame([ROW])).write_parquet(path)
    with pytest.raises(UsageError, match=reason) as caught:
        read_file(SAMPLES, path)
    assert str(path) in str(caught.value)


def test_wrong_files(tmp_path: Path) -> None:
    """A file that is not there, or not of its kind, is refused by its path."""
    for name in ("samples.csv", "samples.parquet"):
        with pytest.raises(UsageError, match="no such file"):
            read_file(SAMPLES, tmp_path / name)
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(UsageError, match=f"{name}: it cannot be read"):
            read_file(SAMPLES, tmp_path / name)


def test_wrong_use(tmp_path: Path) -> None:
    """A column to rename that there is not is refused; so is a record that the source refuses."""
    path = tmp_path / "samples.parquet"
    pl.DataFrame([ROW | {"weight": float("nan")}]).write_parquet(path)
    with pytest.raises(UsageError, match="no column 'weigth' to rename"):
        read_file(SAMPLES, path, rename={"weigth": "weight"})
    pipeline = Pipeline("all", SAMPLES, window=Tumbling(1), aggregates={"rows": Count()})
    with pytest.raises(UsageError, match=r"of the records from 0 on: \$\[0\].weight"):
        run_file(pipeline, path)
