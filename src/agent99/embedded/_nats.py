"""The nats-server as a child: its configuration, its start, its last words, its end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from pathlib import Path
from typing import NamedTuple

from agent99.embedded._lifeline import bind_to_lifeline
from agent99.embedded._process import end_process, process_lives, process_of
from agent99.embedded._state import (
    HOST,
    Folder,
    Process,
    Record,
    lock_exclusive,
    write_private,
)

VERSION_MIN = (2, 14, 3)
"""Earlier servers have known security holes."""
PAYLOAD_BYTES_MAX = 1_048_576
"""The server's `max_payload`."""
_END_TIMEOUT_S = 10.0
# Below the ports that systems hand out for outgoing connections: nothing takes one of these by
# chance while the server is away, and a client that reconnects cannot meet itself.
_PORTS = range(20_000, 32_000)
_PORT_TRIALS = 200
_LOCK_TIMEOUT_S = 5.0
_POLL_S = 0.01
_TAIL_BYTES = 16_384
_LAST_WORDS = 3
_LOG_PREFIX = re.compile(r"^\[\d+\] [\d/]+ [\d:.]+ \[\w+\] ")
_KEPT_VARIABLES = ("PATH", "HOME", "TMPDIR", "TZ", "LANG", "GOMEMLIMIT", "GOMAXPROCS", "GODEBUG")


class Options(NamedTuple):
    """What the user that starts the supervisor asks for. No secrets: it is an argument in `ps`."""

    binary: str
    linger_s: float
    port: int
    """0: any."""
    start_timeout_s: float
    sync_interval_s: float
    """0: for each message."""
    store_bytes_max: int
    memory_bytes_max: int
    use_guard: bool
    """Whether a guard process watches the lifeline; the kernel does where it can."""

    def to_text(self) -> str:
        """Return the options as one argument."""
        return json.dumps(self._asdict())

    @classmethod
    def from_text(cls, text: str) -> Options:
        """Return what `to_text` made an argument of."""
        return cls(**json.loads(text))


class NatsServer:
    """A running nats-server: our child, or one that an earlier supervisor left.

    Invariant: once `lives` was false it stays false.
    """

    def __init__(self, process: Process, *, is_child: bool) -> None:
        self.process = process
        self.is_child = is_child
        self.was_killed = False
        """Whether a signal from outside ended it; known of children only."""
        self._ended = False

    def __repr__(self) -> str:
        return f"NatsServer(pid={self.process.pid}, is_child={self.is_child})"

    def lives(self) -> bool:
        """Return whether it runs; reaps it when it does not."""
        if not self._ended:
            self._ended = self._reaped() if self.is_child else not process_lives(self.process)
        return not self._ended

    def end(self) -> None:
        """End it, gently at first, and reap it."""
        if self.lives():
            end_process(self.process, timeout_s=_END_TIMEOUT_S)
            self.lives()
            self.was_killed = False

    def _reaped(self) -> bool:
        try:
            pid, status = os.waitpid(self.process.pid, os.WNOHANG)
        except ChildProcessError:
            return True
        self.was_killed = pid != 0 and os.WIFSIGNALED(status)
        return pid != 0


def start_nats(  # pragma: no cover - forks; see test_kill.py
    folder: Folder, record: Record, options: Options, lifeline: int
) -> NatsServer:
    """Start the server; it does not answer yet.

    The child writes down its own number before it becomes the server, and until then shares the
    supervisor's lock: no supervisor, however this one ends, can overlook a server.

    Raises:
        OSError: The configuration cannot be written or no process be made.
    """
    write_private(folder.config, render_config(record, options).encode())
    pid = os.fork()
    if pid == 0:
        _become_server(folder, options, lifeline)
    return NatsServer(process_of(pid)._replace(pid=pid), is_child=True)


def version_of(text: str) -> tuple[int, ...]:
    """Return the numbers of a version such as `v2.15.1-beta.1`; empty where it is none."""
    parts = text.removeprefix("v").partition("-")[0].split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else ()


def free_port() -> int:
    """Return a port on the loopback address that nobody listens on."""
    for _ in range(_PORT_TRIALS):
        port = _PORTS[int.from_bytes(os.urandom(4), "big") % len(_PORTS)]
        if port_is_free(port):
            return port
    raise OSError(0, f"no free port between {_PORTS.start} and {_PORTS.stop}")


def port_is_free(port: int) -> bool:
    """Return whether a server could listen on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)  # Linux lets two sockets bind with REUSEADDR, but only one listen
        except OSError:
            return False
        return True


def say(folder: Folder, level: str, text: str) -> None:
    """Add a line to the log, in the server's own form so that the two make one story."""
    now_s = time.time()
    stamp = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(now_s))
    line = f"[{os.getpid()}] {stamp}.{int(now_s % 1 * 1e6):06d} [{level}] supervisor: {text}\n"
    try:
        handle = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)
    except OSError:
        return  # a full disk must not cost the server its supervisor


def log_size(folder: Folder) -> int:
    """Return the bytes in the log; 0 where there is none."""
    try:
        return folder.log.stat().st_size
    except OSError:
        return 0


def log_tail(path: Path, *, start: int = 0, size_bytes_max: int = _TAIL_BYTES) -> list[str]:
    """Return the lines at the file's end, none from before the byte `start`."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            at = file.seek(max(start, end - size_bytes_max, 0))
            lines = file.read(size_bytes_max).decode(errors="replace").splitlines()
    except OSError:
        return []
    return lines[1:] if at > start else lines  # the first may be half a line


def last_words(folder: Folder, start: int) -> str:
    """Return why the server ended, as far as the log from the byte `start` tells."""
    lines = [line for line in log_tail(folder.log, start=start) if line.strip()]
    telling = [line for line in lines if "[FTL]" in line or "[ERR]" in line] or lines
    words = [_LOG_PREFIX.sub("", line) for line in telling]
    return " | ".join(words[-_LAST_WORDS:]) or "it said nothing"


def render_config(record: Record, options: Options) -> str:
    """Return the server's configuration file."""
    sync_ms = round(options.sync_interval_s * 1000)
    sync = f'"{sync_ms}ms"' if sync_ms else "always"
    # Every path is relative to the state folder, where the server runs: nothing to quote, and a
    # project can be moved.
    return f"""\
# Written by agent99 at every start.
server_name: {json.dumps(record.name)}
host: "{HOST}"
port: {record.port}
authorization {{ user: {json.dumps(record.user)}, password: {json.dumps(record.password)} }}
max_payload: {PAYLOAD_BYTES_MAX}
ping_interval: "10s"
ping_max: 2
write_deadline: "10s"
jetstream {{
  store_dir: "store"
  max_file_store: {options.store_bytes_max}
  max_memory_store: {options.memory_bytes_max}
  sync_interval: {sync}
}}
# Its acks of flow control would need a consumer per subscriber.
feature_flags {{ js_ack_fc_v2: false }}
"""


def _guard_of(folder: Folder) -> int | None:  # pragma: no cover - in a fork
    """Return the lock that one server of a folder has; None where another keeps it.

    A server that has just ended may have it for a moment longer: its first thread is gone, and with
    it the process, as far as anybody can see, while others still close its files.
    """
    deadline_s = time.monotonic() + _LOCK_TIMEOUT_S
    while (guard := lock_exclusive(folder.server_lock)) is None:
        if time.monotonic() >= deadline_s:
            return None
        time.sleep(_POLL_S)
    return guard


def _become_server(  # pragma: no cover - a fork; see test_kill.py
    folder: Folder, options: Options, lifeline: int
) -> None:
    """Turn this fork into the nats-server; never returns."""
    try:
        # Before the lifeline: its signal comes once, and the supervisor's handler would eat it.
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        bind_to_lifeline(folder.lifeline, lifeline, with_signal=not options.use_guard)
        guard = _guard_of(folder)
        if guard is None:
            say(folder, "FTL", "another nats-server already uses this folder")
            os._exit(1)
        os.set_inheritable(guard, True)  # noqa: FBT003 - the standard library's signature
        me = process_of(os.getpid())
        write_private(folder.server_pid, json.dumps(me).encode())
        log = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.chdir(folder.path)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        environ = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        command = [options.binary, "-c", str(folder.config)]
        os.execve(options.binary, command, environ)  # noqa: S606 - no shell is the point
    except OSError as error:
        say(folder, "FTL", f"nats-server does not start: {error}")
    finally:
        os._exit(127)
