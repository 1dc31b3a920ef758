"""Look-ups on behalf of records that come: bounded in time, and few."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from agent99.agent import link_of
from agent99.clock import wait_ended
from agent99.errors import text_of
from agent99.systems.analytics._enriched import is_mapping

if TYPE_CHECKING:
    from agent99.agent import Agent
    from agent99.systems.analytics._enrichment import LookUp
    from agent99.systems.analytics._ingested import Counts


class Answer(msgspec.Struct, frozen=True):
    """What came of a look-up."""

    found: dict[Any, Any] | None
    """By key; None: it could not be looked up."""
    reason: str = ""


class _Round(msgspec.Struct, eq=False):
    """Keys that gather, to be looked up together."""

    keys: dict[Any, None]
    ended: asyncio.Task[Answer]


class LookUps:
    """The look-ups of one enrichment.

    Invariant: of those that gather, one is under way; what comes meanwhile is the next one.

    Args:
        agent: In whose name; it runs.
        timeout_s: How long each may take.
        counts: Where they are counted.
    """

    def __init__(self, agent: Agent, look_up: LookUp, timeout_s: float, counts: Counts) -> None:
        link = link_of(agent)
        self._clock = link.clock
        self._deadlines = link.deadlines
        self._look_up = look_up
        self._timeout_s = timeout_s
        self._counts = counts
        self._gathering: _Round | None = None
        self._last: asyncio.Task[Answer] | None = None
        self._tasks: set[asyncio.Task[Answer]] = set()
        # Of nobody's request: what is looked up together is for many, and ends with none of them.
        self._where = contextvars.copy_context()

    def __repr__(self) -> str:
        return f"LookUps({self._look_up!r}, under_way={len(self._tasks)})"

    async def find(self, keys: Sequence[Any], until_s: float) -> Answer:
        """Look up several keys at once.

        Args:
            until_s: So long it is waited for at most, by the monotonic clock.
        """
        return await self._ask(list(keys), until_s)

    async def find_with_others(self, keys: Sequence[Any], until_s: float) -> Answer:
        """Look up keys together with what others look up so meanwhile; see `find`."""
        gathering = self._gathering
        if gathering is None:
            together: dict[Any, None] = {}
            ended = self._keep(self._next(self._last, together))
            gathering = self._gathering = _Round(together, ended)
            self._last = ended
        gathering.keys.update(dict.fromkeys(keys))
        if not await wait_ended(self._deadlines, gathering.ended, until_s):
            return Answer(None, "no answer before the caller's deadline")
        return _result(gathering.ended)

    async def aclose(self) -> None:
        """End what is under way. Idempotent."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- inside -----------------------------------------------------------------------------------

    def _keep(self, work: Any) -> asyncio.Task[Answer]:
        task = asyncio.get_running_loop().create_task(work, context=self._where)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _next(self, last: asyncio.Task[Answer] | None, keys: dict[Any, None]) -> Answer:
        """Wait until the one before has ended; then look up what has gathered."""
        if last is not None:
            await asyncio.wait([last])
        self._gathering = None
        return await self._ask(list(keys))

    async def _ask(self, keys: list[Any], until_s: float | None = None) -> Answer:
        """Ask once; bounded also where a function goes on though it is cancelled."""
        self._counts.lookups += 1
        latest_s = self._clock.monotonic_s() + self._timeout_s
        asked = self._keep(self._asked(keys))
        try:
            if until_s is not None and until_s < latest_s:
                reason, latest_s = "before the caller's deadline", until_s
            else:
                reason = f"within {self._timeout_s} s"
            if not await wait_ended(self._deadlines, asked, latest_s):
                return Answer(None, f"no answer {reason}")
            return _result(asked)
        finally:
            asked.cancel()  # does nothing where it has ended

    async def _asked(self, keys: list[Any]) -> Answer:
        try:
            found = await self._look_up(keys)
            if is_mapping(found):
                return Answer(dict(found))
        except Exception as error:  # noqa: BLE001 - a user's code: it is told to whoever waits
            return Answer(None, f"{type(error).__name__}: {text_of(error)}")
        return Answer(None, f"a look-up returned {type(found).__name__}, and no mapping")


def _result(task: asyncio.Task[Answer]) -> Answer:
    return Answer(None, "it was cancelled") if task.cancelled() else task.result()
