"""Has the records of a source enriched before they are stored, in the order in which they came."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from agent99.agent import link_of
from agent99.clock import wait_ended
from agent99.systems.analytics._enriched import Tally, filled, wanted
from agent99.systems.analytics._enrichment import Enrichment, FromCache
from agent99.systems.analytics._ingested import Counts, is_not_enriched
from agent99.systems.analytics._lookups import LookUps

if TYPE_CHECKING:
    from agent99.agent import Agent
    from agent99.clock import Deadlines
    from agent99.systems.analytics._columns import Columns

T = TypeVar("T")


class Step(msgspec.Struct, frozen=True):
    """An enrichment, and what looks up for it."""

    enrichment: Enrichment
    lookups: LookUps


class Turns:
    """Has what takes different times go on in the order in which it was begun."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._last: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"Turns(is_free={self._last is None or self._last.done()})"

    async def after(self, work: Awaitable[T], until_s: float) -> T:
        """Return what some work returns, once all that was begun before has gone on or failed.

        Whoever waits for this has the turn of the event loop in which it returns: what it does up
        to its next wait, nobody behind it is ahead of.

        Raises:
            Failure: NOT_ENRICHED: what is ahead has not gone on until then.
            whatever the work raises.
        """
        before, mine = self._last, asyncio.get_running_loop().create_future()
        self._last = mine
        try:
            result = await work
            if before is not None and not await wait_ended(self._deadlines, before, until_s):
                raise is_not_enriched("what came before it is looked up still")
            return result
        finally:
            _end_after(before, mine)

    async def is_free(self, until_s: float) -> bool:
        """Wait until all that has been begun has gone on or failed; returns whether it has."""
        last = self._last
        return last is None or await wait_ended(self._deadlines, last, until_s)


class Enricher:
    """Looks up for the records of one source.

    Args:
        agent: In whose name; it runs.
        steps: In their order: a later one sees what an earlier one has found.
    """

    def __init__(self, agent: Agent, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._turns = Turns(link_of(agent).deadlines)
        self.row_bytes = sum(step.enrichment.row_bytes for step in steps)
        """How much longer a record may get."""

    def __repr__(self) -> str:
        return f"Enricher({[step.enrichment for step in self._steps]!r})"

    async def fill(
        self, columns: Columns, until_s: float, *, is_alone: bool
    ) -> tuple[Columns, Tally]:
        """Return the columns of a batch with what was looked up, in its turn.

        Args:
            until_s: So long it may take, by the monotonic clock.
            is_alone: Its keys are many: they are not looked up together with those of others.

        Raises:
            Failure: NOT_ENRICHED.
        """
        work = self._filled(columns, until_s, is_alone=is_alone)
        return await self._turns.after(work, until_s)

    async def fill_record(self, record: Any, columns: Columns, until_s: float) -> Tally:
        """Give a record that nobody else holds what was looked up, in its turn.

        It is looked up together with others that come meanwhile.

        Args:
            columns: The record.
            until_s: As of `fill`.

        Raises:
            Failure: NOT_ENRICHED.
        """
        full, tally = await self.fill(columns, until_s, is_alone=False)
        for name in {name for step in self._steps for name in step.enrichment.columns}:
            msgspec.structs.force_setattr(record, name, full[name][0])
        return tally

    async def passed(self, until_s: float) -> None:
        """Wait for the turn of what has nothing to look up.

        Raises:
            Failure: NOT_ENRICHED: what came before it is looked up still.
        """
        await self._turns.after(_nothing(), until_s)

    async def is_free(self, until_s: float) -> bool:
        """Wait until all that has come is looked up; returns whether it is."""
        return await self._turns.is_free(until_s)

    async def aclose(self) -> None:
        """End what is under way. Idempotent."""
        await asyncio.gather(*(step.lookups.aclose() for step in self._steps))

    async def _filled(
        self, columns: Columns, until_s: float, *, is_alone: bool
    ) -> tuple[Columns, Tally]:
        tally = Tally()
        for enrichment, lookups in ((one.enrichment, one.lookups) for one in self._steps):
            keys = wanted(enrichment, columns)
            found: dict[Any, Any] | None = {}
            if keys:
                find = lookups.find if is_alone else lookups.find_with_others
                answer = await find(keys, until_s)
                found = answer.found
                if found is None and enrichment.otherwise == "refuse":
                    names = ", ".join(enrichment.columns)
                    raise is_not_enriched(f"{names} by {enrichment.by}: {answer.reason}")
            columns = filled(enrichment, columns, found, tally)
        return columns, tally


async def open_enrichers(
    agent: Agent, enrichments: Iterable[Enrichment], counts: Counts
) -> dict[str, Enricher]:
    """Return what enriches the records of each source that has something to look up, by its name.

    Raises:
        InvalidNameError, UsageError, ClosedError: as `Agent.cache`.
    """
    by_source: dict[str, list[Step]] = {}
    for one in enrichments:
        look_up = await one.lookup.open(agent) if isinstance(one.lookup, FromCache) else one.lookup
        step = Step(one, LookUps(agent, look_up, one.timeout_s, counts))
        by_source.setdefault(one.source.name, []).append(step)
    return {name: Enricher(agent, steps) for name, steps in by_source.items()}


async def _nothing() -> None:
    """Be work that is done."""


def _end_after(before: asyncio.Future[None] | None, mine: asyncio.Future[None]) -> None:
    """Let the next one go on once the one before has: also where mine ended without waiting."""

    def end(_before: object = None) -> None:
        if not mine.done():
            mine.set_result(None)

    if before is None or before.done():
        end()
    else:
        before.add_done_callback(end)
