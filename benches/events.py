"""What stored events cost: appending them and reading them again, against peers, in one run.

    make bench NAME=events            # a table, in some four minutes
    make bench NAME=events JSON=1     # a JSON array on standard output, and nothing else

Each part measures one promise, in processes of its own, and gives its rows. Set-ups take turns,
round by round, and each ratio is of one round; the medians count.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from _audit import audit_rows
from _bench import Options, run_bench
from _buses import bus_rows
from _cloud_events import cloud_event_rows
from _fan_outs import fan_out_rows
from _mesh_appends import append_rows
from _replays import replay_rows
from _report import Progress, Row

Part = Callable[[Options, Progress], list[Row]]
"""Takes the options and says where it stands; returns its rows."""

PARTS: Final[tuple[Part, ...]] = (
    append_rows,
    replay_rows,
    fan_out_rows,
    cloud_event_rows,
    bus_rows,
    audit_rows,
)
"""A new promise is a new part."""


def measure(options: Options, progress: Progress) -> list[Row]:
    """Return every row."""
    return [row for part in PARTS for row in part(options, progress)]


if __name__ == "__main__":
    sys.exit(run_bench("What stored events cost.", measure))
