"""The lifeline: a named pipe that ends the nats-server when nobody holds it any more.

Users and supervisor hold the writing end, the nats-server inherits the reading end. When the last
writer goes, however it goes, the pipe hangs up. On Linux the reading end is set to deliver that as
SIGTERM to the nats-server, so the kernel itself ends it and no process of ours has to be left.
Where a pipe cannot name its signal (macOS), a guard, a fork of the supervisor, waits for the same.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_F_SETSIG = 10  # fcntl.h of Linux; Python does not name it
HAS_SIGNAL = sys.platform == "linux"
"""Whether the kernel tells the nats-server itself; else a guard is needed."""


def make_lifeline(path: Path) -> None:
    """Make the pipe unless it is there.

    Raises:
        OSError: The folder may not be written, or its file system has no named pipes.
    """
    try:
        os.mkfifo(path, 0o600)
    except FileExistsError:
        if not stat.S_ISFIFO(path.stat().st_mode):
            raise


def hold_lifeline(path: Path) -> int:
    """Return a handle that keeps the server alive while any process has it open."""
    # Reading and writing: a writer alone would have to wait for a reader.
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def bind_to_lifeline(  # pragma: no cover - ends its process; see test_parts.py
    path: Path, writer: int, *, with_signal: bool
) -> None:
    """Make this process, and what it becomes by exec, end with SIGTERM when the pipe hangs up.

    Args:
        path: The pipe.
        writer: This process's own handle from `hold_lifeline`; closed here.
        with_signal: Whether the kernel shall send the signal; False: a guard does.
    """
    # In this order: a reader that opens a pipe without any writer never sees it hang up, and the
    # last writer may go before the signal is armed, which is sent only once.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if with_signal:
        fcntl.fcntl(handle, _F_SETSIG, signal.SIGTERM)
        fcntl.fcntl(handle, fcntl.F_SETOWN, os.getpid())
        flags = fcntl.fcntl(handle, fcntl.F_GETFL)
        fcntl.fcntl(handle, fcntl.F_SETFL, flags | os.O_ASYNC)
    os.set_inheritable(handle, True)  # noqa: FBT003 - the standard library's signature
    os.close(writer)
    if _is_hung_up(handle):
        os.kill(os.getpid(), signal.SIGKILL)


def wait_hung_up(path: Path, writer: int) -> None:  # pragma: no cover - in a fork
    """Wait, in a guard, until every writer is gone.

    Args:
        path: The pipe.
        writer: This process's own handle from `hold_lifeline`; closed here.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    os.close(writer)
    while os.read(handle, 4096):  # nobody writes; whatever comes is no hang-up
        pass


def _is_hung_up(handle: int) -> bool:  # pragma: no cover - in a fork
    try:
        return not os.read(handle, 4096)
    except BlockingIOError:
        return False
