"""A Redis server of the bench's own: a store with a log on disk, or a cache without one."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from _processes import SetUpError, free_port, started

_START_S = 20.0
_TRIALS_MAX = 20


def find_redis() -> Path | None:
    """Return the server's binary, or None."""
    found = shutil.which("redis-server")
    return Path(found) if found else None


@contextlib.contextmanager
def redis_server(binary: Path, folder: Path, *, keeps: bool = True) -> Iterator[str]:
    """Run a server on a free loopback port; gives the address of an empty database.

    Args:
        keeps: Whether what it accepted outlives its process.

    Raises:
        SetUpError: it does not start.
    """
    for _ in range(_TRIALS_MAX):
        port = free_port()
        place = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder)]
        disk = ["--appendonly", "yes" if keeps else "no", "--save", ""]
        log = ["--logfile", f"redis-{port}.log"]
        with started([str(binary), *place, *disk, *log], cwd=folder) as process:
            if _wait_answer(process, port):
                yield f"redis://127.0.0.1:{port}/0"
                return
    raise SetUpError(f"{binary} does not start; its log is in {folder}")


def _wait_answer(process: subprocess.Popen[str], port: int) -> bool:
    until = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1.0) as link:
                link.sendall(b"PING\r\n")
                return link.recv(5) == b"+PONG" and process.poll() is None
        except OSError:
            time.sleep(0.01)
    return False
