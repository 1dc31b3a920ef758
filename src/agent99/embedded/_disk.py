"""Notice that the disk of a state folder is full, and that it has room again."""

from __future__ import annotations

import os
from pathlib import Path

from agent99.embedded._nats import log_size, log_tail
from agent99.embedded._state import Folder

FULL_BYTES = 65_536
"""A disk with less room than this is full."""
ROOM_BYTES = 1_048_576
"""A disk that was full has room again from here on."""
_WORDS = "no space left on device"


class DiskWatch:
    """Whether the server's disk is full, as far as the system or the server's log tells.

    Invariant: between two changes of `is_full` there is a difference in room, or the server's word.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._read = log_size(folder)
        self.is_full = False

    def __repr__(self) -> str:
        return f"DiskWatch({str(self._folder.path)!r}, is_full={self.is_full})"

    def look(self) -> bool:
        """Look again; returns whether `is_full` changed."""
        before = self.is_full
        room = room_bytes(self._folder.path)
        # The server's word counts too: a system may keep back room that only root can use.
        if self._server_said_so() or room < FULL_BYTES:
            self.is_full = True
        elif room >= ROOM_BYTES:
            self.is_full = False
        return self.is_full != before

    def _server_said_so(self) -> bool:
        size = log_size(self._folder)
        start, self._read = min(self._read, size), size
        return size > start and any(
            _WORDS in line for line in log_tail(self._folder.log, start=start)
        )


def room_bytes(path: Path) -> float:
    """Return the bytes that may still be written there; without limit where nobody knows."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return float("inf")
    if disk.f_files and not disk.f_favail:
        return 0.0  # not one more file fits
    return float(disk.f_bavail * disk.f_frsize)
