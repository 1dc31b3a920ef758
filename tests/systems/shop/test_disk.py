"""A full disk: one sentence that says which, and what to do."""

from __future__ import annotations

import errno
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from agent99.errors import StoreUnavailableError, UsageError
from agent99.systems.shop._disk import DiskFullError, full_disk_said, temporary_folder

_MOUNTED = 'mount -t tmpfs -o size="$1" none "$2" && shift 2 && exec "$@"'


def test_a_full_disk_is_said_with_its_place(tmp_path: Path) -> None:
    """What the system says of the disk becomes the demo's own error; what else failed stays."""
    rule = f"under {tmp_path} is full; TMPDIR names another"
    with pytest.raises(DiskFullError, match=rule), full_disk_said(tmp_path / "demo"):
        raise OSError(errno.ENOSPC, "No space left on device")
    for error in (PermissionError("no"), UsageError("no"), StoreUnavailableError("x", "no")):
        with pytest.raises(type(error)) as caught, full_disk_said(tmp_path / "demo"):
            raise error
        assert error is caught.value


def test_no_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no folder can be made the sentence names TMPDIR."""
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    with pytest.raises(UsageError, match="TMPDIR"), temporary_folder():
        pass


@pytest.mark.slow
@pytest.mark.parametrize("size", ["100k", "1m", "3m"])
def test_the_demo_on_a_small_disk(tmp_path: Path, size: str) -> None:
    """Before the first order or among them: it ends at once, and says why."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _MOUNTED, "sh"]
    unshare += [size, str(tmp_path)]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    began_s = time.monotonic()
    ended = subprocess.run(
        [*unshare, "env", f"TMPDIR={tmp_path}", sys.executable, "-m", "agent99", "demo", "shop"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 1 == ended.returncode
    assert "Traceback" not in ended.stderr
    said = f"agent99: the disk under {tmp_path} is full; TMPDIR names another"
    assert said in ended.stderr.splitlines()[-1]
    assert time.monotonic() - began_s < 20
