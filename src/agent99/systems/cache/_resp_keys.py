"""The commands on all keys, and what the listener tells of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent99.systems.cache._resp_replies import (
    OK,
    SYNTAX,
    RefusedError,
    array,
    bulk,
    integer,
    integer_of,
)
from agent99.systems.cache._resp_session import REDIS_VERSION, Call, Session

KEYS_MAX: Final = 10_000
"""What KEYS answers with, at most: it is for people. SCAN has no such bound."""
SCAN_COUNT: Final = 10
SCAN_COUNT_MAX: Final = 10_000
PATTERN_BYTES_MAX: Final = 4_096
"""Four times the longest key."""
_CURSOR_DIGITS_MAX: Final = 20
_CURSOR_MAX: Final = 2**64 - 1


async def scan(call: Call) -> bytes:
    """SCAN cursor [MATCH pattern] [COUNT number] [TYPE type]."""
    cursor = _cursor_of(call.arguments[0])
    match, count, kind = "", SCAN_COUNT, b"string"
    words = iter(call.arguments[1:])
    for word in words:
        value = next(words, None)
        if value is None:
            raise RefusedError(SYNTAX)
        if word.upper() == b"MATCH":
            match = pattern_of(value)
        elif word.upper() == b"COUNT":
            count = integer_of(value)
        elif word.upper() == b"TYPE":
            kind = value.lower()
        else:
            raise RefusedError(SYNTAX)
    if count < 1:
        raise RefusedError(SYNTAX)
    cursor, keys = await call.session.strings.scan(cursor, match, min(count, SCAN_COUNT_MAX))
    found = [bulk(key.encode()) for key in keys] if kind == b"string" else []
    return array((bulk(b"%d" % cursor), array(found)))


async def keys(call: Call) -> bytes:
    """KEYS pattern: a whole scan, refused where more than KEYS_MAX match."""
    match = pattern_of(call.arguments[0])
    found: dict[str, None] = {}  # a scan may meet a key twice
    cursor = 0
    while True:
        cursor, some = await call.session.strings.scan(cursor, match, SCAN_COUNT_MAX)
        found.update(dict.fromkeys(some))
        if len(found) > KEYS_MAX:
            raise RefusedError(f"ERR more than {KEYS_MAX} keys match: use SCAN")
        if not cursor:
            return array([bulk(key.encode()) for key in found])


async def count(call: Call) -> bytes:
    """DBSIZE."""
    return integer(await call.session.strings.count())


async def flush(call: Call) -> bytes:
    """FLUSHDB and FLUSHALL [ASYNC | SYNC]: there is one database, and it is done when answered."""
    modes = [word.upper() for word in call.arguments]
    if modes not in ([], [b"ASYNC"], [b"SYNC"]):
        raise RefusedError(SYNTAX)
    await call.session.strings.flush()
    return OK


async def info(call: Call) -> bytes:
    """INFO [section …]."""
    asked = {word.decode("ascii", "replace").lower() for word in call.arguments}
    wants_all = not asked or bool(asked & {"all", "default", "everything"})
    figures = await call.session.strings.info()
    keys_count = await call.session.strings.count()
    sections = _sections(call.session, figures, keys_count)
    told = [
        "".join((f"# {name}\r\n", *(f"{key}:{value}\r\n" for key, value in lines.items())))
        for name, lines in sections.items()
        if wants_all or name.lower() in asked
    ]
    return call.session.dialect.text("\r\n".join(told))


def pattern_of(raw: bytes) -> str:
    """Read a pattern for keys.

    Raises:
        RefusedError: it is too long, or no text.
    """
    if len(raw) > PATTERN_BYTES_MAX:
        raise RefusedError(f"ERR pattern of more than {PATTERN_BYTES_MAX} bytes")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise RefusedError("ERR pattern is not UTF-8 text") from None


def _cursor_of(raw: bytes) -> int:
    if raw.isdigit() and len(raw) <= _CURSOR_DIGITS_MAX and int(raw) <= _CURSOR_MAX:
        return int(raw)
    raise RefusedError("ERR invalid cursor")


def _sections(
    session: Session, figures: Mapping[str, str | int], keys_count: int
) -> dict[str, dict[str, str | int]]:
    """Return what INFO tells, by section; figures that Redis has stand where Redis has them."""
    listener = session.figures
    uptime_s = int(session.clock.monotonic_s() - listener.started_s)
    sections: dict[str, dict[str, str | int]] = {
        "Server": {
            "redis_version": REDIS_VERSION,
            "redis_mode": "standalone",
            "server_name": "agent99",
            "tcp_port": listener.port,
            "uptime_in_seconds": uptime_s,
            "uptime_in_days": uptime_s // 86_400,
        },
        "Clients": {
            "connected_clients": listener.clients,
            "maxclients": listener.clients_max,
        },
        "Memory": {},
        "Stats": {
            "total_connections_received": listener.connections,
            "total_commands_processed": listener.commands,
            "rejected_connections": listener.refused,
        },
        "Cache": {},
        "Keyspace": {"db0": f"keys={keys_count},expires=0,avg_ttl=0"} if keys_count else {},
    }
    for name, value in figures.items():
        words = str(value).translate(_LINE_ENDS)
        sections[_SECTION_OF.get(name, "Cache")][name] = words
    return sections


_LINE_ENDS: Final = str.maketrans("\r\n", "  ")
_SECTION_OF: Final = {
    **dict.fromkeys(("used_memory", "maxmemory", "maxmemory_policy"), "Memory"),
    **dict.fromkeys(
        ("keyspace_hits", "keyspace_misses", "evicted_keys", "expired_keys"),
        "Stats",
    ),
}
