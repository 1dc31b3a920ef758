"""The tests' own server: what other tests rely on when they kill and freeze it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests._nats_server import HOST, NatsServer
from tests._wait import wait_until

ROOT = Path(__file__).resolve().parents[2]
StartNatsServer = Callable[..., NatsServer]


def _ping(link: socket.socket) -> bytes:
    """Send a ping and return what comes within a moment."""
    link.sendall(b"PING\r\n")
    try:
        return link.recv(64)
    except TimeoutError:
        return b""


def _connect(server: NatsServer) -> socket.socket:
    link = socket.create_connection((HOST, server.port), timeout=5)
    link.settimeout(5)
    assert link.recv(4096).startswith(b"INFO ")
    link.sendall(b'CONNECT {"verbose":false}\r\n')
    return link


def test_shared_server_answers(nats_server: NatsServer) -> None:
    """The shared server accepts connections without a credential."""
    with _connect(nats_server) as link:
        assert _ping(link).startswith(b"PONG")
    assert f"nats://{HOST}:{nats_server.port}" == nats_server.url


def test_killed_server_comes_back_in_its_place(start_nats_server: StartNatsServer) -> None:
    """After `kill` nobody listens; after `restart` the port and the store are the same."""
    server = start_nats_server()
    port, marker = server.port, server.store / "marker"
    marker.write_text("kept")
    server.kill()
    assert 0 == server.pid
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((HOST, port), timeout=1)
    server.restart()
    with _connect(server) as link:
        assert _ping(link).startswith(b"PONG")
    assert (port, "kept") == (server.port, marker.read_text())
    server.terminate()
    server.start()
    with pytest.raises(RuntimeError, match="runs already"):
        server.start()


def test_frozen_server_is_silent_until_it_goes_on(start_nats_server: StartNatsServer) -> None:
    """`stop` keeps the connection open and silent; `cont` lets the answer come."""
    server = start_nats_server()
    with _connect(server) as link:
        server.stop()
        link.settimeout(0.1)
        assert b"" == _ping(link)
        server.cont()
        link.settimeout(5)
        assert link.recv(64).startswith(b"PONG")


def test_configuration_reaches_the_server(start_nats_server: StartNatsServer) -> None:
    """A test may configure its server, here with a password."""
    server = start_nats_server(config="authorization { user: ada, password: s3cret }")
    with _connect(server) as link:
        assert b"Authorization Violation" in _ping(link)


def test_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """A configuration that the server refuses ends in its last words."""
    with pytest.raises(RuntimeError, match="no nats-server after"):
        NatsServer(tmp_path, config="this is { no configuration")


def test_no_orphan_after_kill_9_of_the_tests(tmp_path: Path) -> None:
    """A server ends although the process that started it was killed and could not clean up."""
    programme = (
        "import sys, time; from pathlib import Path; from tests._nats_server import NatsServer;"
        "print(NatsServer(Path(sys.argv[1])).pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", programme, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        starter.send_signal(signal.SIGKILL)
    wait_until(lambda: not _lives(pid), timeout_s=10)


def test_waiting_ends_with_the_condition_or_the_deadline() -> None:
    """`wait_until` returns at once when it may, and fails at its deadline when it must."""
    wait_until(lambda: True, timeout_s=0)
    started = time.monotonic()
    with pytest.raises(AssertionError, match="not within"):
        wait_until(lambda: False, timeout_s=0.02)
    assert time.monotonic() - started < 5


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/status")
        return not (status.exists() and "\nState:\tZ" in status.read_text())
    except (ProcessLookupError, FileNotFoundError):
        return False
