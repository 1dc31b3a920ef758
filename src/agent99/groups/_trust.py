"""How long a member may go on without asking whether it is still one. Pure, but for the clock."""

from __future__ import annotations

from agent99.clock import Clock


class Trust:
    """Counts the moments after which others may have taken what is owned here.

    Whoever stood still, or had no link, for longer than `trusted_s` may have been found dead by
    others and been taken over from. Each such moment is a new number: what is owned is handed out
    again only after an entry was written under that number, which proves that it is still owned.

    Args:
        trusted_s: Shorter than the silence by which others find a member dead.

    Invariant: the number grows whenever more than `trusted_s` lie between two confirmations.
    """

    def __init__(self, clock: Clock, trusted_s: float) -> None:
        self._clock = clock
        self._trusted_s = trusted_s
        self._confirmed_s = clock.monotonic_s()
        self._number = 0

    def __repr__(self) -> str:
        return f"Trust(number={self._number})"

    @property
    def number(self) -> int:
        """The number of the doubts so far, one that has just come up included."""
        if self._clock.monotonic_s() - self._confirmed_s > self._trusted_s:
            self.lose()
        return self._number

    def confirm(self, began_s: float) -> None:
        """The server has answered what was asked at `began_s`, by the monotonic clock."""
        if began_s - self._confirmed_s > self._trusted_s:
            self._number += 1
        self._confirmed_s = max(self._confirmed_s, began_s)

    def lose(self) -> None:
        """The link is away, or was."""
        self._number += 1
        self._confirmed_s = self._clock.monotonic_s()
