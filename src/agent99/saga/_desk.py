"""Look at sagas from outside, and say what shall become of them: for operators, and for agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from agent99.agent import Agent, link_of
from agent99.envelope import Name
from agent99.errors import JournalError, StreamNotFoundError, UsageError, WrongSequenceError
from agent99.saga._history import History
from agent99.saga._markers import Markers, OpenSaga
from agent99.saga._records import Cancel, Record, Retry, decode_record, encode_record
from agent99.saga._view import SagaView

if TYPE_CHECKING:
    from agent99.agent import Mesh
    from agent99.journal import Record as Kept

AT_ONCE = 32
"""Journals that are read at a time."""
COUNT_MAX = 100
"""Sagas that are listed, unless more are wanted."""
LOOK_S_MIN = 0.1
LOOK_S_MAX = 1.0
"""Between two looks at a saga whose end is waited for; the pause doubles."""


class Listing(msgspec.Struct, frozen=True):
    """Some of the sagas of a mesh, the oldest first."""

    sagas: tuple[SagaView, ...]
    count: int
    """Of all that there are, those that were left out among them."""


class Desk:
    """Reads the journals of a mesh's sagas, and writes what operators want into them.

    All methods raise `JournalError`, `DeadlineExceededError`, `TransportError`,
    `RemoteProtocolError` and `ClosedError`. A journal with a record that cannot be read is
    `SagaView.unreadable` where several are listed, and a `JournalError` where it alone is meant.

    Args:
        of: The mesh, or an agent that runs on it.
    """

    def __init__(self, of: Mesh | Agent) -> None:
        link = link_of(of) if isinstance(of, Agent) else of.link
        self._journal = link.journal
        self._subjects = link.subjects
        self._stream = link.durable.streams.sagas
        replicas = link.durable.streams.replicas
        self._markers = Markers(link.journal, link.subjects.mesh, replicas=replicas)
        self._clock = link.clock
        self._ids = link.ids

    def __repr__(self) -> str:
        return f"Desk({self._stream!r})"

    # --- look -------------------------------------------------------------------------------------

    async def open_sagas(self, agent: str = "*", *, count_max: int = COUNT_MAX) -> Listing:
        """Return the sagas that have not ended, those that were begun first.

        Args:
            agent: Of one agent; of all by default.
        """
        found = await self._open(agent)
        views: list[SagaView] = []
        read = 0
        while read < len(found) and len(views) < count_max:
            some = found[read : read + count_max - len(views)]
            looked = await self._look_all((each.agent, each.saga_id) for each in some)
            views += [view for view in looked if view.history.finished is None]
            read += len(some)
        return Listing(tuple(views), len(views) + len(found) - read)

    async def stuck_sagas(self, agent: str = "*") -> list[SagaView]:
        """Return all sagas that are stuck, those that were begun first; all open ones are read."""
        found, views = await self._open(agent), list[SagaView]()
        for start in range(0, len(found), COUNT_MAX):
            some = found[start : start + COUNT_MAX]
            looked = await self._look_all((each.agent, each.saga_id) for each in some)
            views += [view for view in looked if view.standing(0) == "stuck"]
        return views

    async def last_sagas(self, agent: str = "*", *, count_max: int = COUNT_MAX) -> Listing:
        """Return the sagas that were begun last, ended or not.

        All journals are read for that: they say which there are.
        """
        subjects: dict[str, None] = {}
        async for each in self._read(self._subjects.saga_listen(agent)):
            subjects[each.subject] = None
        left_out = max(0, len(subjects) - count_max)
        views = tuple(await self._look_all(map(_place, [*subjects][left_out:])))
        return Listing(views, left_out + len(views))

    async def every_saga(self, agent: str = "*") -> list[SagaView]:
        """Return all sagas whose journals are kept, ended or not, the oldest first.

        All journals are read for that, and held.
        """
        stored: dict[str, list[Kept]] = {}
        async for each in self._read(self._subjects.saga_listen(agent)):
            stored.setdefault(each.subject, []).append(each)
        return [_view(found) for found in stored.values()]

    async def open_ids(self, beginning: str = "", *, agent: str = "*") -> list[str]:
        """Return the ids of the sagas that have not ended and whose ids begin so, oldest first.

        One that ends just now may be among them.
        """
        found = await self._open(agent)
        return [each.saga_id for each in found if each.saga_id.startswith(beginning)]

    async def count_open(self, agent: str = "*") -> int:
        """Return how many sagas have not ended."""
        return len(await self._open(agent))

    async def find(self, saga_id: str) -> SagaView | None:
        """Return one saga, or None: there is none of that id.

        Raises:
            UsageError: it is no id.
            JournalError: a record of it cannot be read; the message names it.
        """
        view = await self._look("*", _checked(saga_id))
        if view is not None and view.unreadable:
            raise JournalError(view.unreadable)
        return view

    async def wait_settled(
        self, saga_id: str, *, timeout_s: float, from_sequence: int = 0
    ) -> SagaView:
        """Return a saga once it has ended or is stuck, or when the time is up: look which.

        Args:
            from_sequence: What it was before this record does not count: that `cancel` and `retry`
                return.

        Raises:
            UsageError: there is none of that id.
        """
        until_s, pause_s = self._clock.monotonic_s() + timeout_s, LOOK_S_MIN
        while True:
            view = await self._found(saga_id)
            is_new = view.history.sequence >= from_sequence
            left_s = until_s - self._clock.monotonic_s()
            if (view.is_settled and is_new) or left_s <= 0:
                return view
            await self._clock.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, LOOK_S_MAX)

    async def records(self, *, after: int = 0) -> AsyncIterator[tuple[str, Record, int]]:
        """Yield what stands in all journals by now: saga id, record, and its sequence, in order.

        What cannot be read is left out.

        Args:
            after: Begin behind this sequence: with the last one yielded, go on from there.
        """
        pattern = self._subjects.saga_listen()
        async for each in self._read(pattern, from_sequence=after + 1):
            try:
                record = decode_record(each.payload)
            except msgspec.DecodeError:
                continue  # a later version's
            yield _place(each.subject)[1], record, each.sequence

    # --- say --------------------------------------------------------------------------------------

    async def cancel(self, saga_id: str) -> int:
        """Have a saga undone, as far as it has come; returns the sequence of that record.

        Its owner sees it within some seconds.

        Raises:
            UsageError: there is none of that id, it has ended, or there is no way back.
        """
        return await self._tell(saga_id, Cancel(at_us=self._clock.wall_us()))

    async def retry(self, saga_id: str) -> int:
        """Have a saga go on that is stuck, or tried at once what waits for its next attempt.

        Returns the sequence of that record. Its owner sees it within some seconds.

        Raises:
            UsageError: there is none of that id, or it has ended.
        """
        return await self._tell(saga_id, Retry(at_us=self._clock.wall_us()))

    # --- inside -----------------------------------------------------------------------------------

    async def _tell(self, saga_id: str, record: Cancel | Retry) -> int:
        while True:
            view = await self._found(saga_id)
            _check_open(view, record)
            subject = self._subjects.saga(Name(view.agent), view.saga_id)
            try:
                stored = await self._journal.append(
                    subject,
                    encode_record(record),
                    message_id=f"{view.saga_id}:{self._ids.uuid()}",
                    expected_sequence=view.history.sequence,
                )
            except WrongSequenceError:
                continue  # it has gone on meanwhile
            await self._markers.flag(view.agent, view.saga_id, "look")
            return stored.sequence

    async def _found(self, saga_id: str) -> SagaView:
        view = await self.find(saga_id)
        if view is None:
            raise UsageError(f"there is no saga {saga_id!r} on this mesh")
        return view

    async def _open(self, agent: str) -> list[OpenSaga]:
        """Return what is marked as open, the oldest first."""
        try:
            await self._journal.stream_state(self._stream)
        except StreamNotFoundError:
            return []  # no saga was ever begun; whoever looks does not make the markers' bucket
        found = await self._markers.every(agent)
        return sorted(found, key=lambda each: each.marker.started_us)

    async def _look_all(self, wanted: Iterable[tuple[str, str]]) -> list[SagaView]:
        """Return the sagas of these agents and ids whose journals are there."""
        places = asyncio.Semaphore(AT_ONCE)

        async def look(agent: str, saga_id: str) -> SagaView | None:
            async with places:
                return await self._look(agent, saga_id)

        views = await asyncio.gather(*(look(*each) for each in wanted))
        return [view for view in views if view is not None]

    async def _look(self, agent: str, saga_id: str) -> SagaView | None:
        found = [each async for each in self._read(self._subjects.saga(Name(agent), saga_id))]
        return _view(found) if found else None

    async def _read(self, pattern: str, *, from_sequence: int = 1) -> AsyncIterator[Kept]:
        try:
            async for each in self._journal.read(
                self._stream, pattern, from_sequence=from_sequence
            ):
                yield each
        except StreamNotFoundError:
            return  # no saga was ever begun on this mesh


def _checked(saga_id: str) -> str:
    try:
        return str(UUID(saga_id))
    except ValueError:
        raise UsageError(f"{saga_id!r} is no saga's id: those are UUIDs") from None


def _place(subject: str) -> tuple[str, str]:
    """Return the agent and the id of a journal's saga."""
    agent, saga_id = subject.split(".")[3:5]
    return agent, saga_id


def _view(found: list[Kept]) -> SagaView:
    """Return what a journal says, as far as it can be read."""
    subject = found[0].subject
    agent, saga_id = _place(subject)
    history, records, unreadable = History(), list[Record](), ""
    for each in found:
        try:
            record = decode_record(each.payload)
            history.apply(record, each.sequence)
        except (msgspec.DecodeError, JournalError) as error:
            where = f"record {each.sequence} of its journal, {subject}"
            unreadable = f"saga {saga_id} cannot be read: {where}: {error}"
            break
        records.append(record)
    return SagaView(agent, saga_id, history, tuple(records), unreadable)


def _check_open(view: SagaView, record: Cancel | Retry) -> None:
    history = view.history
    if history.finished is not None:
        raise UsageError(f"saga {view.saga_id} has ended: {history.state}")
    if isinstance(record, Retry) or history.may_turn_back:
        return
    if history.has_pivoted:
        raise UsageError(
            f"saga {view.saga_id} is past its pivot, after which it only goes forward;"
            " mend what is in its way, and retry it"
        )
    raise UsageError(
        f"saga {view.saga_id} may be past its pivot, whose outcome is unknown so far: wait for it"
    )
