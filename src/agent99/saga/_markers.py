"""Which sagas are open, and whose: a bucket with one small entry for each, gone when it has ended.

The journals alone decide. The markers say where to look, so that finding what a dead instance has
left costs as much as there is open, and not as much as ever was. A marker that is behind does no
harm: whoever follows it reads the journal.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Literal

import msgspec

from agent99.envelope import Name
from agent99.errors import StreamNotFoundError, WrongSequenceError
from agent99.journal import Bucket, BucketConfig, Journal

_BYTES_MAX = 256 * 1024**2

Flag = Literal["", "stuck", "look", "left"]
"""`stuck`: it waits for somebody; `look`: its owner must see what somebody wrote in; `left`: its
owner stops, and anybody may go on with it. It stays named: if it is not the owner any more when
somebody does, another one was quicker."""


class Marker(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where one open saga is."""

    owner: str
    operation: str
    version: int
    started_us: int
    flag: Flag = ""


class OpenSaga(msgspec.Struct, frozen=True):
    """A marker and whose it is."""

    agent: str
    saga_id: str
    marker: Marker
    revision: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Marker).decode


class Markers:
    """The open sagas of a mesh.

    All methods raise `JournalError`, `DeadlineExceededError`, `TransportError`,
    `RemoteProtocolError` and `ClosedError`.
    """

    def __init__(self, journal: Journal, mesh: str, *, replicas: int) -> None:
        self._journal = journal
        self._config = BucketConfig(
            name=f"a99_{mesh}_sagas", bytes_max=_BYTES_MAX, replicas=replicas
        )
        self._bucket: Bucket | None = None

    def __repr__(self) -> str:
        return f"Markers({self._config.name!r})"

    async def create(self, agent: Name, saga_id: str, marker: Marker) -> None:
        """Say where a saga is that is about to be begun.

        One that is there already is written once more, and is as young as this one: whoever is
        about to remove it as an orphan is too late then, and whoever looks next finds it too young.
        """
        bucket, key = await self._open(), f"{agent}.{saga_id}"
        while True:
            try:
                await bucket.create(key, _encode(marker))
            except WrongSequenceError:
                entry = await bucket.get(key)
                if entry is None:
                    continue
                try:
                    known = _decode(entry.value)
                except msgspec.DecodeError:
                    known = marker  # a later version's: its journal says what it is
                again = msgspec.structs.replace(known, started_us=marker.started_us)
                try:
                    await bucket.update(key, _encode(again), revision=entry.revision)
                except WrongSequenceError:  # by who removed it, perhaps: then there is none
                    continue
            return

    async def put(self, agent: Name, saga_id: str, marker: Marker) -> None:
        """Say where a saga is."""
        await (await self._open()).put(f"{agent}.{saga_id}", _encode(marker))

    async def flag(self, agent: str, saga_id: str, flag: Flag) -> None:
        """Say that somebody is to look at a saga; one that is not open is let be."""
        bucket, key = await self._open(), f"{agent}.{saga_id}"
        while True:
            entry = await bucket.get(key)
            if entry is None:
                return
            marker = msgspec.structs.replace(_decode(entry.value), flag=flag)
            try:
                await bucket.update(key, _encode(marker), revision=entry.revision)
            except WrongSequenceError:
                continue
            return

    async def remove(self, agent: str, saga_id: str) -> None:
        """Say that a saga has ended."""
        # With the notice of a minute: of one that is gone sooner, the marker is back when the
        # server is killed soon after (nats-server 2.15: thousands with 1 s, none with 60 s).
        await (await self._open()).delete(f"{agent}.{saga_id}")

    async def remove_unchanged(self, found: OpenSaga) -> None:
        """Remove a marker without an open saga, unless somebody has written it since."""
        with suppress(WrongSequenceError):
            key = f"{found.agent}.{found.saga_id}"
            await (await self._open()).delete(key, revision=found.revision)

    async def every(self, agent: str = "*") -> list[OpenSaga]:
        """Return the open sagas of an agent, or of all, in no order."""
        try:
            entries = await (await self._open()).snapshot(f"{agent}.*")
        except StreamNotFoundError:  # it was deleted: it is made again when it is next needed
            self._bucket = None
            return []
        found: list[OpenSaga] = []
        for entry in entries:
            owner, _, saga_id = entry.key.partition(".")
            try:
                found.append(OpenSaga(owner, saga_id, _decode(entry.value), entry.revision))
            except msgspec.DecodeError:
                continue  # a stranger's, or a later version's: its journal has its own readers
        return found

    async def _open(self) -> Bucket:
        if self._bucket is None:
            self._bucket = await self._journal.bucket(self._config)
        return self._bucket
