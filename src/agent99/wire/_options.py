"""How a connection behaves, and what the server says of itself."""

from __future__ import annotations

import math
import re
import ssl

import msgspec

from agent99.errors import UsageError

SERVER_VERSION_MIN = "2.14.3"
"""Earlier servers have known security holes; some let a peer pass by its permissions."""


class WireOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds and behaviour of a `NatsWire`."""

    connect_timeout_s: float = 2.0
    """For one address: from the first packet to the end of the handshake."""
    ping_interval_s: float = 5.0
    """Time between two PINGs of ours."""
    pings_outstanding_max: int = 2
    """A link on which so many PINGs stay unanswered is stale and given up at the next one, after at
    most (`pings_outstanding_max` + 1) x `ping_interval_s`: 15 s by default."""
    reconnect_wait_s_min: float = 0.05
    """Upper end of the first random wait, which doubles with each round of failures; and the least
    wait after one."""
    reconnect_wait_s_max: float = 2.0
    """Upper end of the longest random wait between two rounds of attempts."""
    pending_bytes_max: int = 8 * 1_048_576
    """Bytes that may wait to be written, while the link is away or slow."""
    name: str = "agent99"
    """What the server's monitoring shows."""
    tls: ssl.SSLContext | None = None
    """Encrypts the link; None encrypts with the system's certificates if the URL (`tls://`) or the
    server asks for it."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            UsageError
        """
        for name in (
            "connect_timeout_s",
            "ping_interval_s",
            "pings_outstanding_max",
            "reconnect_wait_s_min",
            "reconnect_wait_s_max",
            "pending_bytes_max",
        ):
            value: float = getattr(self, name)
            if not 0 < value < math.inf:
                raise UsageError(f"WireOptions.{name} is {value}; it must be over 0")


class ServerInfo(msgspec.Struct, frozen=True):
    """The part of the server's INFO that matters to us."""

    version: str = ""
    """Of the server: `2.15.1`."""
    server_name: str = ""
    """For people."""
    max_payload: int = 1_048_576
    """The largest payload and header block together, in bytes."""
    headers: bool = False
    """Whether it can carry headers; without them there is no "no responders"."""
    auth_required: bool = False
    """Whether it wants a credential."""
    tls_required: bool = False
    """Whether it wants TLS next."""
    connect_urls: tuple[str, ...] = ()
    """`host:port` of every server of the cluster."""
    ldm: bool = False
    """Lame duck mode: it is about to stop."""
    client_id: int = 0
    """How the server numbers this connection."""


decode_server_info = msgspec.json.Decoder(ServerInfo).decode
"""Read INFO's argument; raises `msgspec.MsgspecError`."""

_VERSION = re.compile(r"v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})(?:[-+.](.*))?").fullmatch


def is_version_accepted(version: str, version_min: str = SERVER_VERSION_MIN) -> bool:
    """Return whether a server of that version may be used; a pre-release precedes its release."""
    return _version_key(version) >= _version_key(version_min)


def _version_key(version: str) -> tuple[int, int, int, bool]:
    found = _VERSION(version)
    if found is None:
        return (0, 0, 0, False)
    major, minor, patch, suffix = found.groups()
    return (int(major), int(minor), int(patch), not suffix)
