"""Cut the extract that ships in the package out of the whole year.

    python tools/make_extract.py ../shared/data/online_retail_2009_2010.parquet

Four whole weeks, chosen because they have everything that makes the data real: cancellations, an
adjustment, guests, prices of zero, returned and damaged goods, and codes that are no products.
The same input gives the same lines, in the same order.
"""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

import polars as pl

FIRST = datetime(2010, 4, 12)  # noqa: DTZ001 - the file tells no time zone
AFTER = datetime(2010, 5, 10)  # noqa: DTZ001
TARGET = (
    Path(__file__).parent.parent / "src/agent99/systems/shop/data/online_retail_extract.parquet"
)


def extract(source: Path, target: Path = TARGET) -> pl.DataFrame:
    """Write the invoices whose first line falls into the four weeks; all their lines, whole."""
    year = pl.read_parquet(source)
    started = pl.col("InvoiceDate").min().over("Invoice")
    weeks = year.filter((started >= FIRST) & (started < AFTER))
    target.parent.mkdir(parents=True, exist_ok=True)
    weeks.write_parquet(target, compression="zstd", compression_level=22, statistics=False)
    return weeks


if __name__ == "__main__":
    made = extract(Path(sys.argv[1]))
    size = TARGET.stat().st_size
    print(f"{made['Invoice'].n_unique():,} invoices, {made.height:,} lines, {size:,} bytes")
