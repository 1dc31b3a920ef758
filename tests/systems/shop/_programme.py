"""The demo as a process of its own, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import polars as pl

from agent99.systems.shop._data import EXTRACT
from tests._wait import wait_until

TIMEOUT_S = 60.0
READY = "agents, each a process"


def write_tiny(path: Path, invoices: int) -> Path:
    """Write the first so many invoices of the extract."""
    frame = pl.read_parquet(EXTRACT)
    kept = frame["Invoice"].unique(maintain_order=True).head(invoices)
    frame.filter(pl.col("Invoice").is_in(kept.implode())).write_parquet(path)
    return path


class Programme:
    """`agent99 demo shop`, or another demo, in a process.

    Invariant: it is in a session of its own, and gone after `close`.
    """

    def __init__(
        self,
        *arguments: str,
        demo: str = "shop",
        environ: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.lines: list[str] = []
        """What it wrote on standard error and, without --json, on standard output."""
        is_json = "--json" in arguments
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("AGENT99_")}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "agent99", "demo", demo, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if is_json else subprocess.STDOUT,
            env={**inherited, **(environ or {})},
            cwd=cwd,
            text=True,
            start_new_session=True,
        )
        self.output: list[str] = []
        self._readers = [threading.Thread(target=self._read, args=(self.process.stdout, is_json))]
        if is_json:
            self._readers.append(
                threading.Thread(target=self._read, args=(self.process.stderr, False))
            )
        for reader in self._readers:
            reader.start()

    def _read(self, stream: Any, is_json: bool) -> None:
        with stream:
            for line in stream:
                (self.output if is_json else self.lines).append(line.rstrip("\n"))

    def wait_line(self, part: str) -> None:
        """Wait until it has written a line with this in it."""
        wait_until(lambda: any(part in line for line in self.lines), timeout_s=TIMEOUT_S)

    def wait(self) -> int:
        """Wait until it has ended, and return its exit code."""
        code = self.process.wait(TIMEOUT_S)
        for reader in self._readers:
            reader.join(TIMEOUT_S)
        return code

    @property
    def document(self) -> Any:
        """The one object that it printed."""
        assert 1 == len(self.output), self.output
        return json.loads(self.output[0])

    @property
    def text(self) -> str:
        """Everything else that it wrote."""
        return "\n".join(self.lines)

    def family(self) -> list[int]:
        """Return this process, its nursery, and the agents; the server belongs to none of them."""
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
        )
        pairs = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
        found = [self.process.pid]
        for parent in found:
            found += [pid for pid, above in pairs if above == parent]
        return found

    def kill(self) -> None:
        """Kill the demo itself, and nothing of it."""
        self.process.kill()

    def close(self) -> None:
        """End it, and whatever is left of it."""
        for pid in self.family():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.wait()


def is_alive(pid: int) -> bool:
    """Tell whether a process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
