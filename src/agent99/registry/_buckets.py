"""The registry's three buckets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from agent99.envelope import parse_name
from agent99.errors import ClosedError
from agent99.journal import Bucket, BucketConfig, Journal
from agent99.registry._options import RegistryOptions

_Item = TypeVar("_Item")

# The server reserves what a bucket may hold: many meshes must fit on a small disk. 10,000 agents
# take some 40 MB of records.
_REGISTRY_BYTES_MAX = 64 * 1024 * 1024
_LEASES_BYTES_MAX = 8 * 1024 * 1024
_KEEPER_BYTES_MAX = 1024 * 1024


class Buckets:
    """Records that last, leases that run out, and the place of the keeper.

    The keeper's place has a bucket of its own because it runs out sooner than a lease, and a time
    to live belongs to a bucket: a successor must be there before the leases of its predecessor's
    process end.

    Invariant: all three are open or none is.
    """

    def __init__(self, journal: Journal, mesh: str, options: RegistryOptions) -> None:
        root = f"a99_{parse_name('mesh', mesh)}"
        replicas = options.replicas
        self._journal = journal
        self._configs = (
            BucketConfig(name=f"{root}_registry", bytes_max=_REGISTRY_BYTES_MAX, replicas=replicas),
            BucketConfig(
                name=f"{root}_leases",
                ttl_s=options.lease_s,
                bytes_max=_LEASES_BYTES_MAX,
                replicas=replicas,
            ),
            BucketConfig(
                name=f"{root}_keeper",
                ttl_s=options.keeper_s,
                bytes_max=_KEEPER_BYTES_MAX,
                replicas=replicas,
            ),
        )
        self._open: tuple[Bucket, ...] = ()

    def __repr__(self) -> str:
        return f"Buckets({', '.join(config.name for config in self._configs)})"

    async def open(self) -> None:
        """Open them, created where they are not there. Repeat after a bucket was lost.

        Raises:
            JournalError, TransportError, DeadlineExceededError
        """
        self._open = tuple([await self._journal.bucket(config) for config in self._configs])

    @property
    def registry(self) -> Bucket:
        """The descriptions. Everybody follows it."""
        return self._bucket(0)

    @property
    def leases(self) -> Bucket:
        """One lease per process. Only the keeper follows it."""
        return self._bucket(1)

    @property
    def keeper(self) -> Bucket:
        """The keeper's place."""
        return self._bucket(2)

    def _bucket(self, index: int) -> Bucket:
        if not self._open:
            raise ClosedError("registry")
        return self._open[index]


async def in_batches(
    items: Iterable[_Item], size: int, act: Callable[[_Item], Awaitable[None]]
) -> None:
    """Do something with each item, at most `size` at once; the first error ends it.

    Raises:
        what `act` raises, of the first that failed.
    """
    waiting = list(items)
    for start in range(0, len(waiting), size):
        outcomes = await asyncio.gather(
            *map(act, waiting[start : start + size]), return_exceptions=True
        )
        for outcome in outcomes:
            if outcome is not None:
                raise outcome
