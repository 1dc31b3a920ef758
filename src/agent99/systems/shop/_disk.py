"""A full disk, said in one sentence: the demo writes in a temporary folder, which may be small."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agent99.errors import Agent99Error, UsageError

FREE_BYTES_MIN: Final = 1_048_576
"""With less than this left on the disk, what failed there failed for want of room."""
_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT))


class DiskFullError(Agent99Error):
    """The disk of the demo's temporary folder is full."""

    code = "DISK_FULL"

    def __init__(self, folder: Path) -> None:
        super().__init__(f"the disk under {folder.parent} is full; TMPDIR names another")
        self.folder = folder


@contextmanager
def temporary_folder() -> Generator[Path]:
    """Give a folder that is gone afterwards.

    Raises:
        DiskFullError: as `full_disk_said`.
        UsageError: no such folder can be made.
    """
    try:
        made = tempfile.TemporaryDirectory(prefix="agent99-shop-", ignore_cleanup_errors=True)
    except OSError as error:
        reason = error.strerror or str(error)
        message = f"no temporary folder can be made ({reason}); TMPDIR names another place"
        raise UsageError(message) from error
    with made as name, full_disk_said(Path(name)):
        yield Path(name)


@contextmanager
def full_disk_said(folder: Path) -> Generator[None]:
    """Say so when what is done in here fails because the disk under the folder is full.

    Raises:
        DiskFullError: in the place of any error of the demo's.
    """
    try:
        yield
    except (Agent99Error, OSError) as error:
        if _is_full(folder, error):
            raise DiskFullError(folder) from error
        raise


def _is_full(folder: Path, error: Agent99Error | OSError) -> bool:
    if isinstance(error, OSError):
        return error.errno in _FULL
    if isinstance(error, (UsageError, DiskFullError)):
        return False
    return is_nearly_full(folder.parent)


def is_nearly_full(folder: Path) -> bool:
    """Tell whether what fails in a folder may well fail for want of room."""
    return shutil.disk_usage(folder).free < FREE_BYTES_MIN
