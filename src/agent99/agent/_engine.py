"""What a mesh runs on: the NATS server at an address, or the embedded one."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol
from urllib.parse import unquote, urlsplit

import msgspec

from agent99.clock import Clock
from agent99.envelope import parse_name
from agent99.errors import UsageError
from agent99.ids import Ids
from agent99.journal import JetStreamJournal, Journal
from agent99.settings import Settings, redact_url, split_urls
from agent99.wire import ConnectionState, Wire, open_wire

_log = logging.getLogger("agent99.wire")

SENDER_CHARACTERS = 12
"""Of a random identity: 48 bits. It is no secret, and every message carries it."""


class Parts(msgspec.Struct, frozen=True):
    """An open engine."""

    wire: Wire
    journal: Journal
    url: str
    """Where it is, without a credential; for people."""


class Engine(Protocol):
    """Opens what a mesh runs on. The deterministic twin is `agent99.testing.MemoryEngine`."""

    def open(self, sender: str, *, clock: Clock, ids: Ids) -> AbstractAsyncContextManager[Parts]:
        """Return a context in which the engine is open, for a connection with that identity."""
        ...


class NatsEngine:
    """A NATS server: the one that the settings name, else the embedded one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __repr__(self) -> str:
        return f"NatsEngine({self._settings!r})"

    @asynccontextmanager
    async def open(self, sender: str, *, clock: Clock, ids: Ids) -> AsyncGenerator[Parts]:
        """Connect, after starting the embedded server where no address is given.

        Raises:
            EmbeddedServerError: it could not be started.
            ServerUnavailableError, ServerVersionError, AuthenticationError
        """
        if self._settings.url is not None:
            async with _connected(self._settings.url, sender, clock, ids) as parts:
                yield parts
            return
        from agent99.embedded import acquire_server  # noqa: PLC0415 - a third of the import's time

        async with (
            await acquire_server(self._settings, clock=clock) as server,
            _connected(server.url, sender, clock, ids) as parts,
        ):
            yield parts


@asynccontextmanager
async def _connected(url: str, sender: str, clock: Clock, ids: Ids) -> AsyncGenerator[Parts]:
    wire = await open_wire(split_urls(url), sender=sender.encode("ascii"), clock=clock, ids=ids)
    wire.on_state(_tell_state)
    wire.on_error(_tell_error)
    try:
        yield Parts(wire, JetStreamJournal(wire, clock=clock, ids=ids), redact_url(url))
    finally:
        await wire.aclose()


def _tell_state(state: ConnectionState) -> None:
    if state is ConnectionState.RECONNECTING:
        _log.warning("the link to the server is lost; trying again until it is back")
    elif state is ConnectionState.CONNECTED:
        _log.info("the link to the server is back")


def _tell_error(error: Exception) -> None:
    """What nobody waits for, a denied subscription among it, is at least said."""
    _log.error("%s", error)


def hang_up(wire: Wire, error: type[BaseException] | None, *_: object) -> None:
    """As an exit: whoever is cancelled, or fails, waits for no goodbye of the server's."""
    if error is not None:
        wire.abort()


def identity_of(settings: Settings, ids: Ids) -> str:
    """Return the sender that this process's subjects name.

    With permissions on it is the URL's user, whom the server proves; where all share a credential,
    a random one of the connection's own.

    Raises:
        UsageError: permissions are on and the URL has no user, or one that is no name.
    """
    if not settings.permissions:
        return ids.token().decode()[:SENDER_CHARACTERS]
    user = urlsplit(split_urls(settings.url or "")[0]).username
    if not user:
        raise UsageError("with permissions on, the URL must name a user: nats://user:…@host")
    return parse_name("user", unquote(user))
