"""When, in the demo, processors join, leave and are killed. Pure."""

from __future__ import annotations

from hashlib import sha256
from typing import Final, Literal, NamedTuple

MANY: Final = 4
FEW: Final = 2
"""Under fire so many work in the middle, and at the end."""


class Scene(NamedTuple):
    """Something that happens to the processors."""

    share: float
    """Of the records: it happens once these are stored."""
    what: Literal["joins", "is killed", "is replaced", "leaves"]
    """Replaced is: killed, and another one comes at once."""
    whom: int = 0
    """Of those who are there, the oldest first: that one, counted round."""


CALM: Final = (
    Scene(0.15, "joins"),
    Scene(0.35, "is killed"),
    Scene(0.5, "joins"),
    Scene(0.75, "leaves"),
)
"""One joins, one is killed, one comes in its place, one leaves."""


def make_scenes(*, processors: int, kills: int, seed: int) -> list[Scene]:
    """Return what happens, in order; the same for the same seed.

    Args:
        processors: At the beginning.
        kills: How many are killed. One: as in `CALM`. More: at random, while they become `MANY`,
            and then `FEW`.
        seed: Who is killed, and when.
    """
    if kills == 1:
        return list(CALM)
    fire = [_shot(number, seed) for number in range(kills)]
    come = [Scene(0.15 + 0.05 * n, "joins") for n in range(max(MANY - processors, 0))]
    go = [Scene(0.7 + 0.05 * n, "leaves") for n in range(max(processors, MANY) - FEW)]
    return sorted(fire + come + go)


def _shot(number: int, seed: int) -> Scene:
    drawn = sha256(f"{seed} kill {number}".encode()).digest()
    share = int.from_bytes(drawn[:8], "big") / 2**64
    return Scene(share, "is replaced", drawn[8])
