"""The real command line in processes of its own, against a project in a temporary folder."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

TIMEOUT_S = 30.0
"""Longer than anything here takes on a machine with much else to do."""


class Done(NamedTuple):
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What it printed, as the one JSON document that it must be."""
        return json.loads(self.out)


Ask: TypeAlias = Callable[..., Done]
"""Runs the words of a command to its end."""


class Started:
    """A command that runs; its output is read all the time.

    Invariant: the process is in a group of its own, and gone after `close`.
    """

    def __init__(self, command: list[str], folder: Path, environ: dict[str, str]) -> None:
        self.lines: list[str] = []
        """What it printed, on either stream, in order of arrival."""
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self.lines.append("(end of output)")
            self._changed.notify_all()

    @property
    def text(self) -> str:
        """Everything that it has printed."""
        return "\n".join(self.lines)

    def wait_line(self, pattern: str, *, times: int = 1) -> str:
        """Return the line that matches, once so many have come."""

        def found() -> list[str]:
            return [line for line in self.lines if re.search(pattern, line)]

        with self._changed:
            came = self._changed.wait_for(
                lambda: len(found()) >= times or "(end of output)" in self.lines, TIMEOUT_S
            )
        assert came, f"no {pattern!r} within {TIMEOUT_S} s in:\n{self.text}"
        assert len(found()) >= times, f"ended without {pattern!r}:\n{self.text}"
        return found()[times - 1]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; returns the exit code."""
        code = self._process.wait(TIMEOUT_S)
        self._reader.join(TIMEOUT_S)
        return code

    def close(self) -> None:
        """End it and whatever it started in its group, if anything is left."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(TIMEOUT_S)
        self._reader.join(TIMEOUT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Cli:
    """A project folder and the commands that run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "agent99.toml").write_text("")
        self.environ = {
            key: value for key, value in os.environ.items() if not key.startswith("AGENT99_")
        }
        self.environ |= {
            "AGENT99_STATE": str(folder / "state"),
            "AGENT99_LINGER_S": "0.5",
            "NO_COLOR": "1",
            "PYTHONUNBUFFERED": "1",
        }
        self._started: list[Started] = []

    def write(self, name: str, text: str) -> Path:
        """Write a file of the project."""
        path = self.folder / name
        path.write_text(text)
        return path

    def run(self, *words: str, stdin: str = "", **environ: str) -> Done:
        """Run a command to its end."""
        done = subprocess.run(
            self._command(words),
            cwd=self.folder,
            env={**self.environ, **environ},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S * 2,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *words: str, **environ: str) -> Started:
        """Start a command; it is ended with the test."""
        started = Started(self._command(words), self.folder, {**self.environ, **environ})
        self._started.append(started)
        return started

    def close(self) -> None:
        """End everything: the commands, then the server of the project."""
        for started in self._started:
            started.close()
        if (self.folder / "state").exists():  # else there was never a server
            self.run("server", "stop")

    def _command(self, words: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-P", "-m", "agent99", *words]


def children_of(pid: int) -> list[int]:
    """Return the pids of a process's children."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def is_gone(pid: int) -> bool:
    """Return whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


Within: TypeAlias = Callable[[Cli], Ask]
"""Gives what runs the commands of a project in this process."""
