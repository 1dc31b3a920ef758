"""Being a user of the embedded server: come, stay, watch, go."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import warnings
import weakref
from types import TracebackType
from typing import Self

from agent99.clock import Clock, SystemClock
from agent99.embedded._disk import DiskWatch
from agent99.embedded._lifeline import hold_lifeline, make_lifeline
from agent99.embedded._nats import last_words
from agent99.embedded._probe import probe
from agent99.embedded._start import (
    SupervisorLostError,
    prepare_folder,
    start_supervisor_beside,
    state_error,
)
from agent99.embedded._state import (
    Folder,
    Record,
    lock_exclusive,
    lock_shared,
    read_record,
)
from agent99.errors import EmbeddedServerError, ServerStartError
from agent99.settings import Settings

_POLL_S = 0.005
_TRIALS_MAX = 3
_WATCH_S = 1.0
_WATCH_MAX_S = 30.0
_PROBE_TIMEOUT_S = 1.0
_log = logging.getLogger("agent99.embedded")


class Presence:
    """What makes this process a user: the shared lock and a hold on the lifeline.

    Invariant: both handles are open, or none.
    """

    def __init__(self, lock: int, lifeline: int) -> None:
        self._handles = [lock, lifeline]
        _presences().add(self)

    def __repr__(self) -> str:
        return f"Presence(held={bool(self._handles)})"

    @property
    def is_held(self) -> bool:
        """Whether this process still counts as a user."""
        return bool(self._handles)

    def close(self) -> None:
        """Be no user any more; does nothing the second time."""
        while self._handles:
            os.close(self._handles.pop())


@functools.cache
def _presences() -> weakref.WeakSet[Presence]:
    """Return the presences of this process: its forks close them.

    A fork that goes on (a worker of `multiprocessing`) copies the handles, and would hold the
    server up after this process was killed. It is no user: nobody in it watches. Python never
    forgets what is to run in a fork, so one function is registered for all presences.
    """
    presences: weakref.WeakSet[Presence] = weakref.WeakSet()

    def forget() -> None:
        for presence in tuple(presences):
            presence.close()

    os.register_at_fork(after_in_child=forget)
    return presences


class EmbeddedServer:
    """The project's embedded server, held up for as long as this is open.

    Others may use it too; it ends some seconds after the last of them. Use it as `async with`, or
    call `aclose`.

    Invariant: while it is open this process has the shared lock, and a task looks after the
    supervisor.
    """

    def __init__(
        self,
        folder: Folder,
        record: Record,
        presence: Presence,
        watcher: asyncio.Task[None],
        *,
        started: bool,
    ) -> None:
        self._record = record
        self._presence = presence
        self._watcher = watcher
        self.state_folder = folder.path
        """Where its state is."""
        self.started = started
        """Whether this call started it; False: it ran already."""

    def __repr__(self) -> str:
        state = "open" if self._presence.is_held else "closed"
        return f"EmbeddedServer({self._record.url_public}, {state}, started={self.started})"

    @property
    def url(self) -> str:
        """The address with its credential; the same after every restart. Never show it."""
        return self._record.url

    @property
    def url_public(self) -> str:
        """The address without its credential."""
        return self._record.url_public

    @property
    def pid(self) -> int:
        """The process that serves now: another one after each restart."""
        record = read_record(Folder(self.state_folder))
        return (record or self._record).server.pid

    async def aclose(self) -> None:
        """Be no user any more; idempotent. The server ends once nobody else is one."""
        self._watcher.cancel()
        self._presence.close()
        await asyncio.wait([self._watcher])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if self._presence.is_held:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=2)
            self._presence.close()


async def acquire_server(settings: Settings, *, clock: Clock | None = None) -> EmbeddedServer:
    """Start the project's embedded server, or share the one that runs; return once it answers.

    Any number of processes may call it at once: one server starts. If the server dies it comes back
    at the same address, with the same credential and store.

    Args:
        settings: Where the state is, and how the server should be if it has to be started.
        clock: The real one by default.

    Raises:
        ServerBinaryMissingError: There is no `nats-server`, or only one that is too old.
        ServerStartError: It did not start, or not in time; the message has its last words.
        StateFolderError: The state folder cannot be used, or the disk is full.
        EmbeddedServerError: This system has no embedded server.
    """
    clock = clock or SystemClock()
    folder = prepare_folder(settings)
    deadline_s = clock.monotonic_s() + settings.server_start_timeout_s
    try:
        presence = await _enter(folder, clock, deadline_s)
        try:
            folder.stopped.unlink(missing_ok=True)
            record, started = await _ensure(settings, folder, clock, deadline_s)
        except BaseException:
            presence.close()
            raise
    except OSError as error:
        raise state_error(folder, error) from error
    watcher = asyncio.create_task(_watch(settings, folder, clock), name="agent99-embedded-watch")
    return EmbeddedServer(folder, record, presence, watcher, started=started)


async def _enter(folder: Folder, clock: Clock, deadline_s: float) -> Presence:
    """Become a user; waits while the supervisor ends a server that nobody used."""
    make_lifeline(folder.lifeline)
    while (lock := lock_shared(folder.users_lock)) is None:
        _check_time(folder, clock, deadline_s)
        await clock.sleep(_POLL_S)
    try:
        return Presence(lock, hold_lifeline(folder.lifeline))
    except OSError:
        os.close(lock)
        raise


async def _ensure(
    settings: Settings, folder: Folder, clock: Clock, deadline_s: float
) -> tuple[Record, bool]:
    """Return the record of a server that answers, and whether we started it."""
    started = False
    trials = 0
    while True:
        lock = lock_exclusive(folder.supervisor_lock)
        if lock is not None:
            trials += 1
            started = await _start(settings, folder, lock, is_last=trials == _TRIALS_MAX)
        record = read_record(folder)
        if record is not None and record.is_running:
            answer = await asyncio.to_thread(probe, record, timeout_s=_PROBE_TIMEOUT_S)
            if answer is not None and answer.is_ready:
                return record, started
        _check_time(folder, clock, deadline_s)
        await clock.sleep(_POLL_S)


async def _start(settings: Settings, folder: Folder, lock: int, *, is_last: bool) -> bool:
    """Return whether a server was started; a supervisor that is killed may be tried again."""
    try:
        return await start_supervisor_beside(settings, folder, lock)
    except SupervisorLostError:
        if is_last:
            raise
        return False


def _check_time(folder: Folder, clock: Clock, deadline_s: float) -> None:
    if clock.monotonic_s() >= deadline_s:
        raise ServerStartError(
            f"the embedded server in {folder.path} does not answer in time: {last_words(folder, 0)}"
        )


async def _watch(settings: Settings, folder: Folder, clock: Clock) -> None:
    """Start a new supervisor whenever there is none, until cancelled."""
    delay_s = _WATCH_S
    disk = DiskWatch(folder)
    while True:
        await clock.sleep(delay_s)
        if disk.look():
            _tell_disk(folder, disk)
        try:
            await _replace_supervisor(settings, folder)
            delay_s = _WATCH_S
        except (EmbeddedServerError, OSError) as error:
            _log.warning("the embedded server has no supervisor: %s", error)
            delay_s = min(delay_s * 2, _WATCH_MAX_S)


def _tell_disk(folder: Folder, disk: DiskWatch) -> None:
    if disk.is_full:
        _log.warning("the disk of %s is full: the embedded server stores nothing", folder.path)
    else:
        _log.warning("the disk of %s has room again: the server starts anew", folder.path)


async def _replace_supervisor(settings: Settings, folder: Folder) -> None:
    # A person who stops the server wants it stopped, users or not.
    if folder.stopped.exists() or not folder.path.exists():
        return
    lock = lock_exclusive(folder.supervisor_lock)
    if lock is not None:
        await start_supervisor_beside(settings, folder, lock)
