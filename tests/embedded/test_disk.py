"""When a disk counts as full, and when as having room again."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent99.embedded._disk import FULL_BYTES, ROOM_BYTES, DiskWatch, room_bytes
from agent99.embedded._state import Folder


class Disk:
    """What the system says of the disk."""

    def __init__(self) -> None:
        self.room_bytes = 2 * ROOM_BYTES
        self.files = 10
        self.files_free = 5

    def statvfs(self, _: Path) -> SimpleNamespace:
        """Stand in for the system's own."""
        return SimpleNamespace(
            f_bavail=self.room_bytes, f_frsize=1, f_files=self.files, f_favail=self.files_free
        )


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Give the disk that the system tells of."""
    disk = Disk()
    monkeypatch.setattr(os, "statvfs", disk.statvfs)
    return disk


def test_between_full_and_room_nothing_changes(tmp_path: Path, disk: Disk) -> None:
    """A disk at its brim is not told of again and again."""
    watch = DiskWatch(Folder(tmp_path))
    assert not watch.look()
    seen: list[tuple[bool, bool]] = []
    for room in (FULL_BYTES, FULL_BYTES - 1, 0, ROOM_BYTES - 1, ROOM_BYTES, FULL_BYTES):
        disk.room_bytes = room
        seen.append((watch.look(), watch.is_full))
    assert [
        (False, False),
        (True, True),
        (False, True),
        (False, True),
        (True, False),
        (False, False),
    ] == seen
    assert f"DiskWatch({str(tmp_path)!r}, is_full=False)" == repr(watch)


def test_the_servers_word_counts_once(tmp_path: Path, disk: Disk) -> None:
    """What stands in the log before, or was read before, is old; the rest is news."""
    folder = Folder(tmp_path)
    word = "[7] [ERR] 1.blk: no space left on device\n"
    folder.log.write_text(word)
    watch = DiskWatch(folder)
    assert not watch.look()
    with folder.log.open("a") as log:
        log.write(word)
    assert (True, True) == (watch.look(), watch.is_full)
    assert (True, False) == (watch.look(), watch.is_full)
    folder.log.write_text("")  # it was turned over
    assert not watch.look()
    folder.log.write_text(word)
    assert watch.look()


def test_a_disk_without_files_left_is_full(tmp_path: Path, disk: Disk) -> None:
    """Room for bytes is no help where no file can be made; some systems count no files."""
    disk.files_free = 0
    assert 0 == room_bytes(tmp_path)
    disk.files = 0
    assert 2 * ROOM_BYTES == room_bytes(tmp_path)


def test_where_nobody_knows_there_is_room(tmp_path: Path) -> None:
    """A folder that is away is somebody else's business."""
    assert float("inf") == room_bytes(tmp_path / "away")
