"""Redis's patterns for keys, in time that grows with the key and the pattern, and no faster."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

# What stands in a set: an escaped letter, a range of any two, a letter.
_ITEM: Final = r"\\.|[^\]]-.|[^\]]"
_ITEMS: Final = re.compile(_ITEM, re.DOTALL)
_PART: Final = re.compile(
    rf"\*+|\?|\[(?P<not>\^?)(?P<set>(?:{_ITEM})*+)(?:\]|\Z)|\\(?P<literal>.)|(?P<plain>.)",
    re.DOTALL,
)


def compile_glob(pattern: str) -> re.Pattern[str]:
    r"""Return what finds a key that a pattern of Redis matches, by `fullmatch`.

    `*` is any text, `?` any letter, `[ab]` and `[a-z]` one of these, `[^a]` none of these, and a
    backslash takes the meaning of what follows. What stands between two stars is looked for once,
    at its first place: a later one can't match more, so there is nothing to come back to.
    """
    pieces = [""]
    for part in _PART.finditer(pattern):
        if part[0].startswith("*"):
            pieces.append("")
        else:
            pieces[-1] += _letter(part)
    first, *middle = pieces
    if not middle:
        return re.compile(first, re.DOTALL)
    *middle, last = middle
    between = "".join(f"(?>.*?{piece})" for piece in middle)
    return re.compile(f"{first}{between}.*{last}", re.DOTALL)


def _letter(part: re.Match[str]) -> str:
    """Return the expression for one letter."""
    if part["set"] is None:
        plain = part["literal"] or part["plain"]
        return re.escape(plain) if plain else "."
    ranges = "".join(_ranges(part["set"]))
    if part["not"]:
        return f"[^{ranges}]" if ranges else "."
    return f"[{ranges}]" if ranges else r"[^\s\S]"  # one of nothing


def _ranges(letters: str) -> Iterator[str]:
    for item in _ITEMS.findall(letters):
        one = item[-1]
        low, high = sorted((item[0], one)) if len(item) == 3 else (one, one)
        yield f"{re.escape(low)}-{re.escape(high)}"
