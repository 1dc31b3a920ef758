"""The state folder: its files, its locks, and the record of the server that runs in it.

The supervisor loads this file too, and has to start fast: nothing but a little of the standard
library may be imported here.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

if sys.platform != "win32":
    import fcntl

HOST = "127.0.0.1"
"""The embedded server listens here and nowhere else."""


class Folder:
    """The files of one state folder. All are readable by their owner alone.

    Invariant: `path` is absolute.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.users_lock = path / "users.lock"
        """Shared by every user; exclusive to the supervisor while it ends the server."""
        self.supervisor_lock = path / "supervisor.lock"
        """Exclusive to the supervisor, taken by the user that starts it and handed down."""
        self.server_lock = path / "server.lock"
        """Exclusive to the nats-server: two never share a store."""
        self.lifeline = path / "lifeline"
        """A named pipe: written by users and supervisor, read by the nats-server."""
        self.config = path / "nats.conf"
        self.record = path / "server.json"
        """Address, credential and processes; stays when the server ends."""
        self.server_pid = path / "server.pid"
        """The nats-server's process, written before it becomes one."""
        self.stopped = path / "stopped"
        """Exists after `server stop`, until somebody new wants a server."""
        self.temporary = path / "temporary"
        """Exists while the folder is to vanish with its last user."""
        self.log = path / "server.log"
        self.store = path / "store"
        """The folder that the nats-server is given; its owner may keep other files there."""
        self.jetstream = self.store / "jetstream"
        """Everything that the nats-server stores."""

    def __repr__(self) -> str:
        return f"Folder({str(self.path)!r})"


class Process(NamedTuple):
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    """The process's number; 0: none."""
    start: str
    """When it started, in the system's own words."""


NO_PROCESS = Process(0, "")


class Record(NamedTuple):
    """What `server.json` says."""

    port: int
    """On 127.0.0.1."""
    user: str
    password: str
    name: str
    """The server's name; also how a prober knows that it met the right one."""
    version: str = ""
    """The running server's; empty: none runs."""
    binary: str = ""
    started_us: int = 0
    """Microseconds since the epoch; 0: none runs."""
    server: Process = NO_PROCESS
    supervisor: Process = NO_PROCESS

    @property
    def url(self) -> str:
        """The address with its credential."""
        return f"nats://{self.user}:{self.password}@{HOST}:{self.port}"

    @property
    def url_public(self) -> str:
        """The address without its credential."""
        return f"nats://{HOST}:{self.port}"

    @property
    def is_running(self) -> bool:
        """Whether a server is said to run; only `process_lives` and a probe know."""
        return self.server.pid > 0

    def without_processes(self) -> Record:
        """Return what is kept while no server runs: address and credential."""
        return Record(self.port, self.user, self.password, self.name)


def read_record(folder: Folder) -> Record | None:
    """Return what `server.json` says; None where it is absent or no record."""
    try:
        raw = json.loads(folder.record.read_bytes())
        return Record(
            port=int(raw["port"]),
            user=str(raw["user"]),
            password=str(raw["password"]),
            name=str(raw["name"]),
            version=str(raw["version"]),
            binary=str(raw["binary"]),
            started_us=int(raw["started_us"]),
            server=Process(int(raw["server"][0]), str(raw["server"][1])),
            supervisor=Process(int(raw["supervisor"][0]), str(raw["supervisor"][1])),
        )
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, IndexError):
        return None


def write_record(folder: Folder, record: Record) -> None:
    """Replace `server.json` in one step."""
    fields = {**record._asdict(), "url": record.url}
    write_private(folder.record, json.dumps(fields, indent=1).encode())


def write_private(path: Path, content: bytes) -> None:
    """Replace a file in one step; only its owner may read it.

    Raises:
        OSError: The disk is full, or the folder is away or may not be written.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


# --- locks ----------------------------------------------------------------------------------------
# `flock` and not `lockf`: the lock belongs to the open file, so that it can be handed to a child,
# and it vanishes with the last process that has the file open, however that process ends.


def lock_shared(path: Path) -> int | None:
    """Open and lock the file together with others; None while somebody has it alone."""
    return _lock(path, exclusive=False)


def lock_exclusive(path: Path) -> int | None:
    """Open and lock the file alone; None while anybody has it locked. Closing unlocks."""
    return _lock(path, exclusive=True)


def relock_exclusive(handle: int) -> bool:
    """Lock an open file alone if nobody else has it locked; returns whether it did."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(handle: int) -> None:
    """Give the lock up and keep the file open."""
    fcntl.flock(handle, fcntl.LOCK_UN)


def same_file(handle: int, path: Path) -> bool:
    """Return whether the open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False


def _lock(path: Path, *, exclusive: bool) -> int | None:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:
        os.close(handle)
        raise
    if same_file(handle, path):
        return handle
    os.close(handle)  # the folder was wiped in between: this lock guards nothing
    return None
