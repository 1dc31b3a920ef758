"""Who closes the windows of which pipeline: one processor for each, and another when it dies.

An owner lets its `beats` grow. Who sees them stand still for `LEASE_S`, by its own clock, may take
over: no two clocks are compared. Every owner has a higher epoch than those before, and each of its
transactions checks it, so an owner that was taken over from writes nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil
from typing import TYPE_CHECKING, Final, NamedTuple

from agent99.errors import LeaseLostError

if TYPE_CHECKING:
    from agent99.store import Transaction

LEASE_S: Final = 1.5
"""Seconds without a beat after which an owner counts as dead."""

_READ: Final = (
    "SELECT pipeline, owner, epoch, beats FROM analytics_closer WHERE reader = :reader"
    " ORDER BY pipeline"
)
_BEAT: Final = (
    "UPDATE analytics_closer SET beats = beats + 1"
    " WHERE reader = :reader AND pipeline = :pipeline AND epoch = :epoch AND owner = :owner"
)
_TAKE: Final = (
    "UPDATE analytics_closer SET owner = :owner, epoch = epoch + 1, beats = beats + 1"
    " WHERE reader = :reader AND pipeline = :pipeline AND epoch = :epoch AND beats = :beats"
)
_HOLD: Final = (
    "UPDATE analytics_closer SET beats = beats + 1"
    " WHERE reader = :reader AND pipeline = :pipeline AND epoch = :epoch"
)
_GIVE: Final = (
    "UPDATE analytics_closer SET owner = ''"
    " WHERE reader = :reader AND pipeline = :pipeline AND epoch = :epoch"
)
_CHECK: Final = "SELECT epoch FROM analytics_closer WHERE reader = :reader AND pipeline = :pipeline"


class Claim(NamedTuple):
    """Who closes a pipeline's windows."""

    pipeline: str
    owner: str
    """The instance; empty: nobody."""
    epoch: int
    beats: int


class Plan(NamedTuple):
    """What a processor does about it now."""

    lost: list[str]
    take: list[Claim]
    give: list[str]


class Leases:
    """What one processor has seen of all claims, and what follows from it. Pure.

    Args:
        owner: Its instance.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._seen: dict[str, tuple[int, int, float]] = {}
        """By pipeline: epoch, beats, and since when they are so."""

    def __repr__(self) -> str:
        return f"Leases({self._owner!r}, {len(self._seen)} pipelines)"

    def plan(
        self, claims: Iterable[Claim], mine: Mapping[str, int], members: int, now_s: float
    ) -> Plan:
        """Return what to do.

        Args:
            claims: As the database has them now.
            mine: The epochs of what it owns, as far as it knows.
            members: How many processors there are.
            now_s: By the monotonic clock.
        """
        lost: list[str] = []
        free: list[Claim] = []
        total = 0
        for claim in claims:
            total += 1
            if claim.pipeline in mine:
                if claim.epoch != mine[claim.pipeline]:
                    lost.append(claim.pipeline)
                continue
            if self._is_free(claim, now_s):
                free.append(claim)
        held = sorted(mine.keys() - set(lost))
        share = ceil(total / max(members, 1))
        return Plan(lost, free[: max(share - len(held), 0)], held[share:])

    def _is_free(self, claim: Claim, now_s: float) -> bool:
        before = self._seen.get(claim.pipeline)
        if before is None or before[:2] != (claim.epoch, claim.beats):
            self._seen[claim.pipeline] = before = (claim.epoch, claim.beats, now_s)
        return not claim.owner or now_s - before[2] >= LEASE_S


def beat(transaction: Transaction, reader: str, owner: str, mine: Mapping[str, int]) -> list[Claim]:
    """Show that an owner lives, and return all claims on the pipelines of a reader."""
    for pipeline, epoch in sorted(mine.items()):
        values = {"reader": reader, "pipeline": pipeline, "epoch": epoch, "owner": owner}
        transaction.execute(_BEAT, values)
    return read_claims(transaction, reader)


def read_claims(transaction: Transaction, reader: str) -> list[Claim]:
    """Return all claims on the pipelines of a reader."""
    return [Claim(*row) for row in transaction.execute(_READ, {"reader": reader})]


def take(transaction: Transaction, reader: str, owner: str, claim: Claim) -> int | None:
    """Take over a pipeline that was free; returns the epoch, or None: another one was quicker."""
    values = {"reader": reader, "pipeline": claim.pipeline, "owner": owner}
    seen = {"epoch": claim.epoch, "beats": claim.beats}
    is_taken = transaction.execute(_TAKE, values | seen).changed == 1
    return claim.epoch + 1 if is_taken else None


def give(transaction: Transaction, reader: str, mine: Mapping[str, int]) -> None:
    """Let go of pipelines, so that others need not wait until the lease has run out."""
    for pipeline, epoch in sorted(mine.items()):
        transaction.execute(_GIVE, {"reader": reader, "pipeline": pipeline, "epoch": epoch})


def check_epoch(transaction: Transaction, reader: str, pipeline: str, epoch: int) -> None:
    """Refuse an owner that was taken over from; by the end of the transaction it may have been.

    Raises:
        LeaseLostError
    """
    found = transaction.execute(_CHECK, {"reader": reader, "pipeline": pipeline}).scalar()
    if found != epoch:
        raise lease_lost(pipeline)


def hold(transaction: Transaction, reader: str, pipeline: str, epoch: int) -> None:
    """Until this transaction ends, let nobody take over, and no other transaction of the owner in.

    Raises:
        LeaseLostError: another one has taken over.
    """
    values = {"reader": reader, "pipeline": pipeline, "epoch": epoch}
    if transaction.execute(_HOLD, values).changed != 1:
        raise lease_lost(pipeline)


def lease_lost(pipeline: str) -> LeaseLostError:
    """Return the error of an owner that was taken over from."""
    return LeaseLostError(f"another processor closes the windows of {pipeline!r} now")
