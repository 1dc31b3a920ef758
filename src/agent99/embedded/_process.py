"""Processes by number and start time: is it still the one we know, and how to end it."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from agent99.embedded._state import NO_PROCESS, Process

_POLL_S = 0.01


def process_of(pid: int) -> Process:
    """Return the process with this number; `NO_PROCESS` where there is none (a zombie is none)."""
    start = _start_linux(pid) if sys.platform == "linux" else _start_by_ps(pid)
    return Process(pid, start) if start else NO_PROCESS


def process_lives(process: Process) -> bool:
    """Return whether exactly this process still runs."""
    return process.pid > 0 and process_of(process.pid) == process


def end_process(process: Process, *, timeout_s: float) -> bool:
    """Ask the process to end, and kill it after `timeout_s`; returns whether it had to be killed.

    It waits for the end of processes that are not its children, so it looks rather than waits; the
    caller reaps its own.
    """
    deadline_s = time.monotonic() + timeout_s
    send(process, signal.SIGTERM)
    while process_lives(process):
        if time.monotonic() >= deadline_s:
            send(process, signal.SIGKILL)
            wait_end(process, timeout_s=5.0)
            return True
        time.sleep(_POLL_S)
    return False


def wait_end(process: Process, *, timeout_s: float) -> bool:
    """Return whether the process ended within `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    while process_lives(process):
        if time.monotonic() >= deadline_s:
            return False
        time.sleep(_POLL_S)
    return True


def send(process: Process, number: int) -> None:
    """Send a signal, unless the process is gone or its number belongs to another by now."""
    if process_lives(process):
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            return


def _start_linux(pid: int) -> str:
    try:
        # The command's name stands in brackets and may hold anything: count from the last one.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
    if len(fields) < 20 or fields[0] in (b"Z", b"X"):
        return ""
    return f"{boot}:{int(fields[19])}"


def _start_by_ps(pid: int) -> str:
    if pid <= 0:
        return ""
    import subprocess  # noqa: PLC0415 - Linux never needs it, and it is slow to load

    answer = subprocess.run(
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        check=False,
        env={"LC_ALL": "C", "TZ": "UTC"},
    )
    state, _, start = answer.stdout.decode(errors="replace").strip().partition(" ")
    return "" if state.startswith("Z") else start.strip()
