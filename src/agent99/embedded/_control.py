"""Find, describe, stop and reset the embedded server, without becoming a user of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import msgspec

from agent99.clock import Clock, SystemClock
from agent99.embedded._nats import log_tail
from agent99.embedded._probe import probe
from agent99.embedded._process import end_process, process_lives, send
from agent99.embedded._start import state_error
from agent99.embedded._state import Folder, Record, lock_exclusive, read_record
from agent99.errors import EmbeddedServerError, ServerStartError
from agent99.settings import Settings

_POLL_S = 0.01
_PROBE_TIMEOUT_S = 1.0
_LINE_BYTES = 512


class ServerInfo(msgspec.Struct, frozen=True):
    """A server that runs."""

    url: str
    """The address with its credential; never show it."""
    url_public: str
    """The address without its credential."""
    pid: int
    """The nats-server's process."""
    version: str
    """Such as `2.15.1`."""

    def __repr__(self) -> str:
        return f"ServerInfo({self.url_public}, pid={self.pid}, version={self.version!r})"


class ServerStatus(msgspec.Struct, frozen=True):
    """What `agent99 server status` tells; holds no credential."""

    running: bool
    """Whether the server answers."""
    state_folder: str
    """Where its state is."""
    url: str | None = None
    """The address without its credential."""
    pid: int | None = None
    """The nats-server's process."""
    supervisor_pid: int | None = None
    """The supervisor's process; None when it is gone and not replaced yet."""
    uptime_s: float | None = None
    """Seconds since the server started."""
    version: str | None = None
    """Such as `2.15.1`."""
    users: int | None = None
    """Processes that hold it up; None where the system does not tell."""
    store_bytes: int | None = None
    """Bytes on disk that its streams take."""
    streams: int | None = None
    """How many streams it has."""


def find_server(settings: Settings) -> ServerInfo | None:
    """Return the project's embedded server if it runs; starts nothing and never waits.

    A server that its supervisor is just restarting counts: it comes back at the same address.

    Raises:
        StateFolderError: The state folder is no folder, or cannot be read.
    """
    record = _record(Folder(settings.state_folder.absolute()))
    if record is None or not (process_lives(record.server) or process_lives(record.supervisor)):
        return None
    return ServerInfo(record.url, record.url_public, record.server.pid, record.version)


async def server_status(settings: Settings, *, clock: Clock | None = None) -> ServerStatus:
    """Return how the project's embedded server is; starts nothing.

    Raises:
        StateFolderError: The state folder is no folder, or cannot be read.
    """
    clock = clock or SystemClock()
    folder = Folder(settings.state_folder.absolute())
    record = _record(folder)
    if record is None or not process_lives(record.server):
        return ServerStatus(running=False, state_folder=str(folder.path))
    answer = await asyncio.to_thread(probe, record, timeout_s=_PROBE_TIMEOUT_S)
    return ServerStatus(
        running=answer is not None and answer.is_ready,
        state_folder=str(folder.path),
        url=record.url_public,
        pid=record.server.pid,
        supervisor_pid=record.supervisor.pid if process_lives(record.supervisor) else None,
        uptime_s=max(0.0, (clock.wall_us() - record.started_us) / 1e6),
        version=record.version,
        users=_count_users(folder),
        store_bytes=None if answer is None else answer.store_bytes,
        streams=None if answer is None else answer.streams,
    )


async def stop_server(
    settings: Settings, *, timeout_s: float = 15.0, clock: Clock | None = None
) -> bool:
    """Stop the project's embedded server, users or not; returns whether one ran.

    It stays stopped: users that are there wait for its return and do not start it themselves; the
    next `acquire_server` of anybody does, and then they are back too, at the same address.

    Raises:
        ServerStartError: It did not end within `timeout_s` seconds.
        StateFolderError: The state folder is no folder, or cannot be written.
    """
    clock = clock or SystemClock()
    folder = Folder(settings.state_folder.absolute())
    if not _is_there(folder):
        return False
    try:
        ran, lock = await _stop(folder, clock, timeout_s)
    except OSError as error:
        raise state_error(folder, error) from error
    os.close(lock)
    return ran


async def reset_server(
    settings: Settings, *, timeout_s: float = 15.0, clock: Clock | None = None
) -> bool:
    """Stop the project's embedded server and wipe its store; returns whether one ran.

    Everything that was stored is lost: jobs, logs, registry, sagas. Address and credential stay.

    Raises:
        ServerStartError: It did not end within `timeout_s` seconds; nothing was wiped.
        StateFolderError: The state folder is no folder, or cannot be written.
    """
    clock = clock or SystemClock()
    folder = Folder(settings.state_folder.absolute())
    if not _is_there(folder):
        return False
    try:
        ran, lock = await _stop(folder, clock, timeout_s)
        try:
            # With the lock, so that nobody starts a server on half a store.
            await asyncio.to_thread(_wipe, folder)
        finally:
            os.close(lock)
    except OSError as error:
        raise state_error(folder, error) from error
    return ran


def server_logs(settings: Settings, *, lines: int = 50) -> list[str]:
    """Return the last `lines` lines of the server's and its supervisor's log, oldest first.

    Raises:
        EmbeddedServerError: There is no log: no server ever ran here.
        StateFolderError: The state folder is no folder, or cannot be read.
    """
    folder = Folder(settings.state_folder.absolute())
    if not (_is_there(folder) and folder.log.exists()):
        raise EmbeddedServerError(f"there is no log in {folder.path}: no server has run there")
    return log_tail(folder.log, size_bytes_max=lines * _LINE_BYTES)[-lines:] if lines > 0 else []


def _is_there(folder: Folder) -> bool:
    """Return whether there is a state folder; what stands in its place is an error."""
    try:
        os.scandir(folder.path).close()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise state_error(folder, error) from error
    return True


def _record(folder: Folder) -> Record | None:
    return read_record(folder) if _is_there(folder) else None


async def _stop(folder: Folder, clock: Clock, timeout_s: float) -> tuple[bool, int]:
    """End supervisor and server; returns whether one ran, and the supervisor's lock."""
    record = read_record(folder)
    ran = record is not None and process_lives(record.server)
    deadline_s = clock.monotonic_s() + timeout_s
    folder.stopped.touch(mode=0o600)
    while (lock := lock_exclusive(folder.supervisor_lock)) is None:
        record = read_record(folder)  # a supervisor that has just come may not stand there yet
        if record is not None:
            send(record.supervisor, signal.SIGTERM)
        if clock.monotonic_s() >= deadline_s:
            raise ServerStartError(f"the embedded server in {folder.path} does not end")
        await clock.sleep(_POLL_S)
    record = read_record(folder)
    if record is not None and process_lives(record.server):  # its supervisor was killed
        ran = True
        await asyncio.to_thread(end_process, record.server, timeout_s=timeout_s)
    return ran, lock


def _wipe(folder: Folder) -> None:
    """Delete what the server stored, and nothing that somebody else laid beside it."""
    trash = folder.store / "jetstream.old"
    with suppress(FileNotFoundError):
        shutil.rmtree(trash)  # a reset that was killed left it
    with suppress(FileNotFoundError):
        folder.jetstream.rename(trash)  # in one step: a crash leaves a whole store or none
        shutil.rmtree(trash)
    with suppress(OSError):
        folder.store.rmdir()  # stays if it is not empty


def _count_users(folder: Folder) -> int | None:
    """Count the holders of the shared lock as Linux lists them."""
    try:
        inode = folder.users_lock.stat().st_ino
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    # `1: FLOCK  ADVISORY  READ 1234 fe:00:5678 0 EOF`
    fields = (line.split() for line in lines)
    return sum(1 for f in fields if len(f) > 5 and f[1] == "FLOCK" and f[5].endswith(f":{inode}"))
