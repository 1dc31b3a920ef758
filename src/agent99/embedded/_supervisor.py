"""The supervisor: a process of its own that keeps one nats-server for all users of a state folder.

It is started by a user, detached at once from that user's terminal and process, and told nothing
later on: it looks at the locks. It restarts a server that dies, and ends it when no user is left.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from pathlib import Path

from agent99.embedded._backoff import Backoff
from agent99.embedded._disk import DiskWatch
from agent99.embedded._lifeline import hold_lifeline, make_lifeline, wait_hung_up
from agent99.embedded._nats import (
    VERSION_MIN,
    NatsServer,
    Options,
    free_port,
    last_words,
    log_size,
    port_is_free,
    say,
    start_nats,
    version_of,
)
from agent99.embedded._probe import Answer, probe
from agent99.embedded._process import end_process, process_lives, process_of
from agent99.embedded._report import Report, StartFailedError
from agent99.embedded._state import (
    Folder,
    Process,
    Record,
    lock_exclusive,
    read_record,
    relock_exclusive,
    same_file,
    unlock,
    write_record,
)

_LOOK_S = 0.1
_PROBE_TIMEOUT_S = 1.0
_PROBES_MAX = 3
_POLL_FIRST_S = 0.002
_POLL_MAX_S = 0.05
_START_TRIALS = 5
_FIRST_HANDLE = 3
_HANDLES_MAX = 256
_LOG_BYTES_MAX = 8 * 1024**2


def main(arguments: list[str]) -> None:  # pragma: no cover - forks; see test_kill.py
    """Be the supervisor: arguments are the state folder, the options, the lock's handle."""
    folder, lock = Folder(Path(arguments[0])), int(arguments[2])
    if os.fork():
        os._exit(0)  # the user waits for this one; the other has no parent that could forget it
    os.umask(0o077)
    os.set_inheritable(lock, False)  # noqa: FBT003 - the standard library's signature
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # the user's thread may have blocked some
    report = Report(os.dup(1))
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(nothing, 1)
    try:
        Supervisor(folder, Options.from_text(arguments[1]), lock).run(report)
    except StartFailedError as error:
        say(folder, "FTL", error.message)
        report.say(error=error.kind, message=error.message)
    except OSError as error:
        say(folder, "FTL", str(error))
        reason = error.strerror or str(error)
        report.say(
            error="state", message=f"the state folder {folder.path} cannot be used: {reason}"
        )


class Supervisor:  # pragma: no cover - a process of its own; see test_kill.py
    """Keeps one nats-server.

    Invariant: this process holds `supervisor.lock` and the lifeline from its first line to its end.
    """

    def __init__(self, folder: Folder, options: Options, lock: int) -> None:
        self._folder = folder
        self._options = options
        self._lock = lock
        make_lifeline(folder.lifeline)
        self._lifeline = hold_lifeline(folder.lifeline)
        self._users = os.open(folder.users_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._wake, wake = socket.socketpair()
        self._wake.setblocking(False)  # noqa: FBT003 - the standard library's signature
        wake.setblocking(False)  # noqa: FBT003 - the same
        self._wake_writer = wake
        self._stop = False
        self._is_over = False
        self._disk = DiskWatch(folder)
        self._server: NatsServer | None = None
        self._guard = 0
        self._backoff = Backoff(time.monotonic())
        self._restart_at_s: float | None = None
        self._record = self._identity()

    def __repr__(self) -> str:
        return f"Supervisor({str(self._folder.path)!r}, server={self._server!r})"

    def run(self, report: Report) -> None:
        """Start or adopt the server, say so on `report`, and keep it until it is not needed.

        Raises:
            StartFailedError: The first start failed.
        """
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._asked_to_stop)
        signal.signal(signal.SIGINT, self._asked_to_stop)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        try:
            self._guard_lifeline()
            started = self._first_start()
            report.say(started=started)
            self._keep()
        finally:
            self._end_server()

    # --- starting -----------------------------------------------------------------------------

    def _identity(self) -> Record:
        """Return the address and credential of before, or new ones."""
        known = read_record(self._folder)
        fixed = self._options.port
        if known is None:
            password = os.urandom(24).hex()
            return Record(
                fixed or free_port(), "agent99", password, f"agent99-{os.urandom(4).hex()}"
            )
        return known._replace(port=fixed) if fixed else known

    def _first_start(self) -> bool:
        """Return whether a server was started; False: the one of an earlier supervisor goes on."""
        if self._adopted():
            say(self._folder, "INF", f"took over nats-server {self._record.server.pid}")
            return False
        self._record = self._record.without_processes()
        words = ""
        for _ in range(_START_TRIALS):
            if not port_is_free(self._record.port):
                self._other_port()
            start = log_size(self._folder)
            answer = self._start_and_wait()
            if answer is not None:
                return True
            if self._stop:
                raise StartFailedError("start", "the embedded server was stopped while it started")
            words = last_words(self._folder, start)
            killed = self._server is not None and self._server.was_killed
            if not (killed or "address already in use" in words):
                break
        raise StartFailedError("start", f"the embedded nats-server did not start: {words}")

    def _adopted(self) -> bool:
        """Take over the server that an earlier supervisor left, or end it if it is deaf."""
        process = _recorded_server(self._folder)
        if not process_lives(process):
            return False
        server = NatsServer(process, is_child=False)
        answer = self._patient_probe()
        if answer is None or not answer.is_ready or self._record.server != process:
            say(self._folder, "WRN", f"nats-server {process.pid} was left behind and is replaced")
            server.end()
            return False
        self._server = server
        self._write(answer)
        return True

    def _patient_probe(self) -> Answer | None:
        for _ in range(_PROBES_MAX):
            answer = probe(self._record, timeout_s=_PROBE_TIMEOUT_S)
            if answer is not None:
                return answer
            time.sleep(_POLL_MAX_S)
        return None

    def _other_port(self) -> None:
        if self._options.port:
            raise StartFailedError(
                "start",
                f"port {self._options.port} is taken by another programme; end it, or set"
                " server_port (AGENT99_SERVER_PORT) to another port, or to 0 for any free one",
            )
        self._record = self._record._replace(port=free_port())

    def _start_and_wait(self) -> Answer | None:
        """Start the server and return its first answer; None when it ended or stayed silent."""
        self._server = start_nats(self._folder, self._record, self._options, self._lifeline)
        deadline_s = time.monotonic() + self._options.start_timeout_s
        poll_s = _POLL_FIRST_S
        while self._server.lives() and not self._stop:
            answer = probe(self._record, timeout_s=_PROBE_TIMEOUT_S)
            if answer is not None and answer.is_ready:
                self._check_version(answer)
                self._write(answer)
                return answer
            if time.monotonic() >= deadline_s:
                say(self._folder, "ERR", f"no answer within {self._options.start_timeout_s} s")
                break
            time.sleep(poll_s)
            poll_s = min(poll_s * 1.5, _POLL_MAX_S)
        self._server.end()
        return None

    def _check_version(self, answer: Answer) -> None:
        if version_of(answer.version) < VERSION_MIN:
            needed = ".".join(map(str, VERSION_MIN))
            binary = self._options.binary
            raise StartFailedError(
                "start", f"{binary} is {answer.version}, and agent99 needs {needed} or later"
            )

    def _write(self, answer: Answer) -> None:
        server = self._server.process if self._server else Process(0, "")
        self._record = self._record._replace(
            version=answer.version,
            binary=self._options.binary,
            started_us=self._record.started_us
            if self._record.server == server
            else time.time_ns() // 1000,
            server=server,
            supervisor=process_of(os.getpid()),
        )
        write_record(self._folder, self._record)

    # --- keeping ------------------------------------------------------------------------------

    def _keep(self) -> None:
        """Restart the server whenever it dies; return when nobody needs it any more."""
        used_s = time.monotonic()
        while not self._stop:
            now_s = time.monotonic()
            if not same_file(self._lock, self._folder.supervisor_lock):
                say(self._folder, "WRN", "the state folder was removed")
                return
            if self._in_use():
                used_s = now_s
            elif now_s - used_s >= self._options.linger_s and relock_exclusive(self._users):
                # Kept until the end of this process: whoever comes now waits for that, and then
                # starts anew.
                say(self._folder, "INF", "nobody is left")
                self._is_over = True
                return
            self._look_after(now_s)
            self._pause(_LOOK_S)

    def _look_after(self, now_s: float) -> None:
        self._guard_lifeline()
        self._turn_log_over()
        self._look_at_disk()
        if self._server is not None and self._server.lives():
            return
        if self._restart_at_s is None:
            self._restart_at_s = self._backoff.restart_at_s(now_s)
            delay_s = self._restart_at_s - now_s
            say(self._folder, "WRN", f"nats-server ended; again in {delay_s:.1f} s")
        if now_s >= self._restart_at_s:
            self._restart_at_s = None
            self._restart()
            self._backoff.started(time.monotonic())

    def _look_at_disk(self) -> None:
        """End a server whose disk was full and has room again: it starts anew.

        A stream that met a full disk refuses every write from then on, until a new start.
        """
        if not self._disk.look():
            return
        if self._disk.is_full:
            say(self._folder, "ERR", "the disk is full")
        elif self._server is not None:
            say(self._folder, "WRN", "the disk has room again")
            self._server.end()

    def _in_use(self) -> bool:
        if not relock_exclusive(self._users):
            return True
        unlock(self._users)
        return False

    def _restart(self) -> None:
        start = log_size(self._folder)
        try:
            if self._start_and_wait() is None and not self._stop:
                say(self._folder, "ERR", f"no restart: {last_words(self._folder, start)}")
        except OSError as error:  # a full disk may be emptied: try again with back-off
            say(self._folder, "ERR", f"no restart: {error}")

    def _turn_log_over(self) -> None:
        if log_size(self._folder) <= _LOG_BYTES_MAX:
            return
        older = self._folder.log.with_name("server.log.1")
        try:
            older.write_bytes(self._folder.log.read_bytes())
            os.truncate(self._folder.log, 0)  # it is written in append mode and goes on
        except OSError as error:
            say(self._folder, "ERR", f"the log is not turned over: {error}")

    def _pause(self, delay_s: float) -> None:
        """Wait, or less when a child ends or a signal comes."""
        select.select([self._wake], [], [], delay_s)
        try:
            self._wake.recv(4096)
        except BlockingIOError:
            return

    def _asked_to_stop(self, _number: int, _frame: object) -> None:
        self._stop = True

    # --- ending -------------------------------------------------------------------------------

    def _end_server(self) -> None:
        if self._server is not None:
            self._server.end()
        if _is_my_child(self._guard):
            os.kill(self._guard, signal.SIGKILL)
        if not same_file(self._lock, self._folder.supervisor_lock):
            return
        if self._is_over and self._folder.temporary.exists():
            _remove(self._folder.path)  # its user was killed, else there would be no mark
        else:
            write_record(self._folder, self._record.without_processes())
            say(self._folder, "INF", "ended")

    def _guard_lifeline(self) -> None:
        """Where the kernel does not watch the lifeline, see to it that a guard does."""
        if not self._options.use_guard or _is_my_child(self._guard):
            return
        self._guard = os.fork()
        if self._guard:
            return
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            # Above all the supervisor's lock, which must not outlive the supervisor.
            os.closerange(_FIRST_HANDLE, self._lifeline)
            os.closerange(self._lifeline + 1, _HANDLES_MAX)
            wait_hung_up(self._folder.lifeline, self._lifeline)
            # A new supervisor may have come meanwhile; then the server is its business.
            if lock_exclusive(self._folder.supervisor_lock) is not None:
                end_process(_recorded_server(self._folder), timeout_s=_POLL_MAX_S)
        finally:
            os._exit(0)


def _remove(path: Path) -> None:
    import shutil  # noqa: PLC0415 - seldom needed, and slow to load

    shutil.rmtree(path, ignore_errors=True)


def _recorded_server(folder: Folder) -> Process:
    try:
        pid, start = json.loads(folder.server_pid.read_bytes())
        return Process(int(pid), str(start))
    except (OSError, ValueError, TypeError):
        return Process(0, "")


def _is_my_child(pid: int) -> bool:
    try:
        return pid > 0 and os.waitpid(pid, os.WNOHANG)[0] == 0
    except ChildProcessError:
        return False
