"""An agent that proves stock and money while the others work; it shares no code with them.

It reads their databases and never writes. What it finds it says three times: in the log of its
process, as an event that is stored, and in its verdict. Killed, it starts to look at everything
anew, so that what is wrong and stays wrong is found again, and of what was wrong for a moment there
is the event.
"""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context
from typing import Final

from agent99 import Agent, operation
from agent99.clock import Clock, SystemClock
from agent99.errors import Agent99Error
from agent99.systems.shop._checker_model import VIOLATION, Verdict
from agent99.systems.shop._checker_watch import Watch
from agent99.systems.shop._settings import ShopSettings, load_shop_settings

_log = logging.getLogger("agent99.shop")

LOOK_S: Final = 2.0
"""Seconds from one look to the next."""
LATE_S: Final = 60.0
"""Seconds that an order has to end, once nobody is killed any more."""
_PAUSE_PER_LOOK: Final = 10  # a look at a large shop takes longer: then there are fewer of them
_PAUSE_S_MAX: Final = 60.0


class CheckerAgent(Agent):
    """Looks every two seconds whether the books of the shop close at this moment.

    Args:
        settings: Where the data is; None: what the environment says.
        late_s: Seconds after which an order that has not ended is late.
        clock: The source of time.
    """

    capabilities = ("shop_checker",)

    def __init__(
        self,
        settings: ShopSettings | None = None,
        *,
        late_s: float = LATE_S,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._watch = Watch(settings or load_shop_settings(), late_s=late_s)
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._begun = 0  # looks
        self._ended = 0  # the number of the last that did
        self._logged = 0  # violations
        self._told = 0
        self._unread = ""

    async def start(self) -> None:
        """Begin to look; the databases need not be there yet."""
        # Of no request: its task would share the deadline of whoever began it.
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run(), name="shop-checker", context=Context())

    async def stop(self) -> None:
        """Look no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    @operation(idempotent=True)
    async def verdict(self) -> Verdict:
        """Look once more, and return what came of all looks."""
        await self._look()
        return self._watch.verdict()

    async def _run(self) -> None:
        while True:
            began_s = self._clock.monotonic_s()
            try:
                await self._look()
            except Exception:  # noqa: BLE001 - nobody awaits this task: it must not end in silence
                _log.exception("a look at the shop failed; there will be another")
            took_s = self._clock.monotonic_s() - began_s
            await self._clock.sleep(min(max(LOOK_S, _PAUSE_PER_LOOK * took_s), _PAUSE_S_MAX))

    async def _look(self) -> None:
        """Look, and tell; all who come while a look is under way share the next one."""
        before = self._begun
        async with self._turn:
            if self._ended > before:
                return
            self._begun += 1
            await asyncio.to_thread(self._watch.look, self._clock.wall_us())
            self._ended = self._begun
            self._write_down()
            await self._tell()

    def _write_down(self) -> None:
        """Log each violation when it is new, and what cannot be read when that changes."""
        unread, found = self._watch.verdict().unread, self._watch.violations
        for violation in found[self._logged :]:
            _log.error("what may never be: %s", violation.text)
        self._logged = len(found)
        if unread != self._unread:
            self._unread = unread
            _log.info("what cannot be looked at now: %s", unread or "nothing any more")

    async def _tell(self) -> None:
        """Store each violation as an event, once; what cannot be stored now is so later."""
        for violation in self._watch.violations[self._told :]:
            try:
                await self.append(VIOLATION, violation)
            except Agent99Error as error:
                _log.warning("a violation is not in the log of events yet: %s", error)
                return
            self._told += 1
