"""One state folder under test: its users, its processes, and killing them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent99.clock import SystemClock
from agent99.embedded import server_status
from agent99.embedded._probe import Answer, probe
from agent99.embedded._state import Folder, read_record
from agent99.settings import Settings

_CLOCK = SystemClock()
_USER = Path(__file__).with_name("_user.py")


async def eventually(condition: Callable[[], Any], what: str, *, timeout_s: float = 10.0) -> Any:
    """Return the condition's value once it is true; fail after `timeout_s`."""
    deadline_s = _CLOCK.monotonic_s() + timeout_s
    while not (value := condition()):
        if _CLOCK.monotonic_s() > deadline_s:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        await _CLOCK.sleep(0.01)
    return value


class User:
    """Another process that uses the server."""

    def __init__(self, place: Place) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(_USER), str(place.folder.path), str(place.settings.linger_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self.pid = self._process.pid
        self._said = b""

    async def ready(self, *, timeout_s: float = 20.0) -> dict[str, Any]:
        """Return what it said when it had the server."""
        return await eventually(self._word, f"user {self.pid} has a server", timeout_s=timeout_s)

    def _word(self) -> dict[str, Any] | None:
        assert self._process.stdout is not None
        self._said += self._process.stdout.read() or b""
        if b"\n" not in self._said:
            assert self._process.poll() is None, f"user {self.pid} ended without a server"
            return None
        return json.loads(self._said)

    def kill(self) -> None:
        """End it as nothing can resist."""
        self._process.kill()

    async def close(self) -> None:
        """Let it end by itself, and reap it."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


class Place:
    """A state folder, and everything that runs for it."""

    def __init__(self, path: Path, *, linger_s: float = 0.3) -> None:
        self.settings = Settings(project=path.parent, state_folder=path, linger_s=linger_s)
        self.folder = Folder(path)
        self.users: list[User] = []

    def start_user(self) -> User:
        """Start a process that uses the server; it is ended with the test."""
        user = User(self)
        self.users.append(user)
        return user

    def servers(self) -> list[int]:
        """Return the nats-servers that run for this folder."""
        return self._pids("nats.conf")

    def supervisors(self) -> list[int]:
        """Return the supervisors (and guards) that run for this folder."""
        return self._pids("_boot.py")

    def processes(self) -> list[int]:
        """Return every process of ours that runs for this folder."""
        return self.servers() + self.supervisors()

    def is_quiet(self) -> bool:
        """Return whether nothing runs for this folder."""
        return not self.processes()

    def answer(self) -> Answer | None:
        """Return what the server says with the credential of the record."""
        record = read_record(self.folder)
        return None if record is None else probe(record, timeout_s=1.0)

    async def status(self) -> Any:
        """Return the status as a user sees it."""
        return await server_status(self.settings)

    def kill(self, pids: list[int]) -> None:
        """Kill these processes at once."""
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    async def close(self) -> None:
        """End everything; fails when something is left that should have ended by itself."""
        await asyncio.gather(*(user.close() for user in self.users))
        try:
            await eventually(self.is_quiet, "nothing is left", timeout_s=self.settings.linger_s + 5)
        finally:
            self.kill(self.processes())

    def _pids(self, word: str) -> list[int]:
        found: list[int] = []
        mark = str(self.folder.path).encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if mark in command and word.encode() in command:
                found.append(int(entry.name))
        return found
