"""Whether the log holds records of a shard that have not been folded yet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from agent99.envelope import Pattern, parse_key, partition_of
from agent99.errors import Agent99Error, StreamNotFoundError
from agent99.systems.analytics._columns import shard_key

if TYPE_CHECKING:
    from agent99.systems.analytics._ground import Ground
    from agent99.systems.analytics._source import Source

LOOK_S: Final = 0.25
"""For so long an answer is good enough."""

_log = logging.getLogger("agent99.systems.analytics")


class Backlogs:
    """Looks into the log for shards that seem idle.

    A shard is silent because nothing comes, or because nobody folds what came: its processor has
    died, or is behind. Only in the first case may windows close without it; else what a processor
    owes would be late by no fault of the records.

    Args:
        ground: Where the log is.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground: Final = ground
        self._empty: Final[dict[tuple[str, int], float]] = {}
        """By source and shard: when nothing was found last."""

    def __repr__(self) -> str:
        return f"Backlogs({self._ground!r})"

    async def behind(
        self, source: Source[Any], shards: Iterable[int], positions: Mapping[int, int]
    ) -> set[int]:
        """Return of which shards the log holds something behind the positions.

        Where nobody can say, that counts as so.

        Args:
            positions: By part of the log.
        """
        now_s = self._ground.clock.monotonic_s()
        asked = [
            shard
            for shard in shards
            if now_s - self._empty.get((source.name, shard), -LOOK_S) >= LOOK_S
        ]
        found = await asyncio.gather(
            *(self._is_behind(source, shard, positions) for shard in asked)
        )
        for shard, is_behind in zip(asked, found, strict=True):
            if not is_behind:
                self._empty[source.name, shard] = now_s
        return {shard for shard, is_behind in zip(asked, found, strict=True) if is_behind}

    async def _is_behind(
        self, source: Source[Any], shard: int, positions: Mapping[int, int]
    ) -> bool:
        ground = self._ground
        key = parse_key(shard_key(source, shard))
        subject = ground.subjects.log_listen_key(key, Pattern(source.topic))
        first = positions.get(partition_of(key), 0) + 1
        try:
            found = await ground.journal.backlog(
                ground.streams.log, (subject,), from_sequence=first
            )
        except StreamNotFoundError:
            return False
        except Agent99Error as error:
            _log.info("%r waits for the log: %s", self, error)
            return True
        return found.count > 0
