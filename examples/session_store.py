"""Sessions in the memory of the mesh: whichever instance is asked next goes on with them.

$ agent99 run examples/session_store.py --count 2
$ agent99 call shop_front visit user=ada
$ agent99 call shop_front put token=ada:Zx3… item=tea    # the token that `visit` answered
"""

import secrets
from typing import Annotated

import msgspec
from msgspec import Meta

from agent99 import Agent, Failure, operation
from agent99.systems.cache import CacheNodeAgent

IDLE_S = 1_800.0
"""A session that nobody uses ends after so long."""
TRIES_MAX = 20

User = Annotated[str, Meta(pattern="^[a-z0-9.-]{1,64}$")]


class Session(msgspec.Struct):
    """What is known of a visitor."""

    user: str
    basket: list[str] = []


class Visit(msgspec.Struct):
    """A session has begun."""

    token: str
    visits: int
    """Of this user, this one included."""


class SessionNode(CacheNodeAgent):
    """Holds a share of the sessions, and copies of others."""

    memory_bytes = 64 * 1024 * 1024


class ShopFront(Agent):
    """Serves visitors, and keeps nothing of them itself."""

    capabilities = ("shop_front",)
    uses = ("cache_node",)

    async def start(self) -> None:
        """Open the namespaces."""
        self.sessions = await self.cache("sessions", Session)
        self.visits = await self.cache("visits", int)

    @operation
    async def visit(self, user: User) -> Visit:
        """Begin a session."""
        token = f"{user}:{secrets.token_urlsafe(16)}"
        await self.sessions.set(token, Session(user), ttl_s=IDLE_S)
        return Visit(token, await self.visits.incr(user))

    @operation
    async def put(self, token: str, item: str) -> list[str]:
        """Put something into the basket; of two at once neither undoes the other's."""
        for _ in range(TRIES_MAX):
            found = await self.sessions.fetch(token)
            if found is None:
                raise Failure("this session is over", code="NO_SESSION")
            session = Session(found.value.user, [*found.value.basket, item])
            if await self.sessions.cas(token, session, version=found.version, ttl_s=IDLE_S):
                return session.basket
        raise Failure("too many change this basket at once", code="BUSY", retryable=True)

    @operation
    async def log_out(self, user: User) -> int:
        """End all sessions of a user; returns how many there were."""
        return await self.sessions.invalidate_prefix(f"{user}:")
