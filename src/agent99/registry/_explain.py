"""Why a request would, or would not, reach somebody: the answer of the table, with near misses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from agent99.registry._description import State

NEAR_MAX = 3
"""How many near misses are named."""
COMPARED_MAX = 2_000
"""How many names are compared with a misspelt one: some milliseconds at most."""

Reason = Literal["nobody", "unknown_operation", "paused", "reachable"]


class Candidate(msgspec.Struct, frozen=True):
    """One instance that was considered."""

    instance: str
    name: str
    version: str
    state: State
    offers: bool
    """Whether it has the operation asked for."""
    suspect: bool
    """Whether a request to it failed from here a moment ago."""
    missing: tuple[str, ...] = ()
    """The capabilities that it uses and does not find."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What this process's table says of a target and an operation."""

    target: str
    """The capability or name asked for, in lower case."""
    operation: str
    """The operation asked for; empty when none was."""
    kind: Literal["capability", "name"]
    """What the target was found to be; `capability` when it was found to be nothing."""
    reason: Reason
    """`reachable`, or why not."""
    candidates: tuple[Candidate, ...] = ()
    """Everybody who has the target, in every state; those who take requests come first."""
    operations: tuple[str, ...] = ()
    """The operations that the candidates have."""
    near: tuple[str, ...] = ()
    """Names much like the one that was not found: capabilities, agents or operations."""

    @property
    def message(self) -> str:
        """The explanation as one sentence."""
        what = f"agent {self.target!r}" if self.kind == "name" else f"capability {self.target!r}"
        if self.reason == "nobody":
            return f"nobody offers {what}{self._hint()}"
        if self.reason == "unknown_operation":
            known = ", ".join(self.operations) or "none"
            return f"{what} has no operation {self.operation!r} (it has: {known}){self._hint()}"
        if self.reason == "paused":
            states = ", ".join(sorted({c.state for c in self.candidates if c.offers}))
            return f"everybody who offers {what} is not taking requests ({states})"
        count = sum(c.offers and c.state in ("ready", "degraded") for c in self.candidates)
        return f"{what} is offered by {count} instance{'s' if count != 1 else ''}"

    def _hint(self) -> str:
        return f"; did you mean {' or '.join(map(repr, self.near))}?" if self.near else ""


def near_misses(word: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return up to 3 of the known words that are much like `word`, the likest first."""
    alike = sorted({other for other in known if abs(len(other) - len(word)) <= len(word) // 2 + 1})
    if len(alike) > COMPARED_MAX:
        # Comparing is slow: keep to words that begin alike; typing errors rarely start there.
        alike = [other for other in alike if other[:1] == word[:1]][:COMPARED_MAX]
    from difflib import get_close_matches  # noqa: PLC0415 - only for an error that helps

    return tuple(get_close_matches(word, alike, n=NEAR_MAX, cutoff=0.6))
