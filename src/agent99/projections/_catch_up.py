"""Whether a new generation has all that the live one has, so that no reader sees one go back. Pure.

A position is the place in the log of the last event of a partition that was counted. Positions that
are at least as high have everything. One that is lower has it too, where the log holds nothing more
for it up to a place past the other one: that is so where the new version reads other topics, or
where the log has dropped what the live generation counted last.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

Positions = Mapping[int, tuple[int, int]]
"""By partition: behind which place a generation began, and up to which it has counted."""


class Settled(msgspec.Struct, frozen=True):
    """Partitions of which the log holds nothing for the new generation that it has not counted."""

    end: int = 0
    """The last place of the log, as it was before one looked."""
    positions: Mapping[int, int] = {}
    """By partition: where the new generation was when one looked."""


def lagging(new: Positions, live: Positions) -> dict[int, int]:
    """Return the partitions in which the live generation is further, and where the new one is."""
    at = {part: new.get(part, (0, 0))[1] for part in live}
    return {part: at[part] for part, (begun, place) in live.items() if at[part] < place > begun}


def has_caught_up(new: Positions, live: Positions, settled: Settled) -> bool:
    """Tell whether everything that the live generation has counted is in the new one.

    Args:
        new: Of the new generation, from one moment.
        live: Of the live one, from the same moment.
        settled: What was found out about the log before.
    """
    return all(
        part in settled.positions and settled.positions[part] <= at and live[part][1] <= settled.end
        for part, at in lagging(new, live).items()
    )


def seen_up_to(positions: Positions, backlogs: Mapping[int, int], last: int) -> int:
    """Return up to which place a generation has counted all that the log had for it.

    Args:
        positions: Its own.
        backlogs: Events to do, by partition; counted after `positions` were read.
        last: The last place of the log, read before they were counted.
    """
    behind = (positions.get(part, (0, 0))[1] for part, left in backlogs.items() if left)
    return min(behind, default=last)


def progress(positions: Positions, backlogs: Mapping[int, int], first: int, last: int) -> float:
    """Return how far a generation is in the log, 0 to 1: the mean of the partitions with events.

    Args:
        positions: Its own.
        backlogs: Events to do, by partition.
        first: The first place that the log holds.
        last: The last one.
    """
    at = {part: positions.get(part, (0, 0)) for part in backlogs}
    used = [part for part, left in backlogs.items() if left or at[part][1] > at[part][0]]
    if not used or last < first:
        return 1.0
    shares = [
        (max(at[part][1], first - 1) - first + 1) / (last - first + 1) if backlogs[part] else 1.0
        for part in used
    ]
    return min(sum(shares) / len(shares), 1.0)
