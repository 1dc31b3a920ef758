"""Who owns which partition: evenly, with as few moves as there can be. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

NOBODY = ""


def assign(members: Iterable[str], owners: Sequence[str]) -> tuple[str, ...]:
    """Return the owner of each partition, given who owned them so far.

    The shares differ by one at most. No assignment that is as even takes fewer partitions from a
    member. The same input gives the same output in every process.

    Args:
        members: Who may own partitions; without any, nobody owns one.
        owners: By partition; whoever is no member, `NOBODY` among them, loses what he owned.
    """
    ranked = sorted(set(members))
    if not ranked:
        return (NOBODY,) * len(owners)
    owned: dict[str, list[int]] = {member: [] for member in ranked}
    for partition, owner in enumerate(owners):
        if owner in owned:
            owned[owner].append(partition)
    share, larger = divmod(len(owners), len(ranked))
    # Who has most keeps most: the larger shares go to those, so that they give up the least.
    ranked.sort(key=lambda member: (-len(owned[member]), member))
    result = [NOBODY] * len(owners)
    places: list[str] = []
    for rank, member in enumerate(ranked):
        quota = share + (rank < larger)
        for partition in owned[member][:quota]:
            result[partition] = member
        places += [member] * (quota - len(owned[member][:quota]))
    free = (partition for partition, owner in enumerate(result) if owner == NOBODY)
    for partition, member in zip(free, places, strict=True):
        result[partition] = member
    return tuple(result)
