"""How a value is made that is not there, and how long it is good. Pure but for its load."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from math import isfinite
from typing import Any

import msgspec

from agent99.errors import UsageError
from agent99.systems.cache._compute import LOAD_S_MAX
from agent99.systems.cache._fresh import Freshness, freshness, is_due_early
from agent99.systems.cache._keys import check_tags, check_ttl
from agent99.systems.cache._values import NOTHING
from agent99.systems.cache._words import Change, Hit, Verb

LOAD_S = 10.0
"""How long a load may take, by default."""
COMPUTE_S = 15.0
"""How long a call may take that has a value computed where there is none, by default."""


class Keep(msgspec.Struct, frozen=True):
    """How long values are good, as a caller says it; in seconds."""

    ttl_s: float | None = None
    stale_s: float = 0.0
    negative_ttl_s: float | None = None
    early: float = 1.0
    load_s_max: float = LOAD_S
    tags: Sequence[str] = ()


class Recipe(msgspec.Struct, frozen=True):
    """How one caller would have a value computed."""

    load: Callable[[], Awaitable[Any]]
    encode: Callable[[Any], tuple[bytes, int]]
    ttl_us: int
    """All of its time, what is stale of it too; 0: for ever."""
    fresh_us: int
    """The part of it in which it is fresh; 0: all of it."""
    negative_us: int
    """How long it is known that there is none; 0: it is not stored."""
    early: float
    load_s_max: float
    tags: tuple[str, ...]

    def change(self, key: str, value: Any, cost_us: int, token: int) -> Change | None:
        """Return what stores a value; None: it is none, and that is not to be stored.

        Raises:
            UsageError, PayloadTooLargeError: the value cannot be stored.
        """
        if value is not None:
            data, kind = self.encode(value)
            ttl_us, fresh_us = self.ttl_us, self.fresh_us
        elif self.negative_us:
            data, kind, ttl_us, fresh_us = b"", NOTHING, self.negative_us, 0
        else:
            return None
        return Change(
            Verb.SET,
            key,
            data,
            kind,
            ttl_us,
            fresh_us=fresh_us,
            cost_us=cost_us,
            tags=self.tags,
            lead=token,
        )

    def is_due(self, hit: Hit, now_us: int, draw: float) -> bool:
        """Tell whether a value that is served is to be computed anew meanwhile.

        Args:
            now_us: By this process's clock.
            draw: A number in (0, 1], drawn anew for each reader.
        """
        if freshness(now_us, hit.fresh_us, hit.expires_us) is not Freshness.FRESH:
            return True  # it was served by its owner's clock, which alone says when it is gone
        return is_due_early(now_us, hit.fresh_us or hit.expires_us, hit.cost_us, self.early, draw)


def recipe_of(
    load: Callable[[], Awaitable[Any]], encode: Callable[[Any], tuple[bytes, int]], keep: Keep
) -> Recipe:
    """Return a recipe, checked.

    Raises:
        UsageError: a time or a number out of its bounds, or stale time of what never ends.
        InvalidNameError: a tag that is none.
    """
    fresh_us = check_ttl(keep.ttl_s)
    stale_us = check_ttl(keep.stale_s) if keep.stale_s else 0
    if stale_us and not fresh_us:
        raise UsageError("what has no ttl_s is never stale: give both, or no stale_s")
    if not isfinite(keep.early) or keep.early < 0:
        raise UsageError(f"early is a number from 0 up, 1 as a rule; not {keep.early!r}")
    if not 0 < keep.load_s_max <= LOAD_S_MAX:
        raise UsageError(
            f"load_s_max is a time of up to {LOAD_S_MAX:,.0f} s; not {keep.load_s_max!r}"
        )
    return Recipe(
        load,
        encode,
        fresh_us + stale_us,
        fresh_us if stale_us else 0,
        check_ttl(keep.negative_ttl_s),
        keep.early,
        keep.load_s_max,
        check_tags(keep.tags) if keep.tags else (),
    )
