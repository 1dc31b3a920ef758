"""What live windows over a stream cost, against bare JetStream and Bytewax, in one run.

    make bench NAME=analytics            # a table, in some four minutes
    make bench NAME=analytics JSON=1     # a JSON array on standard output, and nothing else

Each part measures one promise, in processes of its own, and gives its rows. Set-ups take turns,
round by round, and each ratio is of one round; the medians count.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from _analytics_live import live_rows
from _analytics_memory import memory_rows
from _analytics_state import state_rows
from _bench import Options, run_bench
from _report import Progress, Row

Part = Callable[[Options, Progress], list[Row]]
"""Takes the options and says where it stands; returns its rows."""

PARTS: Final[tuple[Part, ...]] = (live_rows, memory_rows, state_rows)
"""A new promise is a new part."""


def measure(options: Options, progress: Progress) -> list[Row]:
    """Return every row."""
    return [row for part in PARTS for row in part(options, progress)]


if __name__ == "__main__":
    sys.exit(run_bench("What live windows over a stream cost.", measure))
