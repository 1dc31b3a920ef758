"""Which of several instances: small values that a caller hands over, and the choosing. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from agent99.registry._description import Description


class LeastLoaded(msgspec.Struct, frozen=True):
    """The instance with the fewest requests of this process in flight; a draw among equals.

    "Least connections", as load balancers have it. It knows only the caller's own load, which it
    knows exactly and at once; load that others report is stale when it arrives.
    """


class HashOf(msgspec.Struct, frozen=True):
    """The same instance for the same key, from every process.

    Rendezvous hashing ("highest random weight", Thaler and Ravishankar, 1996): each instance is
    weighed against the key and the heaviest takes it. When one comes or goes only its own share of
    the keys moves; there is no ring to keep.
    """

    key: str
    """What the requests have in common: a customer, a session."""


class Sticky(msgspec.Struct, frozen=True):
    """The instance that was chosen the last time, as long as it is there; else a draw.

    Unlike `HashOf` nothing moves when an instance comes; but each process has its own.
    """

    key: str = ""
    """One choice is remembered per target and key."""


Selection = LeastLoaded | HashOf | Sticky
"""How a caller wants one of several instances chosen."""


def least_loaded() -> LeastLoaded:
    """Choose the instance with the fewest requests of this process in flight."""
    return LeastLoaded()


def hash_of(key: str) -> HashOf:
    """Choose the same instance for the same key, from every process, while it is there."""
    return HashOf(key)


def sticky(key: str = "") -> Sticky:
    """Choose the instance that was chosen the last time, while it is there."""
    return Sticky(key)


def choose(
    selection: Selection,
    candidates: Sequence[Description],
    *,
    draw: float,
    load: Callable[[str], int] = lambda _instance: 0,
    previous: str = "",
) -> Description | None:
    """Return the chosen one of the candidates; None when there are none.

    Args:
        selection: How to choose.
        candidates: Who can take it, such as the table's `candidates` after a filter.
        draw: A number in [0, 1): decides among equals.
        load: The requests in flight of an instance, by its UUID; for `LeastLoaded`.
        previous: The instance that was chosen the last time; for `Sticky`.
    """
    if not candidates:
        return None
    if isinstance(selection, HashOf):
        key = selection.key.encode("utf-8", "surrogatepass")
        return max(candidates, key=lambda d: _weight(d.instance, key))
    if isinstance(selection, Sticky):
        for candidate in candidates:
            if candidate.instance == previous:
                return candidate
        return _draw(candidates, draw)
    loads = [load(candidate.instance) for candidate in candidates]
    least = min(loads)
    idle = [c for c, its_load in zip(candidates, loads, strict=True) if its_load == least]
    return _draw(idle, draw)


def _draw(candidates: Sequence[Description], draw: float) -> Description:
    return candidates[min(int(draw * len(candidates)), len(candidates) - 1)]


def _weight(instance: str, key: bytes) -> tuple[bytes, str]:
    from hashlib import blake2b  # noqa: PLC0415 - a twentieth of the import, and few choose by it

    # The UUID settles a tie, so that every process chooses alike whatever the candidates' order.
    return blake2b(key, digest_size=8, key=instance.encode()[:64]).digest(), instance
