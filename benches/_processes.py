"""The processes of a bench: a nats-server of its own, servers, clients. All ended by their ids."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

HERE = Path(__file__).parent
_PORTS = range(20_000, 28_000)  # below those that systems hand out for outgoing connections
_UNWANTED = ("AGENT99_", "PYTHONDONTWRITEBYTECODE")
_TRIALS_MAX = 20
_START_S = 20.0
_END_S = 5.0
_EXTRA_S = 60.0  # what a client may take above its measured time


class SetUpError(Exception):
    """The bench cannot be set up; one sentence."""


def plain_environment() -> dict[str, str]:
    """Return the environment without what would lead agent99 to another mesh, or slow imports."""
    return {key: value for key, value in os.environ.items() if not key.startswith(_UNWANTED)}


@contextlib.contextmanager
def started(
    command: Sequence[str], *, cwd: Path | None = None, identity: dict[str, Any] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a process, and end it by its id; a guard ends it when this process is killed.

    Args:
        identity: `user` and `group`, where it may not run as this process does.
    """
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=plain_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the bench, which ends them in order
        **(identity or {}),
    ) as process:
        guard = _guard(process.pid)
        try:
            yield process
        finally:
            _end(process)
            guard.kill()
            guard.wait()
            if guard.stdin is not None:
                guard.stdin.close()


@contextlib.contextmanager
def nats_server(folder: Path, *, sync_always: bool = False) -> Iterator[str]:
    """Run a nats-server with JetStream on a free loopback port; gives its address.

    Args:
        folder: Of its own.
        sync_always: What it acknowledges is on the disk; by default it is synced within minutes.

    Raises:
        SetUpError: there is no nats-server, or it does not start.
    """
    binary, settings = _nats_binary(), folder / "nats.conf"
    settings.write_text("jetstream { sync_interval: always }\n" if sync_always else "")
    for _ in range(_TRIALS_MAX):
        port = free_port()
        log = folder / f"nats-{port}.log"
        place = ["-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(folder / "store")]
        with started([binary, "-c", str(settings), *place, "-l", str(log)]) as process:
            if _wait_answer(process, port):
                yield f"nats://127.0.0.1:{port}"
                return
    raise SetUpError(f"{binary} does not start; its log is in {folder}")


@contextlib.contextmanager
def serving(programme: Path, url: str, *, seconds: float) -> Iterator[None]:
    """Run a stack's server; entered once it is ready.

    Raises:
        SetUpError: it ended before.
    """
    command = [sys.executable, str(programme), "server", "--url", url, "--seconds", str(seconds)]
    with started(command) as process:
        read_line(process, programme.name)
        yield


def read_line(process: subprocess.Popen[str], name: str) -> str:
    """Return the next line of its standard output.

    Raises:
        SetUpError: it ended without one.
    """
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line:
        raise SetUpError(f"{name} does not start: {_last_words(process)}")
    return line


def client(programme: Path, url: str, *, concurrency: int, seconds: float) -> dict[str, float]:
    """Run a stack's client to its end; returns what it measured."""
    arguments = ["client", "--url", url, "--concurrency", str(concurrency)]
    return run([str(programme), *arguments, "--seconds", str(seconds)], seconds=seconds)


def run(arguments: Sequence[str], *, seconds: float, cwd: Path | None = None) -> Any:
    """Run a Python programme to its end; returns the JSON that it prints last.

    Raises:
        SetUpError: it fails, or takes far longer than `seconds`.
    """
    with started([sys.executable, *arguments], cwd=cwd) as process:
        name = Path(arguments[0]).name
        try:
            output, errors = process.communicate(timeout=seconds * 2 + _EXTRA_S)
        except subprocess.TimeoutExpired:
            raise SetUpError(f"{name} did not end") from None
        if process.returncode != 0:
            raise SetUpError(f"{name} failed: {_last_line(errors)}")
    return msgspec.json.decode(output.splitlines()[-1])


def free_port() -> int:
    """Return a port that is likely free: who uses it tries another if it was not."""
    return random.choice(_PORTS)


def resident_bytes(pid: int) -> int:
    """Return what a process has in memory; 0 where it is not told."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _guard(pid: int) -> subprocess.Popen[bytes]:
    """Start a shell that kills `pid` when this process ends, however it ends: no orphans."""
    return subprocess.Popen(
        ["/bin/sh", "-c", 'read _; kill -9 "$1"', "guard", str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _nats_binary() -> str:
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise SetUpError("there is no nats-server: `make setup` installs one into .venv")
    return found


def _wait_answer(process: subprocess.Popen[str], port: int) -> bool:
    until = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1.0) as link:
                return link.recv(5) == b"INFO " and process.poll() is None
        except OSError:
            time.sleep(0.01)
    return False


def _last_words(process: subprocess.Popen[str]) -> str:
    return _last_line(process.stderr.read() if process.stderr is not None else "")


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "no word of why")
