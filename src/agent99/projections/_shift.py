"""Works on one generation, as a member of its group."""

from __future__ import annotations

import logging
from functools import partial

from agent99.groups import Batch, Group, GroupOptions
from agent99.projections._book import Generation
from agent99.projections._fold import EventError, Fold, Outcome
from agent99.projections._options import ProjectionOptions
from agent99.projections._parts import Parts
from agent99.projections._projection import Definition

HELD_AGAIN_S = 0.05
"""Before a batch of a generation that waits is tried again."""

_log = logging.getLogger("agent99.projections")


class Shift:
    """Folds what its group hands out, until it is ended."""

    def __init__(
        self,
        parts: Parts,
        definition: Definition,
        generation: Generation,
        options: ProjectionOptions,
    ) -> None:
        self._parts = parts
        self._definition = definition
        self._options = options
        self._fold = Fold(definition, generation.generation, parts.clock)
        self.group = generation.group
        """The name of its group."""
        self._group = Group(
            parts.of,
            generation.group,
            generation.topics,
            self._handle,
            store=parts.store,
            options=GroupOptions(batch_max=options.batch_max),
        )

    def __repr__(self) -> str:
        return f"Shift({self._fold!r})"

    async def start(self) -> None:
        """Join.

        Raises:
            as `Group.__aenter__`.
        """
        await self._group.__aenter__()

    async def end(self) -> None:
        """Leave, and hand over."""
        await self._group.__aexit__(None, None, None)

    async def _handle(self, batch: Batch) -> None:
        """Fold a batch; it may have to wait for a generation that is about to be read."""
        store, clock, aside = self._parts.store, self._parts.clock, dict[int, EventError]()
        patient_until_s = clock.monotonic_s() + self._options.hold_s_max  # clocks may be apart
        while True:
            may_wait = clock.monotonic_s() < patient_until_s
            try:
                fold = partial(self._fold.fold, batch=batch, aside=aside, may_wait=may_wait)
                outcome: Outcome = await store.transaction(fold)
            except EventError as failed:
                if not await self._may_leave_out(failed, len(aside)):
                    raise
                aside[failed.sequence] = failed
                continue
            if outcome != "held":
                return
            await clock.sleep(HELD_AGAIN_S)

    async def _may_leave_out(self, failed: EventError, others: int) -> bool:
        """Tell whether an event is to be set aside; if not, that is noted."""
        store, fold = self._parts.store, self._fold
        if failed.may_pass:
            return False
        if self._definition.projection.on_error == "set aside":
            noted = await store.read(fold.count_aside)
            if noted + others < self._options.set_aside_max:
                _log.warning("%r sets an event aside: %s", self, failed)
                return True
        await store.transaction(
            lambda transaction: fold.note(transaction, failed, is_set_aside=False)
        )
        return False
