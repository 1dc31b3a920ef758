"""What of a partition is done, where its events do not end in their order. Pure."""

from __future__ import annotations

from collections import deque

from agent99.groups._place import Progress


class Ledger:
    """Keeps what is unfinished, from the place where an owner of before has left it.

    Invariant: `progress().position` is the sequence before the lowest unfinished event; every event
    beyond it, up to `reached`, is either open or done.
    """

    def __init__(self, progress: Progress) -> None:
        self.admitted = progress.position
        """The sequence up to which all was admitted, or skipped."""
        self._reached = max(progress.reached, progress.position)
        self._known = self._reached
        """Up to here the owner before has said what is open."""
        self._unread = deque(progress.open)
        self._tries = dict(progress.tries)
        self._in_hand: dict[int, None] = {}
        """What was admitted and is not finished, ascending."""
        self.events = progress.events
        self.failures = progress.failures
        self.buried = progress.buried

    def __repr__(self) -> str:
        return f"Ledger(reached={self._reached}, in_hand={len(self._in_hand)})"

    def __len__(self) -> int:
        """Return how many events are in hand."""
        return len(self._in_hand)

    def admit(self, sequence: int) -> bool:
        """Take the next event in hand; returns False if it is done already.

        Args:
            sequence: Higher than that of the one before. What was skipped is gone from the stream.
        """
        unread = self._unread
        self.skip(sequence)
        if unread and unread[0] == sequence:
            unread.popleft()
        elif sequence <= self._known:
            return False
        self._in_hand[sequence] = None
        return True

    def skip(self, sequence: int) -> None:
        """Leave an event out: there is nothing to do for it.

        Args:
            sequence: As of `admit`.
        """
        unread = self._unread
        while unread and unread[0] < sequence:
            self._tries.pop(unread.popleft(), None)
        self.admitted = sequence
        self._reached = max(self._reached, sequence)

    def tries(self, sequence: int) -> int:
        """Return how often an event has failed."""
        return self._tries.get(sequence, 0)

    def fail(self, sequence: int) -> None:
        """Note that an attempt at an event has failed."""
        self._tries[sequence] = self.tries(sequence) + 1
        self.failures += 1

    def finish(self, sequence: int, *, is_buried: bool = False) -> None:
        """Note that an event is done, or in quarantine."""
        del self._in_hand[sequence]
        self._tries.pop(sequence, None)
        self.events += 1
        self.buried += is_buried

    def progress(self) -> Progress:
        """Return how far it is."""
        still_open = (*self._in_hand, *self._unread)
        if not still_open:
            return self._progress(self._reached, 0, ())
        return self._progress(still_open[0] - 1, self._reached, still_open)

    def _progress(self, position: int, reached: int, still_open: tuple[int, ...]) -> Progress:
        return Progress(
            position=position,
            reached=reached,
            open=still_open,
            tries=dict(self._tries),
            events=self.events,
            failures=self.failures,
            buried=self.buried,
        )
