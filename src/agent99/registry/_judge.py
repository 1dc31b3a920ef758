"""Who is dead, by the leases. Pure: times come in as arguments."""

from __future__ import annotations

from collections.abc import Iterable

ROUND_REFRESHES = 1.25
"""Everybody alive refreshes within so many periods: a tenth is jitter, the rest for delays."""


class Judge:
    """Decides which processes are dead, and only when it may.

    Everybody alive refreshes its lease within a *round*: the period, its jitter, and some time for
    the way. So a lease can run out on the living only if refreshes were not taken for a lease time
    less a round. When that long passed between two of our own, it may have been so for all: a
    break. The judge may judge only after a whole lease time without a break. After the server was
    away all leases may have run out although nobody died; a newcomer has seen too little.

    A process that has records is dead when its lease was reported gone and has not come back; or
    when it has no lease, and our own was heard in the same stream a round after that was noticed;
    or when its lease was silent for more than a lease time and a refresh while our own was heard.

    The second rule is for who died unseen, while there was no keeper. Its lease may as well have
    been lost with the bucket, or be on its way; but then a round later it is there.

    Invariant: a process is not both leased and lost.
    """

    def __init__(self, process: str, *, lease_s: float, lease_refresh_s: float) -> None:
        self._process = process
        self._lease_s = lease_s
        self._round_s = ROUND_REFRESHES * lease_refresh_s
        self._silence_s = lease_s + lease_refresh_s
        self._trusted_s: float | None = None
        self._refreshed_s = 0.0
        self._leases: dict[str, float] = {}  # process: when its lease was last seen
        self._lost: set[str] = set()
        self._noticed_s: dict[str, float] = {}  # process without a lease: since when

    def __repr__(self) -> str:
        return f"Judge({self._process!r}, leases={len(self._leases)}, lost={len(self._lost)})"

    # --- may it judge? ----------------------------------------------------------------------------

    def refreshed(self, now_s: float) -> None:
        """Our own lease was taken."""
        if self._trusted_s is None or self._is_break(now_s):
            self._trusted_s = now_s
        self._refreshed_s = now_s

    def broken(self) -> None:
        """The link, or a bucket, went away: what was seen before counts no more."""
        self._trusted_s = None
        self._lost.clear()
        self._noticed_s.clear()

    def may_judge(self, now_s: float) -> bool:
        """Whether a whole lease time has passed in which our own leases were taken."""
        if self._trusted_s is None or self._is_break(now_s):
            return False
        return now_s - self._trusted_s >= self._lease_s

    # --- what it sees as keeper -------------------------------------------------------------------

    def forget_leases(self) -> None:
        """The leases are no longer followed: who had one may have lost it, and the reverse."""
        self._leases.clear()
        self._lost.clear()
        self._noticed_s.clear()

    def all_leases(self, processes: Iterable[str], now_s: float) -> None:
        """These leases are there, and no others; what was between is not known."""
        self.forget_leases()
        self._leases = dict.fromkeys(processes, now_s)

    def leased(self, process: str, now_s: float) -> None:
        """A lease was made or refreshed."""
        self._leases[process] = now_s
        self._lost.discard(process)
        self._noticed_s.pop(process, None)

    def unleased(self, process: str) -> None:
        """A lease ran out or was given back."""
        if self._leases.pop(process, None) is not None:
            self._lost.add(process)

    def dead(self, holders: Iterable[str], now_s: float) -> list[str]:
        """Return those of the processes that have records and are dead; nobody while it may not."""
        holding = set(holders)
        holding.discard(self._process)
        for process in self._noticed_s.keys() - holding:
            del self._noticed_s[process]
        self._lost &= holding
        unleased = holding - self._leases.keys()
        for process in unleased:
            self._noticed_s.setdefault(process, now_s)
        if not self.may_judge(now_s):
            return []
        heard_s = self._leases.get(self._process, float("-inf"))
        return sorted(
            process
            for process in holding
            if process in self._lost
            or (process in unleased and heard_s - self._noticed_s[process] >= self._round_s)
            or (process not in unleased and heard_s - self._leases[process] > self._silence_s)
        )

    def _is_break(self, now_s: float) -> bool:
        return now_s - self._refreshed_s > self._lease_s - self._round_s

    def _check(self) -> None:
        assert not self._lost & self._leases.keys(), "a process is both leased and lost"
