"""What a node takes from whoever asks it: not everybody asks with this library's client. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from agent99.errors import InvalidNameError
from agent99.systems.cache._entry import Entry
from agent99.systems.cache._item import Item
from agent99.systems.cache._keys import (
    KEY_BYTES_MAX,
    TAG_BYTES_MAX,
    TAGS_MAX,
    TTL_S_MAX,
    parse_namespace,
)
from agent99.systems.cache._options import WHOLE_BYTES
from agent99.systems.cache._words import Change, Verb

BAD_KEY, BAD_CHANGE, OLD_TOO_LARGE = "BAD_KEY", "BAD_CHANGE", "OLD_TOO_LARGE"
ASKED_MAX: Final = 1_000
"""Keys, or changes, that one message may name: the rest is to be asked for again."""

_TTL_US_MAX: Final = int(TTL_S_MAX * 1_000_000)
_COST_US_MAX: Final = 2**62
_KIND_MAX: Final = 255
_VERBS: Final = frozenset(int(verb) for verb in Verb)


def refusal(change: Change, there: Entry | Item | None) -> str:
    """Return the code by which a change is refused, whatever it does; empty: it makes sense.

    Args:
        there: What is there for its key.
    """
    if not is_key(change.key):
        return BAD_KEY
    if change.wants_old and there is not None and len(there.value) > WHOLE_BYTES:
        return OLD_TOO_LARGE
    is_sound = (
        change.verb in _VERBS
        and 0 <= change.ttl_us <= _TTL_US_MAX
        and 0 <= change.fresh_us <= _TTL_US_MAX
        and 0 <= change.cost_us <= _COST_US_MAX
        and 0 <= change.kind <= _KIND_MAX
        and (not change.tags or _are_tags(change.tags))
    )
    return "" if is_sound else BAD_CHANGE


def is_key(key: str) -> bool:
    """Whether a full key has a namespace, and 1 to 1,024 bytes behind it."""
    at = key.find(":")
    try:
        if at < 0 or parse_namespace(key[:at]) != key[:at]:
            return False
    except InvalidNameError:
        return False
    size = len(key) if key.isascii() else len(key.encode())
    return 1 <= size - at - 1 <= KEY_BYTES_MAX


def answerable(
    changes: Sequence[Change], state: Callable[[str], Entry | Item | None], room: int
) -> Sequence[Change]:
    """Return the changes, from the first on, whose old values fit into one answer where wanted.

    Args:
        state: What is there for a key.
        room: For values, in bytes.
    """
    for index, change in enumerate(changes):
        if change.wants_old:
            there = state(change.key)
            room -= len(change.value) + (len(there.value) if there is not None else 0)
            if room < 0 and index:
                return changes[:index]
    return changes


def _are_tags(tags: tuple[str, ...]) -> bool:
    return len(tags) <= TAGS_MAX and all(1 <= len(tag.encode()) <= TAG_BYTES_MAX for tag in tags)
