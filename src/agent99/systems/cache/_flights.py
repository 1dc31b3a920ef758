"""Values that are not there: the callers of a process wait for one flight, it waits at the owner.

Whatever a flight brings was in the cache, or was computed in a turn that nothing had ended: it is
no older than the call of any of those who wait for it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Coroutine
from functools import partial
from typing import Any

from agent99.clock import TimeLimit, wait_ended
from agent99.dispatch import find_context
from agent99.errors import (
    Agent99Error,
    ClosedError,
    DeadlineExceededError,
    NoAgentError,
    RequestCancelledError,
)
from agent99.systems.cache._client import AGAIN_S, AGAIN_S_MAX, MAY_PASS, NO_NODES, CacheClient
from agent99.systems.cache._compute import PARK_S_MAX, AskTurn, EndTurn, Turn, Turned
from agent99.systems.cache._recipe import Recipe
from agent99.systems.cache._refusals import checked
from agent99.systems.cache._values import NOTHING
from agent99.systems.cache._words import Change, Hit, Outcome, Status

ANSWER_S = 1.0
"""So much longer than it may wait there a request waits for its answer."""
REST_S = 1.0
"""After a refresh that failed, before this process tries again: the value is served meanwhile."""
_ANSWERS = (Turn.THERE, Turn.NOTHING, Turn.LOAD)

_log = logging.getLogger("agent99.systems.cache")


class Flight:
    """One key that a process waits for."""

    __slots__ = ("callers", "future", "key", "seen", "until_s", "who")

    def __init__(self, key: str, who: str, seen: int) -> None:
        self.key = key
        """The full key."""
        self.who = who
        self.seen = seen
        """The version that is to be replaced; 0: there was none."""
        self.until_s = 0.0
        """Until then it goes on though nobody waits."""
        self.callers: dict[object, Recipe] = {}
        """Those who wait; one of them says how the value is computed."""
        self.future: asyncio.Future[Hit | None] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"Flight({self.key!r}, callers={len(self.callers)})"


class Flights:
    """The flights of a process.

    Args:
        client: Its way to the owners.
    """

    def __init__(self, client: CacheClient) -> None:
        self.loads = 0
        """That were begun here."""
        self.errors = 0
        """Of those that failed."""
        self._client = client
        self._clock = client.clock
        self._ids = client.ids
        self._deadlines = client.deadlines
        self._by_key: dict[str, Flight] = {}
        """Those that can be joined."""
        self._resting: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"Flights({len(self._by_key)}, loads={self.loads}, errors={self.errors})"

    async def get(self, key: str, recipe: Recipe, timeout_s: float) -> Hit | None:
        """Return what is there for a full key, computed by somebody if it has to be.

        Raises:
            DeadlineExceededError: not in time.
            as `CacheClient.read`, and whatever the caller's own load raises, or one that was run
            for it in this process.
        """
        until_s = self._clock.monotonic_s() + timeout_s
        hit: Hit | None = await self._client.read(key, timeout_s)
        if hit is not None:
            draw = 1.0 - self._ids.fraction()
            if recipe.is_due(hit, self._client.now_us(), draw):
                self._refresh(key, hit.version, recipe)
            return hit
        flight = self._by_key.get(key) or self._take_off(key, 0)
        ticket = object()
        flight.callers[ticket] = recipe
        try:
            if not await wait_ended(self._deadlines, flight.future, until_s):
                raise DeadlineExceededError(f"{key!r} was not computed within {timeout_s} s")
            return flight.future.result()
        finally:
            del flight.callers[ticket]

    def close(self) -> None:
        """End them all."""
        for task in self._tasks:
            task.cancel()

    # --- one flight -------------------------------------------------------------------------------

    def _refresh(self, key: str, version: int, recipe: Recipe) -> None:
        """Have a value computed anew, by one process of the mesh, while it is served."""
        if key in self._by_key or key in self._resting:
            return
        flight = self._take_off(key, version)
        flight.callers[flight] = recipe
        flight.until_s = self._clock.monotonic_s() + recipe.load_s_max

    def _take_off(self, key: str, seen: int) -> Flight:
        flight = self._by_key[key] = Flight(key, self._ids.uuid(), seen)
        context = find_context()
        where = contextvars.copy_context() if context is None else context.without_deadline()
        self._start(self._fly(flight), where)
        return flight

    def _start(self, work: Coroutine[Any, Any, object], context: contextvars.Context) -> None:
        task = asyncio.get_running_loop().create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fly(self, flight: Flight) -> None:
        """Bring the value, or the error, to those who wait."""
        try:
            found = await self._find(flight)
        except asyncio.CancelledError:
            self._land(flight, ClosedError("mesh"))
            raise
        except Exception as error:  # noqa: BLE001 - a load is the user's, and may raise anything
            self._land(flight, error)
        else:
            self._close(flight)
            flight.future.set_result(found)

    def _land(self, flight: Flight, error: Exception) -> None:
        self._close(flight)
        if flight.callers.pop(flight, None) is not None and not isinstance(error, ClosedError):
            key = flight.key
            _log.warning("%r could not be computed anew: %r", key, error)
            self._resting.add(key)
            self._clock.call_later(REST_S, partial(self._resting.discard, key))
        flight.future.set_exception(error)
        flight.future.exception()  # perhaps nobody waits any more, and it was told

    def _close(self, flight: Flight) -> None:
        """Let nobody join any more."""
        if self._by_key.get(flight.key) is flight:
            del self._by_key[flight.key]

    async def _find(self, flight: Flight) -> Hit | None:
        while True:
            turned = await self._ask(flight)
            if turned.turn == Turn.NOTHING:
                return None
            if turned.turn == Turn.THERE:
                self._close(flight)  # who comes from now on may know of a later change
                hit: Hit | None = await self._client.read(flight.key, PARK_S_MAX)
                if hit is not None:
                    return hit
            elif turned.turn == Turn.LOAD:
                is_stored, hit = await self._load(flight, turned.token)
                if is_stored:
                    return hit
            self._by_key.setdefault(flight.key, flight)

    async def _ask(self, flight: Flight) -> Turned:
        """Ask the owner what is there to do, until it says it."""
        client, tries = self._client, 0
        while True:
            recipe = self._recipe(flight)
            epoch = client.lookup.table.epoch
            ask = AskTurn(
                epoch, flight.key, flight.who, recipe.load_s_max, flight.seen, recipe.tags
            )
            timeout_s = PARK_S_MAX + ANSWER_S
            turned: Turned | None = await self._ask_owner(
                flight.key, "turn", ask, returns=Turned, timeout_s=timeout_s
            )
            if turned is not None:
                client.book.learn(turned.table)
            if turned is not None and turned.turn in _ANSWERS:
                return turned
            if turned is None or turned.turn != Turn.WAIT:
                delay_s = min(AGAIN_S * 2 ** min(tries, 10), AGAIN_S_MAX)
                await client.book.wait_newer(epoch, delay_s)
                tries += 1

    async def _ask_owner(
        self, key: str, operation: str, payload: Any, *, returns: Any, timeout_s: float
    ) -> Any:
        """Ask the owner of a key once; None: there is none now, or it has not answered.

        Raises:
            NoAgentError: there are no nodes.
            BadAnswerError, HandlerError, TransportError, ClosedError
        """
        client = self._client
        node = client.lookup.owner_of(key)
        if node is None:
            if client.has_nobody():
                raise NoAgentError(NO_NODES, reason="nobody")
            return None
        how: dict[str, Any] = {"returns": returns, "timeout_s": timeout_s}
        try:
            return await client.peers.ask(node, operation, payload, **how)
        except MAY_PASS:
            return None

    def _recipe(self, flight: Flight) -> Recipe:
        """Return how one of those who wait would have it computed.

        Raises:
            DeadlineExceededError: nobody waits any more.
        """
        if flight in flight.callers and self._clock.monotonic_s() > flight.until_s:
            del flight.callers[flight]
        for recipe in flight.callers.values():
            return recipe
        raise DeadlineExceededError(f"{flight.key!r} was not computed in time")

    async def _load(self, flight: Flight, token: int) -> tuple[bool, Hit | None]:
        """Compute the value, and store it; returns whether it counts, and what it is.

        Where the key was changed meanwhile it does not count: it may be of before.
        """
        key = flight.key
        try:
            recipe = self._recipe(flight)
            change = await self._compute(key, recipe, token)
            self._close(flight)
            if change is None:
                return await self._give_back(EndTurn(key, token, found_nothing=True)), None
            outcome = await self._store(change, recipe)
        except BaseException as error:
            self.errors += isinstance(error, Exception)
            self._start(self._give_back(EndTurn(key, token)), contextvars.Context())
            raise
        is_done = outcome.status == Status.DONE
        if change.kind == NOTHING:
            return is_done, None
        return is_done, Hit(change.value, change.kind, outcome.version)

    async def _compute(self, key: str, recipe: Recipe, token: int) -> Change | None:
        began_s = self._clock.monotonic_s()
        self.loads += 1
        try:
            with TimeLimit(self._deadlines, self._clock, recipe.load_s_max):
                value = await recipe.load()
            cost_us = int((self._clock.monotonic_s() - began_s) * 1e6)
            return recipe.change(key, value, cost_us, token)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise RequestCancelledError(f"the load of {key!r} was cancelled") from None
        except TimeoutError:
            if self._clock.monotonic_s() - began_s < recipe.load_s_max:
                raise  # the load's own
            raise DeadlineExceededError(
                f"the load of {key!r} took longer than {recipe.load_s_max} s"
            ) from None

    async def _store(self, change: Change, recipe: Recipe) -> Outcome:
        try:
            outcome: Outcome = await self._client.write(change, recipe.load_s_max)
        except DeadlineExceededError:  # it may be there, or not: the owner will say
            return Outcome(Status.UNKNOWN)
        return checked(outcome)

    async def _give_back(self, end: EndTurn) -> bool:
        """Give a turn back; returns whether it was one still; unheard, it runs out."""
        try:
            answer = await self._ask_owner(
                end.key, "end_turn", end, returns=bool, timeout_s=ANSWER_S
            )
        except Agent99Error as error:
            _log.debug("the turn of %r runs out: %r", end.key, error)
            return False
        return answer is True
