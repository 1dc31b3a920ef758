"""A PostgreSQL server of the bench's own: as a distribution sets it up, all its safety on."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _processes import SetUpError, free_port, started

_START_S = 30.0
_TRIALS_MAX = 5


def find_postgres() -> Path | None:
    """Return the folder of `initdb` and `postgres`, or None; distributions keep it off PATH."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = Path("/usr").glob("lib/postgresql/*/bin")
    return max((folder for folder in found if (folder / "initdb").exists()), default=None)


@contextlib.contextmanager
def postgres(binaries: Path) -> Iterator[str]:
    """Run a server on a free loopback port; gives the address of an empty database.

    Raises:
        SetUpError: it does not start.
    """
    # Not within another temporary folder: only its owner may enter that, and root is refused.
    with tempfile.TemporaryDirectory(prefix="agent99-bench-postgres-") as name:
        folder, identity = Path(name), _unprivileged()
        if identity:
            os.chown(folder, identity["user"], identity["group"])
        _create(binaries, folder, identity)
        for _ in range(_TRIALS_MAX):
            port = free_port()
            settings = (f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories=")
            flags = [part for setting in settings for part in ("-c", setting)]
            log = ("-c", "logging_collector=on", "-c", "log_directory=.")
            command = [str(binaries / "postgres"), "-D", str(folder / "data"), *flags, *log]
            with started(command, cwd=folder, identity=identity) as process:
                if _wait_ready(binaries, process, port):
                    yield f"postgresql://agent99@127.0.0.1:{port}/postgres"
                    return
    raise SetUpError(f"{binaries / 'postgres'} does not start")


def _unprivileged() -> dict[str, Any]:
    """Return what makes a child no root: PostgreSQL refuses to run as one."""
    if os.getuid() != 0:
        return {}
    user = pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _create(binaries: Path, folder: Path, identity: dict[str, Any]) -> None:
    flags = ["-U", "agent99", "-A", "trust", "-E", "UTF8", "--locale=C"]
    command = [str(binaries / "initdb"), "-D", str(folder / "data"), *flags]
    made = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=60, **identity
    )
    if made.returncode != 0:
        raise SetUpError(f"initdb failed: {made.stderr}")


def _wait_ready(binaries: Path, process: subprocess.Popen[str], port: int) -> bool:
    command = [str(binaries / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-t", "1"]
    until = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < until:
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return True
        time.sleep(0.02)
    return False
