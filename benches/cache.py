"""What the distributed cache costs, against Redis and what is kept within a process, in one run.

    make bench NAME=cache            # a table, in some four minutes
    make bench NAME=cache JSON=1     # a JSON array on standard output, and nothing else

Each part measures one promise, in processes of its own, and gives its rows. Set-ups take turns,
round by round, and each ratio is of one round; the medians count.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from _bench import Options, run_bench
from _cache_locals import hit_rows, memory_rows, near_rows
from _cache_remotes import remote_rows
from _report import Progress, Row
from cache_lookup import measure_lookup

Part = Callable[[Options, Progress], list[Row]]
"""Takes the options and says where it stands; returns its rows."""

PARTS: Final[tuple[Part, ...]] = (
    remote_rows,
    near_rows,
    measure_lookup,
    hit_rows,
    memory_rows,
)
"""A new promise is a new part."""


def measure(options: Options, progress: Progress) -> list[Row]:
    """Return every row."""
    return [row for part in PARTS for row in part(options, progress)]


if __name__ == "__main__":
    sys.exit(run_bench("What the distributed cache costs.", measure))
