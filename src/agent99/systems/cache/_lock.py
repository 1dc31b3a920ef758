"""Locks: a key that is there as long as somebody has it, and its version, which only grows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

import msgspec

from agent99.errors import Agent99Error, DeadlineExceededError, UsageError
from agent99.systems.cache._client import CacheClient
from agent99.systems.cache._keys import check_ttl, full_key
from agent99.systems.cache._refusals import checked
from agent99.systems.cache._values import TEXT
from agent99.systems.cache._words import Change, Outcome, Status, Verb

V = TypeVar("V")

LOCKS = "a99-locks"
"""The namespace of all locks: who clears another one frees none."""
AGAIN_S, AGAIN_S_MAX = 0.005, 0.1
"""Between two tries to get a lock; doubled each time, and drawn by lot."""
LOCK_S = 10.0
"""How long a lock is held that is not renewed, by default."""
LOCK_WAIT_S = 5.0
WRITE_S = 5.0
"""How long one word to the owner may take."""

_log = logging.getLogger("agent99.systems.cache")


class LockTakenError(Agent99Error):
    """Somebody else had the lock all the time that one was ready to wait for it."""

    code = "LOCK_TAKEN"
    retryable = True

    def __init__(self, name: str, wait_s: float) -> None:
        super().__init__(f"somebody else has the lock {name!r}; waited {wait_s} s for it")
        self.name = name


class LockLostError(Agent99Error):
    """The lock ran out, or was lost with the nodes that held it: another one may have it."""

    code = "LOCK_LOST"

    def __init__(self, name: str) -> None:
        super().__init__(f"the lock {name!r} is lost: another one may have it")
        self.name = name


class Lock:
    """A lock that one has; see `Cache.lock`.

    Attributes:
        name: Of the lock.
        token: The fencing token: who gets the lock later has a higher one, whichever nodes died. A
            resource that refuses lower ones than it has seen is safe from who lost the lock
            without knowing.
    """

    def __init__(self, client: CacheClient, key: str, name: str, lease_s: float) -> None:
        self.name = name
        self.token = 0
        self._client = client
        self._key = key
        self._holder = client.ids.uuid().encode()
        self._lease_s = lease_s
        self._until_s = 0.0
        self._version = 0

    def __repr__(self) -> str:
        return f"Lock({self.name!r}, token={self.token}, held={self.is_held()})"

    def is_held(self) -> bool:
        """Tell whether the lease goes on still, by this process's clock and on the safe side."""
        return bool(self._client.clock.monotonic_s() < self._until_s)

    async def renew(self) -> None:
        """Have the lease begin anew now; the token stays.

        Raises:
            LockLostError: it ran out before; from now on it is not held.
            DeadlineExceededError: it may have been renewed, or not; ask again.
            NoAgentError, BadAnswerError, HandlerError, TransportError, ClosedError
        """
        ttl_us = check_ttl(self._lease_s)
        began_s = self._client.clock.monotonic_s()
        outcome = await self._change(Verb.CAS, ttl_us)
        if outcome.status != Status.DONE:
            self._until_s = 0.0
            raise LockLostError(self.name)
        self._version = outcome.version
        self._until_s = began_s + self._lease_s

    async def release(self) -> None:
        """Let others have it; does nothing if it is lost. The end of the block does it.

        Raises:
            as `renew`, but not that it is lost: it runs out then.
        """
        self._until_s = 0.0
        await self._change(Verb.DELETE, 0)

    async def free(self) -> None:
        """Let others have it, whatever happens: at the worst it runs out."""
        try:
            await self.release()
        except Agent99Error as error:
            _log.warning("%r could not be freed, and runs out: %r", self, error)

    # --- inside -----------------------------------------------------------------------------------

    async def acquire(self, wait_s: float) -> None:
        """Private to the room: get it."""
        clock, ids = self._client.clock, self._client.ids
        give_up_s = clock.monotonic_s() + wait_s
        delay_s = AGAIN_S
        while True:
            try:
                if await self._try():
                    return
                error: Agent99Error = LockTakenError(self.name, wait_s)
            except DeadlineExceededError as unknown:  # the next try tells whether it was got
                error = unknown
            left_s = give_up_s - clock.monotonic_s()
            if left_s <= 0:
                raise error
            await clock.sleep(min(delay_s * (0.5 + ids.fraction() / 2), left_s))
            delay_s = min(delay_s * 2, AGAIN_S_MAX)

    async def _try(self) -> bool:
        began_s = self._client.clock.monotonic_s()
        change = self._changed(Verb.ADD, check_ttl(self._lease_s))
        asked = self._client.write(change, min(self._lease_s, WRITE_S))
        try:
            outcome: Outcome = await asyncio.shield(asked)
        except asyncio.CancelledError:
            asked.add_done_callback(self._undo)
            raise
        checked(outcome)
        if outcome.status != Status.DONE and outcome.value != self._holder:
            return False
        self.token = self._version = outcome.version
        if outcome.status == Status.DONE:
            self._until_s = began_s + self._lease_s
        else:  # an earlier try got it, and its answer was lost
            await self.renew()
        return True

    def _undo(self, asked: asyncio.Future[Any]) -> None:
        """Free what was got when nobody wanted it any more."""
        if not asked.cancelled() and asked.exception() is None:
            outcome: Outcome = asked.result()
            if outcome.status == Status.DONE:
                change = self._changed(Verb.DELETE, 0, outcome.version)
                freed = self._client.write(change, WRITE_S)
                freed.add_done_callback(_told)

    async def _change(self, verb: Verb, ttl_us: int) -> Outcome:
        """Change the key while it is one's own, also where an answer was lost before."""
        while True:
            change = self._changed(verb, ttl_us, self._version)
            outcome: Outcome = await self._client.write(change, min(self._lease_s, WRITE_S))
            if outcome.status == Status.DONE or outcome.value != self._holder:
                return outcome
            self._version = outcome.version

    def _changed(self, verb: Verb, ttl_us: int, version: int = 0) -> Change:
        holder = b"" if verb == Verb.DELETE else self._holder
        return Change(verb, self._key, holder, TEXT, ttl_us, version, wants_old=True)


class BlockingLock:
    """A lock that a thread has; see `Lock`."""

    def __init__(self, lock: Lock, wait: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self.name = lock.name
        self.token = lock.token
        self._lock = lock
        self._wait = wait

    def __repr__(self) -> str:
        return f"BlockingLock({self.name!r}, token={self.token}, held={self.is_held()})"

    def is_held(self) -> bool:
        """Tell whether the lease goes on still; see `Lock.is_held`."""
        return self._lock.is_held()

    def renew(self) -> None:
        """Have the lease begin anew now; see `Lock.renew`."""
        self._wait(self._lock.renew())

    def release(self) -> None:
        """Let others have it; see `Lock.release`."""
        self._wait(self._lock.release())


class Locked(msgspec.Struct, Generic[V], frozen=True):
    """A value that nobody else has who asks for it in the same way."""

    value: V | None
    """None: there was none."""
    version: int
    """Of the value, for `cas`; 0: there was none, and `add` makes one."""
    lock: Lock


async def acquired(
    client: CacheClient, namespace: str, name: str, lease_s: float, wait_s: float
) -> Lock:
    """Return a lock that one has now; see `Cache.lock`."""
    if not isinstance(wait_s, int | float) or not 0 <= wait_s < float("inf"):
        raise UsageError(f"wait_s is a time from 0 up; not {wait_s!r}")
    if not check_ttl(lease_s):
        raise UsageError("a lock ends by itself: lease_s is a number of seconds")
    full_key("", name)
    key = full_key(f"{LOCKS}:", f"{namespace}:{name}")
    lock = Lock(client, key, name, lease_s)
    await lock.acquire(wait_s)
    return lock


def _told(freed: asyncio.Future[Any]) -> None:
    """Hear of an error that concerns nobody: the lock runs out."""
    if not freed.cancelled():
        freed.exception()
