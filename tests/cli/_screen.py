"""A command on a terminal of its own."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess

from tests.cli._cli import TIMEOUT_S, Cli


class Screen:
    """A terminal of its own, with a command in it."""

    def __init__(self, cli: Cli, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        environ = {**cli.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
        command = cli._command(words)
        self.process = subprocess.Popen(
            command, cwd=cli.folder, env=environ, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        os.set_blocking(self._ours, False)
        self._read = b""

    @property
    def text(self) -> str:
        """Everything that it has written so far, control characters included."""
        with contextlib.suppress(BlockingIOError, OSError):  # EIO: it has ended
            while chunk := os.read(self._ours, 65_536):
                self._read += chunk
        return self._read.decode()

    def close(self) -> None:
        """End the command, if it still runs."""
        self.process.kill()
        self.process.wait(TIMEOUT_S)
        os.close(self._ours)
