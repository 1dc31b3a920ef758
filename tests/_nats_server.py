"""A real nats-server for tests: from the wheel, on a free loopback port, ended by its pid."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

HOST = "127.0.0.1"
# Below the ports that systems hand out for outgoing connections: nothing takes one by chance while
# the server is away, and a client that reconnects cannot meet itself.
_PORTS = range(12_000, 20_000)
_START_TIMEOUT_S = 15.0
_TRIALS_MAX = 20
_random = random.SystemRandom()


class NatsServer:
    """A running nats-server with JetStream. All methods block; most for some 20 ms.

    Invariant: at most one process lives per instance, and none after `close`.
    """

    def __init__(self, folder: Path, *, config: str = "", args: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.store = folder / "store"
        """JetStream's files; they outlive `kill` and `restart`."""
        self.log = folder / "server.log"
        self.port = 0
        self._config = config
        self._args = args
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self.store.mkdir(parents=True, exist_ok=True)
        self._start_anywhere()

    def __repr__(self) -> str:
        return f"NatsServer(port={self.port}, pid={self.pid})"

    @property
    def url(self) -> str:
        """The address, without a credential; the same after a restart."""
        return f"nats://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """The process, or 0 when none runs."""
        return self._process.pid if self._process is not None else 0

    def kill(self) -> None:
        """End the process as a crash would, and reap it. The port stays ours for `restart`."""
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        """End the process as an operator would, and reap it."""
        self._end(signal.SIGTERM)

    def stop(self) -> None:
        """Freeze the process (SIGSTOP): connections stay open and nothing answers."""
        pid = self._running().pid
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED)  # its threads do not stop all at once

    def cont(self) -> None:
        """Let a frozen process go on (SIGCONT)."""
        os.kill(self._running().pid, signal.SIGCONT)

    def start(self) -> None:
        """Start it again on the same port and store; returns when it accepts connections."""
        if self._process is not None:
            message = f"{self!r} runs already"
            raise RuntimeError(message)
        if not self._start(self.port):
            message = f"no nats-server on port {self.port}:\n{self.last_words()}"
            raise RuntimeError(message)

    def restart(self) -> None:
        """Kill it if it runs, then start it on the same port and store."""
        self.kill()
        self.start()

    def last_words(self, lines: int = 15) -> str:
        """Return the end of the server's log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def close(self) -> None:
        """End the process if it runs. Idempotent."""
        self.kill()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            message = "the server does not run"
            raise RuntimeError(message)
        return self._process

    def _start_anywhere(self) -> None:
        for _ in range(_TRIALS_MAX):
            self.port = _random.choice(_PORTS)
            if _is_free(self.port) and self._start(self.port):
                return
        message = f"no nats-server after {_TRIALS_MAX} ports:\n{self.last_words()}"
        raise RuntimeError(message)

    def _start(self, port: int) -> bool:
        command = [_binary(), "-a", HOST, "-p", str(port), "-js", "-sd", str(self.store)]
        if self._config:
            path = self.folder / "server.conf"
            path.write_text(self._config)
            command += ["-c", str(path)]
        command += self._args
        with self.log.open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._process = process
        self._guard = _guard(process.pid)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if _answers(port):
                return process.poll() is None
            try:
                process.wait(timeout=0.005)
            except subprocess.TimeoutExpired:
                continue
            break
        self.kill()
        return False

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.kill()
            guard.wait()
            if guard.stdin is not None:
                guard.stdin.close()


def _guard(pid: int) -> subprocess.Popen[bytes]:
    """Start a shell that kills `pid` when this process ends, however it ends: no orphans."""
    return subprocess.Popen(
        ["/bin/sh", "-c", 'read _; kill -9 "$1"', "guard", str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the terminal is for pytest
    )


def _binary() -> str:
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        message = "no nats-server: `make setup` installs it into .venv"
        raise RuntimeError(message)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _answers(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1.0) as link:
            return link.recv(5) == b"INFO "
    except OSError:
        return False
