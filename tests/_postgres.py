"""A PostgreSQL server of the tests' own."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest

from agent99.clock import SystemClock

START_S_MAX = 30.0
STOP_S_MAX = 20.0
_END_OTHERS = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_numbers = itertools.count(1)


def find_binaries() -> Path | None:
    """Return the folder of `initdb` and `postgres`; distributions keep it off PATH."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = [
        folder
        for pattern in ("lib/postgresql/*/bin", "pgsql-*/bin", "local/pgsql/bin")
        for folder in Path("/usr").glob(pattern)
        if (folder / "initdb").exists() and (folder / "postgres").exists()
    ]
    return max(found, key=_version, default=None)


def _version(folder: Path) -> list[int]:
    return [int(part) for part in folder.parts if part.isdigit()]


def unprivileged() -> dict[str, Any]:
    """Return what makes a child process no root: PostgreSQL refuses to run as one."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    pytest.fail("the tests run as root, and there is neither a user `postgres` nor `nobody`")


class Postgres:
    """A PostgreSQL server of our own, on a free loopback port and in a temporary folder."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self.binaries = binaries
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._used: list[str] = []
        """The addresses of databases that were given back."""
        self._log = folder / "log"  # no pipe: a full one stops the server
        self._as = unprivileged()
        if self._as:
            os.chown(folder, self._as["user"], self._as["group"])

    def __repr__(self) -> str:
        return f"Postgres(port={self.port})"

    def create(self) -> None:
        """Make the server's folder."""
        command = [self.binaries / "initdb", "-D", self.folder / "data", "-U", "agent99"]
        flags = ["-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        made = subprocess.run(
            [*command, *flags],
            cwd=self.folder,
            capture_output=True,
            check=False,
            timeout=60,
            **self._as,
        )
        if made.returncode != 0:
            pytest.fail(f"initdb failed: {made.stderr.decode(errors='replace')}")

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": 120,
            "fsync": "off",  # the tests kill processes, not machines: what was written is there
            "log_min_messages": "fatal",
            "lc_messages": "C",
        }
        flags = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.binaries / "postgres", "-D", self.folder / "data", *flags],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                **self._as,
            )
        self._wait_ready()

    def kill(self) -> None:
        """End it the hard way, its children with it."""
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)  # immediate: recovery at the next start
        self._reap()

    def stop(self) -> None:
        """End it. Idempotent."""
        if self.process is not None:
            self.kill()  # what it holds is thrown away

    def url(self, database: str) -> str:
        """Return a database's address."""
        return f"postgresql://agent99@127.0.0.1:{self.port}/{database}"

    def make_database(self) -> str:
        """Return the address of an empty database: one that was given back, or a new one."""
        if self._used:
            url = self._used.pop()
            self._empty(url)
            return url
        name = f"test_{next(_numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def give_back(self, url: str) -> None:
        """Take back a database; whoever is still at it may go on until the next test has it."""
        self._used.append(url)

    def _empty(self, url: str) -> None:
        """Empty a database: that takes a tenth of the time of a new one."""
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_END_OTHERS)
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")

    def _wait_ready(self) -> None:
        """Ask until the server says yes; `pg_isready` itself waits for an answer."""
        command = [self.binaries / "pg_isready", "-h", "127.0.0.1", "-p", str(self.port), "-t", "1"]
        assert self.process is not None
        clock = SystemClock()
        deadline_s = clock.monotonic_s() + START_S_MAX
        while subprocess.run(command, capture_output=True, check=False).returncode != 0:
            if self.process.poll() is not None:
                words = self._log.read_text(errors="replace")
                pytest.fail(f"PostgreSQL ended at once: {words}")
            if clock.monotonic_s() > deadline_s:
                self.stop()
                pytest.fail(f"PostgreSQL did not start within {START_S_MAX} s")

    def _reap(self) -> None:
        process, self.process = self.process, None
        assert process is not None
        try:
            process.wait(STOP_S_MAX)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def free_port() -> int:
    """Return a loopback port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
