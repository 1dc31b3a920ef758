"""What a client hands in, checked: namespaces, keys, times to live, tags. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from zlib import crc32

from agent99.envelope import parse_name
from agent99.errors import InvalidNameError, UsageError
from agent99.systems.cache._table import PARTITIONS

KEY_BYTES_MAX: Final = 1_024
"""Of a key without its namespace, in UTF-8."""
TAGS_MAX: Final = 16
TAG_BYTES_MAX: Final = 128
TTL_S_MIN: Final = 0.001
TTL_S_MAX: Final = 10 * 365.25 * 24 * 3_600
"""Ten years: who wants more wants no time to live, or has mistaken the unit."""

PARTITION_MASK: Final = PARTITIONS - 1
"""Of a key's checksum, for the hot paths that do without a call of `partition_of`."""
_KEY_RULE = f"a key is text of 1 to {KEY_BYTES_MAX:,} bytes of UTF-8"
_TAG_RULE = f"a tag is text of 1 to {TAG_BYTES_MAX} bytes of UTF-8"


def parse_namespace(text: str) -> str:
    """Return the name of a namespace, in lower case: no `:` is in it.

    Raises:
        InvalidNameError: it breaks the grammar of names.
    """
    return parse_name("namespace", text)


def full_key(prefix: str, key: str) -> str:
    """Return a key with its namespace: by it a mesh knows what is held.

    Keys never become subjects, so that any character may stand in them.

    Args:
        prefix: The namespace and a `:`, once for many keys.
        key: 1 to 1,024 bytes of UTF-8.

    Raises:
        InvalidNameError: no text, empty, too long, or with half of a surrogate pair.
    """
    # Nearly every key ends here: of ASCII, each character is one byte.
    if type(key) is str and key.isascii() and 0 < len(key) <= KEY_BYTES_MAX:
        return prefix + key
    _check_text("cache key", key, KEY_BYTES_MAX, _KEY_RULE)
    return prefix + key


def partition_of(key: str) -> int:
    """Return the partition of a full key, 0 to 255: the same for ever, in every process."""
    return crc32(key.encode()) & PARTITION_MASK


def check_ttl(ttl_s: float | None) -> int:
    """Return a time to live in microseconds; 0: it never ends.

    Args:
        ttl_s: Seconds, from a millisecond to ten years; None: for ever.

    Raises:
        UsageError: no number, not a number, or out of these bounds.
    """
    if ttl_s is None:
        return 0
    if isinstance(ttl_s, bool) or not isinstance(ttl_s, int | float):
        raise UsageError(f"a time to live is a number of seconds or None, not {ttl_s!r}")
    if not TTL_S_MIN <= ttl_s <= TTL_S_MAX:  # nothing is true of NaN
        raise UsageError(
            f"a time to live is {TTL_S_MIN} s to {TTL_S_MAX:,.0f} s (ten years), or None for ever;"
            f" not {_short(ttl_s)}"
        )
    return round(ttl_s * 1_000_000)


def check_number(what: str, number: int) -> int:
    """Return a whole number of 64 bits: nodes refuse a message that has another one, as a whole.

    Args:
        what: Names it.

    Raises:
        UsageError: no whole number, or beyond 64 bits.
    """
    if isinstance(number, bool) or not isinstance(number, int):
        raise UsageError(f"{what} is a whole number, not {type(number).__name__}")
    if not -(2**63) <= number < 2**63:
        raise UsageError(f"{what} is a whole number of 64 bits, not {_short(number)}")
    return number


def check_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return tags as they are stored: each once, in the order given.

    Raises:
        UsageError: one text instead of several, or more than 16.
        InvalidNameError: a tag that is no text of 1 to 128 bytes.
    """
    given = several("tags", tags)
    for tag in given:
        _check_text("tag", tag, TAG_BYTES_MAX, _TAG_RULE)
    distinct = tuple(dict.fromkeys(given))
    if len(distinct) > TAGS_MAX:
        raise UsageError(f"a value has at most {TAGS_MAX} tags, not {len(distinct):,}")
    return distinct


def several(what: str, texts: Iterable[str]) -> list[str]:
    """Return several texts as a list; one alone would be taken for its letters.

    Args:
        what: Names them.

    Raises:
        UsageError: one text, or nothing that can be gone through.
    """
    if isinstance(texts, str | bytes):
        raise UsageError(f"{what} are several texts, such as [{texts!r}], not {texts!r}")
    if not isinstance(texts, Iterable):
        raise UsageError(f"{what} are several texts, not {type(texts).__name__}")
    return list(texts)


def _check_text(what: str, text: str, bytes_max: int, rule: str) -> None:
    if not isinstance(text, str):
        raise InvalidNameError(what, repr(text), f"{rule}, not {type(text).__name__}")
    if not text:
        raise InvalidNameError(what, text, f"{rule}, not empty")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        lone = f"half of a surrogate pair stands at character {error.start + 1}"
        raise InvalidNameError(what, text, f"{rule}: {lone}") from None
    if size > bytes_max:
        raise InvalidNameError(what, text, f"{rule}, not {size:,}")


def _short(number: float) -> str:
    """Return a number in a few digits: there are whole numbers of thousands of them."""
    try:
        return f"{number:g}"
    except OverflowError:
        return "a number beyond any float"
