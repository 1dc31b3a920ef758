"""Server addresses: parsed once, shown without the credential. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

import msgspec

from agent99.errors import UsageError

PORT = 4222
_SCHEMES = frozenset(("nats", "tls"))
_ADDRESSES_MAX = 64


class Address(msgspec.Struct, frozen=True):
    """Where a server is and who we are to it."""

    host: str
    port: int
    is_tls: bool = False
    user: str = ""
    password: str = ""
    token: str = ""

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"

    @property
    def shown(self) -> str:
        """The address for people: without the credential."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.is_tls else 'nats'}://{host}:{self.port}"

    def sibling(self, host_and_port: str) -> Address | None:
        """Return another server of the cluster, same credential; None if it is unreadable."""
        try:
            other = parse_address(f"nats://{host_and_port}")
        except UsageError:
            return None
        return msgspec.structs.replace(self, host=other.host, port=other.port)


def parse_address(url: str) -> Address:
    """Read `nats://user:password@host:port`, `nats://token@host`, `tls://…` or plain `host:port`.

    Raises:
        UsageError: it cannot be read; the message never shows a credential.
    """
    try:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"no NATS URL: {_reason(error)}") from None
    if parts.scheme not in _SCHEMES or not host or parts.path not in ("", "/"):
        raise UsageError("no NATS URL: it has the form nats://host:port")
    user, password, token = unquote(parts.username or ""), "", ""
    if parts.password is not None:
        password = unquote(parts.password)
    elif user:
        user, token = "", user
    return Address(host, port or PORT, parts.scheme == "tls", user, password, token)


def parse_addresses(urls: str | Sequence[str]) -> tuple[Address, ...]:
    """Read one URL, several separated by commas, or a sequence of URLs.

    Raises:
        UsageError: one cannot be read, or there is none, or there are more than 64.
    """
    texts = urls.split(",") if isinstance(urls, str) else urls
    addresses = tuple(dict.fromkeys(parse_address(text.strip()) for text in texts))
    if not 0 < len(addresses) <= _ADDRESSES_MAX:
        raise UsageError(f"{len(addresses)} NATS URLs given; 1 to {_ADDRESSES_MAX} are allowed")
    return addresses


def _reason(error: ValueError) -> str:
    # The library's words may quote the URL, credential included; only the known ones are passed on.
    return "the port is no number from 0 to 65535" if "ort" in str(error) else "it cannot be read"
