"""What the checker says: its verdict when it is asked, and an event for each violation. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from agent99.systems.shop._checker_rules import Violation

VIOLATION: Final = "shop.violation"
"""The topic of the events, each a `Violation`."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What came of all looks since the checker started."""

    looks: int
    """At all that there is to see: a look for which a database was away does not count."""
    rounds: int
    """Times that everything was looked at, what nobody changed for long too."""
    violations: tuple[str, ...]
    """The first of them, each once, as they were seen."""
    late: tuple[str, ...]
    """Orders that were in a middle state for too long at the last look, the oldest first."""
    last_look_us: int | None
    """When it began, microseconds since the epoch; None: there was none."""
    unread: str
    """What could not be read at the last try, and is tried again; empty: all was read."""


class _Header(msgspec.Struct, frozen=True):
    to_uuid: str


class _Message(msgspec.Struct, frozen=True):
    header: _Header


def split_log(messages: Iterable[bytes]) -> tuple[list[bytes], tuple[str, ...]]:
    """Return what of a log is told by others, and the texts of the checker's violations in it.

    Raises:
        msgspec.ValidationError: a message is no envelope.
    """
    others: list[bytes] = []
    texts: list[str] = []
    for message in messages:
        if msgspec.json.decode(message, type=_Message).header.to_uuid == VIOLATION:
            texts.append(msgspec.json.decode(message, type=Violation).text)
        else:
            others.append(message)
    return others, tuple(dict.fromkeys(texts))
