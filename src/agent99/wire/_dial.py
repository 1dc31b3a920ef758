"""Reaching a server: connect, TLS, handshake, version; one attempt, in bounded time."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
from collections.abc import Callable, Sequence

import msgspec

from agent99.errors import (
    AuthenticationError,
    ServerUnavailableError,
    ServerVersionError,
    TransportError,
)
from agent99.wire._address import Address
from agent99.wire._encoder import PING, encode_connect
from agent99.wire._link import Link
from agent99.wire._options import SERVER_VERSION_MIN, WireOptions, is_version_accepted

MakeLink = Callable[[Address], Link]

_NUMBER = re.compile(r"\[Errno (\d+)\]")
_HINT = (
    "is a nats-server running there? (AGENT99_URL or the setting url names it; where neither is"
    " set it is the embedded one: agent99 server status)"
)


async def dial(address: Address, make_link: MakeLink, options: WireOptions) -> Link:
    """Return a link on which the server has accepted us.

    Raises:
        ServerUnavailableError, AuthenticationError, ServerVersionError
    """
    try:
        async with asyncio.timeout(options.connect_timeout_s):
            return await _dial(address, make_link, options)
    except TimeoutError:
        reason = f"no answer within {options.connect_timeout_s:g} s"
        raise ServerUnavailableError(address.shown, reason) from None
    except ssl.SSLError as error:
        reason = f"TLS failed: {error.reason or error}"
        raise ServerUnavailableError(address.shown, reason) from None
    except OSError as error:
        raise ServerUnavailableError(address.shown, f"{_reason(error)}; {_HINT}") from None
    except ValueError:  # what the resolver says of a name that it cannot encode
        raise ServerUnavailableError(address.shown, "the host name is not valid") from None


async def dial_first(
    addresses: Sequence[Address], make_link: MakeLink, options: WireOptions
) -> Link:
    """Try every address once, in order; return the first link.

    Raises:
        ServerUnavailableError, AuthenticationError, ServerVersionError: of the address that came
            furthest: a refused credential says more than a closed port.
    """
    failures: list[TransportError] = []
    for address in addresses:
        try:
            return await dial(address, make_link, options)
        except TransportError as error:
            failures.append(error)
    raise max(failures, key=_weight)


def _reason(error: OSError) -> str:
    """Return the system's words, the same on every event loop."""
    if isinstance(error, socket.gaierror):
        return error.strerror or "the host name is not known"
    # The loop of asyncio has words of its own, and one text for all addresses of a host's name.
    numbers = [error.errno] if error.errno else map(int, _NUMBER.findall(str(error)))
    words = dict.fromkeys(os.strerror(number).lower() for number in numbers)
    return " and ".join(words) or type(error).__name__


def _weight(error: TransportError) -> int:
    if isinstance(error, AuthenticationError):
        return 2
    return 1 if isinstance(error, ServerVersionError) else 0


async def _dial(address: Address, make_link: MakeLink, options: WireOptions) -> Link:
    loop = asyncio.get_running_loop()
    _, link = await loop.create_connection(lambda: make_link(address), address.host, address.port)
    try:
        await link.first_info
        if address.is_tls or options.tls is not None or link.info.tls_required:
            await _start_tls(link, options)
        if not is_version_accepted(link.info.version):
            shown = link.info.version or "unknown"
            raise ServerVersionError(address.shown, shown, SERVER_VERSION_MIN)
        if link.transport is not None:
            link.transport.write(encode_connect(_connect_fields(address, options)) + PING)
        await link.first_pong
    except BaseException:
        link.abort()
        raise
    return link


async def _start_tls(link: Link, options: WireOptions) -> None:
    context = options.tls or ssl.create_default_context()
    if link.transport is None:
        return
    transport = await asyncio.get_running_loop().start_tls(
        link.transport, link, context, server_hostname=link.address.host
    )
    if transport is None:  # typeshed's word for a transport that closed meanwhile
        raise ServerUnavailableError(link.address.shown, "the link closed during TLS")
    link.take_transport(transport)


def _connect_fields(address: Address, options: WireOptions) -> bytes:
    fields: dict[str, object] = {
        "verbose": False,
        "pedantic": False,
        "lang": "python-agent99",
        "version": "1",
        "protocol": 1,
        "headers": True,
        "no_responders": True,
        "echo": True,
        "name": options.name,
        "tls_required": options.tls is not None or address.is_tls,
    }
    if address.token:
        fields["auth_token"] = address.token
    elif address.user:
        fields["user"], fields["pass"] = address.user, address.password
    return msgspec.json.encode(fields)
