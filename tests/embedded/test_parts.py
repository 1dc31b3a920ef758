"""The parts below the supervisor: records, locks, processes, ports, logs, probe, lifeline."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent99.embedded import _start as start
from agent99.embedded._lifeline import hold_lifeline, make_lifeline
from agent99.embedded._nats import (
    NatsServer,
    Options,
    free_port,
    last_words,
    log_size,
    log_tail,
    port_is_free,
    render_config,
    say,
    version_of,
)
from agent99.embedded._probe import probe
from agent99.embedded._process import end_process, process_lives, process_of, send, wait_end
from agent99.embedded._report import Report
from agent99.embedded._server import Presence
from agent99.embedded._state import (
    NO_PROCESS,
    Folder,
    Process,
    Record,
    lock_exclusive,
    lock_shared,
    read_record,
    relock_exclusive,
    same_file,
    unlock,
    write_private,
    write_record,
)
from tests.conftest import StartNatsServer

RECORD = Record(
    port=21_000,
    user="agent99",
    password="secret",
    name="agent99-x",
    version="2.15.1",
    binary="/bin/nats-server",
    started_us=7,
    server=Process(12, "boot:1"),
    supervisor=Process(13, "boot:2"),
)
OPTIONS = Options("/bin/nats-server", 5.0, 0, 30.0, 120.0, 1024, 512, use_guard=False)


@contextmanager
def _child(code: str = "import sys; sys.stdin.read()") -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        yield child
        child.kill()


# --- records --------------------------------------------------------------------------------------


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Every field comes back; the file has the address too, for people."""
    folder = Folder(tmp_path)
    write_record(folder, RECORD)
    assert RECORD == read_record(folder)
    assert RECORD.url == json.loads(folder.record.read_bytes())["url"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"port": "x"}', b'{"port": null}', b"\xff"]
)
def test_a_spoiled_record_is_none(tmp_path: Path, content: bytes) -> None:
    """Whatever the file says, it is a record or it is not there."""
    folder = Folder(tmp_path)
    folder.record.write_bytes(content)
    assert read_record(folder) is None


def test_without_processes_address_and_credential_stay() -> None:
    """That is what a stopped server leaves."""
    kept = RECORD.without_processes()
    assert RECORD.url == kept.url
    assert "nats://127.0.0.1:21000" == kept.url_public
    assert (True, False) == (RECORD.is_running, kept.is_running)


def test_a_write_that_fails_leaves_no_draft(tmp_path: Path) -> None:
    """Neither half a file nor a stray one."""
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "inside").touch()
    with pytest.raises(OSError, match="directory"):
        write_private(tmp_path / "target", b"x")
    assert ["target"] == [path.name for path in tmp_path.iterdir()]


# --- locks ----------------------------------------------------------------------------------------


def test_shared_locks_meet_and_an_exclusive_one_is_alone(tmp_path: Path) -> None:
    """Users share; the supervisor has its lock alone; closing unlocks."""
    path = tmp_path / "lock"
    first, second = lock_shared(path), lock_shared(path)
    assert first is not None
    assert second is not None
    assert lock_exclusive(path) is None
    os.close(first)
    os.close(second)
    alone = lock_exclusive(path)
    assert alone is not None
    assert lock_shared(path) is None
    os.close(alone)


def test_an_open_file_can_be_locked_again(tmp_path: Path) -> None:
    """The supervisor looks whether users are there without opening anything."""
    path = tmp_path / "lock"
    user = lock_shared(path)
    assert user is not None
    handle = os.open(path, os.O_RDWR)
    assert not relock_exclusive(handle)
    os.close(user)
    assert relock_exclusive(handle)
    unlock(handle)
    again = lock_exclusive(path)
    assert again is not None
    os.close(again)
    os.close(handle)


def test_a_removed_file_is_not_the_same(tmp_path: Path) -> None:
    """A lock on a file that was removed or replaced guards nothing."""
    path = tmp_path / "lock"
    handle = lock_exclusive(path)
    assert handle is not None
    assert same_file(handle, path)
    path.unlink()
    assert not same_file(handle, path)
    path.touch()
    assert not same_file(handle, path)
    os.close(handle)


def test_a_lock_handed_down_outlives_its_giver(tmp_path: Path) -> None:
    """The child has the lock after the parent closed its handle, until the child ends."""
    path = tmp_path / "lock"
    handle = lock_exclusive(path)
    assert handle is not None
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, pass_fds=(handle,))
    os.close(handle)
    assert lock_exclusive(path) is None
    child.communicate(b"\n")
    again = lock_exclusive(path)
    assert again is not None
    os.close(again)


# --- processes ------------------------------------------------------------------------------------


def test_a_process_is_a_number_and_a_start() -> None:
    """The same number with another start is another process, and gets no signal."""
    with _child() as child:
        process = process_of(child.pid)
        assert process_lives(process)
        other = process._replace(start="another")
        assert not process_lives(other)
        send(other, signal.SIGKILL)
        assert process_lives(process)
        assert not wait_end(process, timeout_s=0.0)


def test_nobody_has_no_process() -> None:
    """Number 0 and numbers that nobody has are no process."""
    assert NO_PROCESS == process_of(0)
    assert NO_PROCESS == process_of(2**22 + 1)
    assert not process_lives(NO_PROCESS)
    send(NO_PROCESS, signal.SIGKILL)


def test_a_zombie_does_not_live() -> None:
    """What has ended but was not reaped holds nothing any more."""
    with _child("") as child:
        process = process_of(child.pid)
        assert wait_end(process, timeout_s=10.0)
        assert 0 == child.wait()


def test_a_process_that_ends_when_asked_is_not_killed() -> None:
    """SIGTERM comes first."""
    with _child() as child:
        assert not end_process(process_of(child.pid), timeout_s=10.0)
        assert -signal.SIGTERM == child.wait()


def test_a_process_that_does_not_end_when_asked_is_killed() -> None:
    """After the time that it was given."""
    code = (
        "import signal, sys; signal.signal(15, signal.SIG_IGN); print(flush=True); sys.stdin.read()"
    )
    with _child(code) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert end_process(process_of(child.pid), timeout_s=0.05)
        assert -signal.SIGKILL == child.wait()


def test_a_start_can_be_asked_of_ps() -> None:
    """Where there is no /proc, `ps` tells when a process started."""
    from agent99.embedded._process import _start_by_ps

    if not Path("/bin/ps").exists():
        pytest.skip("this machine has no /bin/ps")
    assert _start_by_ps(os.getpid()) == _start_by_ps(os.getpid()) != ""
    assert "" == _start_by_ps(0)
    assert "" == _start_by_ps(2**22 + 1)


def test_a_server_knows_whether_it_was_killed() -> None:
    """A kill from outside is told from an end of its own, and from ours."""
    for act, expected in (
        (lambda child, _server: child.kill(), True),
        (lambda _child, server: server.end(), False),
        (lambda child, _server: child.stdin.close(), False),
    ):
        with _child() as child:
            server = NatsServer(process_of(child.pid), is_child=True)
            assert server.lives()
            act(child, server)
            assert wait_end(server.process, timeout_s=10.0)
            assert not server.lives()
            assert not server.lives()
            assert expected == server.was_killed
            child.returncode = 0  # it is reaped


def test_a_server_that_is_no_child_is_only_looked_at() -> None:
    """An adopted server is known by its number and start."""
    with _child() as child:
        server = NatsServer(process_of(child.pid), is_child=False)
        assert server.lives()
        assert "is_child=False" in repr(server)
        server.end()
        assert not server.lives()
    assert not NatsServer(process_of(os.getpid()), is_child=True).lives()


# --- the server's surroundings --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("v2.15.1", (2, 15, 1)),
        ("2.14.3", (2, 14, 3)),
        ("v2.15.0-beta.2", (2, 15, 0)),
        ("hello", ()),
        ("", ()),
        ("v2.x", ()),
    ],
)
def test_versions(text: str, version: tuple[int, ...]) -> None:
    """Numbers are compared as numbers; what is no version is none."""
    assert version == version_of(text)


def test_a_free_port_is_free_and_below_the_outgoing_ones() -> None:
    """Nothing takes it by chance."""
    port = free_port()
    assert 20_000 <= port < 32_000
    assert port_is_free(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not port_is_free(port)


def test_options_pass_through_a_command_line() -> None:
    """What the user asks for is what the supervisor gets."""
    assert OPTIONS == Options.from_text(OPTIONS.to_text())


def test_the_configuration_quotes_and_bounds() -> None:
    """Loopback, credential, bounds and the old acks, whatever the strings hold."""
    text = render_config(RECORD._replace(password='a"b\\c'), OPTIONS)
    for part in (
        'host: "127.0.0.1"',
        "port: 21000",
        r'password: "a\"b\\c"',
        "max_file_store: 1024",
        "max_memory_store: 512",
        "max_payload: 1048576",
        "js_ack_fc_v2: false",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(120.0, {"sync_interval": 120 * 10**9}), (0.25, {"sync_interval": 25 * 10**7})],
)
def test_the_server_syncs_as_it_is_told(
    start_nats_server: StartNatsServer, seconds: float, said: dict[str, Any]
) -> None:
    """It understands what is written for it: so many seconds."""
    assert said.items() <= _jetstream_of(start_nats_server, seconds).items()


def test_the_server_syncs_each_message(start_nats_server: StartNatsServer) -> None:
    """Of 0 seconds, before it acknowledges."""
    assert _jetstream_of(start_nats_server, 0.0)["sync_always"]
    assert "sync_always" not in _jetstream_of(start_nats_server, 120.0)


def _jetstream_of(start: StartNatsServer, seconds: float) -> dict[str, Any]:
    """Return how a server that is configured so keeps what it stores, as it says itself."""
    text = render_config(RECORD, OPTIONS._replace(sync_interval_s=seconds))
    line = re.search("sync_interval: .*", text)
    assert line is not None
    server = start(config=f'http: "127.0.0.1:-1"\njetstream {{ {line[0]} }}')
    port = re.search(r"http monitor on 127\.0\.0\.1:(\d+)", server.log.read_text())
    assert port is not None
    with urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/jsz", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)["config"]
    return found


def test_the_log_keeps_what_was_said(tmp_path: Path) -> None:
    """Lines come back in order; what cannot be written is not worth a death."""
    folder = Folder(tmp_path)
    assert (0, []) == (log_size(folder), log_tail(folder.log))
    say(folder, "INF", "one")
    start = log_size(folder)
    say(folder, "WRN", "two")
    assert ["one", "two"] == [line.rpartition(" ")[2] for line in log_tail(folder.log)]
    assert ["two"] == [line.rpartition(" ")[2] for line in log_tail(folder.log, start=start)]
    say(Folder(tmp_path / "nowhere"), "INF", "lost")


def test_a_tail_begins_with_a_whole_line(tmp_path: Path) -> None:
    """Half a line is no line."""
    path = tmp_path / "log"
    path.write_text("first\nsecond\nthird\n")
    assert ["third"] == log_tail(path, size_bytes_max=9)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "it said nothing"),
        ("plain words\n", "plain words"),
        ("[7] 2026/01/02 03:04:05.000006 [FTL] no luck\n", "no luck"),
        (
            (
                "[7] 2026/01/02 03:04:05.000006 [INF] fine\n"
                "[7] 2026/01/02 03:04:05.000007 [ERR] one\n"
                "[7] 2026/01/02 03:04:05.000008 [FTL] two\n"
            ),
            "one | two",
        ),
    ],
)
def test_last_words_are_the_telling_ones(tmp_path: Path, text: str, words: str) -> None:
    """Errors if there are any, else the last lines, without the clutter before them."""
    folder = Folder(tmp_path)
    folder.log.write_text(text)
    assert words == last_words(folder, 0)


# --- the probe ------------------------------------------------------------------------------------

INFO = b'INFO {"server_name":"agent99-x","version":"2.15.1"}\r\n'


@pytest.mark.parametrize(
    ("says", "ready"),
    [
        (INFO + b'PING\r\nMSG i 1 27\r\n{"storage": 5, "streams":1}\r\nPING\r\n', True),
        (INFO + b'MSG i 1 12\r\n{"error":{}}\r\n', False),
        (INFO + b"HMSG i 1 4 4\r\n\r\n\r\n\r\n", False),
        (INFO + b"-ERR 'Authorization Violation'\r\n", None),
        (INFO + b"MSG i 1 500\r\n{", False),
        (b'INFO {"server_name":"another","version":"2.15.1"}\r\n', None),
        (b"INFO {\r\n", None),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", None),
        (b"x" * 100, None),
        (b"", None),
    ],
)
def test_the_probe_believes_only_our_server(says: bytes, ready: bool | None) -> None:
    """Strangers, half answers and refusals are no answer; JetStream has to take requests."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        speaker = threading.Thread(target=_speak, args=(door, says))
        speaker.start()
        answer = probe(RECORD._replace(port=door.getsockname()[1]), timeout_s=5.0)
        speaker.join()
    assert ready == (None if answer is None else answer.is_ready)


def test_the_probe_of_a_port_where_nobody_listens() -> None:
    """Is none, at once."""
    assert probe(RECORD._replace(port=free_port()), timeout_s=5.0) is None


def test_a_stranger_never_sees_the_credential() -> None:
    """The probe hangs up before it says who it is."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as door:
        says = b'INFO {"server_name":"another","version":"2.15.1"}\r\n'
        speaker = threading.Thread(target=_speak, args=(door, says, heard))
        speaker.start()
        assert probe(RECORD._replace(port=door.getsockname()[1]), timeout_s=5.0) is None
        speaker.join()
    assert [b""] == heard


def _speak(door: socket.socket, says: bytes, heard: list[bytes] | None = None) -> None:
    link, _ = door.accept()
    with link:
        link.sendall(says)
        link.shutdown(socket.SHUT_WR)
        try:
            text = link.recv(4096)
        except ConnectionResetError:
            text = b""
        if heard is not None:
            heard.append(text)


# --- the lifeline ---------------------------------------------------------------------------------


def test_a_lifeline_is_made_once(tmp_path: Path) -> None:
    """A second call keeps the first pipe; a file in its place is refused."""
    path = tmp_path / "lifeline"
    make_lifeline(path)
    first = path.stat().st_ino
    make_lifeline(path)
    assert first == path.stat().st_ino
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_lifeline(tmp_path / "file")


_BOUND = (
    "import os, sys, pathlib\n"
    "from agent99.embedded._lifeline import bind_to_lifeline, hold_lifeline\n"
    "path = pathlib.Path(sys.argv[1])\n"
    "bind_to_lifeline(path, hold_lifeline(path), with_signal=True)\n"
    "os.execv('/bin/sh', ['sh', '-c', 'echo; exec sleep 60'])\n"
)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals a hang-up by itself")
def test_the_kernel_ends_what_is_bound_when_the_last_writer_goes(tmp_path: Path) -> None:
    """Not before, and across exec."""
    path = tmp_path / "lifeline"
    make_lifeline(path)
    first, second = hold_lifeline(path), hold_lifeline(path)
    with subprocess.Popen(
        [sys.executable, "-c", _BOUND, str(path)], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        os.close(first)
        assert child.poll() is None
        os.close(second)
        assert -signal.SIGTERM == child.wait(10)


def test_who_binds_to_a_lifeline_that_nobody_holds_ends_at_once(tmp_path: Path) -> None:
    """There is no moment in which the last writer can go unnoticed."""
    path = tmp_path / "lifeline"
    make_lifeline(path)
    code = [sys.executable, "-c", _BOUND, str(path)]
    with subprocess.Popen(code, stdout=subprocess.PIPE) as child:
        assert child.wait(10) in (-signal.SIGKILL, -signal.SIGTERM)


_FORKED = """
import os, pathlib, sys
from agent99.embedded._lifeline import hold_lifeline, make_lifeline
from agent99.embedded._server import Presence
from agent99.embedded._state import lock_shared
folder = pathlib.Path(sys.argv[1])
make_lifeline(folder / "lifeline")
presence = Presence(lock_shared(folder / "lock"), hold_lifeline(folder / "lifeline"))
if os.fork() == 0:
    print(presence, flush=True)
    sys.stdin.read()
    os._exit(0)
os.kill(os.getpid(), 9)
"""


def test_a_fork_is_no_user(tmp_path: Path) -> None:
    """A worker that was forked does not hold the server up after its parent was killed."""
    with subprocess.Popen(
        [sys.executable, "-c", _FORKED, str(tmp_path)], stdin=-1, stdout=subprocess.PIPE
    ) as user:
        assert user.stdout is not None
        assert b"Presence(held=False)\n" == user.stdout.readline()
        assert -signal.SIGKILL == user.wait(10)
        lock = lock_exclusive(tmp_path / "lock")
        assert lock is not None
        os.close(lock)


def test_presences_that_end_leave_nothing_for_the_forks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that comes and goes a thousand times registers for its forks once at most."""
    registered: list[object] = []
    monkeypatch.setattr(os, "register_at_fork", lambda **what: registered.append(what))
    make_lifeline(tmp_path / "lifeline")
    for _ in range(3):
        lock = lock_shared(tmp_path / "lock")
        assert lock is not None
        Presence(lock, hold_lifeline(tmp_path / "lifeline")).close()
    assert len(registered) <= 1


# --- the supervisor's own parts -------------------------------------------------------------------


def test_a_report_says_one_word() -> None:
    """The user that started the supervisor hears the first word and no other."""
    ours, theirs = os.pipe()
    report = Report(theirs)
    assert "Report(said=False)" == repr(report)
    report.say(started=True)
    report.say(error="late")
    assert "Report(said=True)" == repr(report)
    assert {"started": True} == json.loads(os.read(ours, 4096))
    assert b"" == os.read(ours, 4096)
    os.close(ours)


def test_a_report_to_a_user_that_is_gone_is_lost() -> None:
    """The supervisor goes on: others may need it."""
    ours, theirs = os.pipe()
    os.close(ours)
    report = Report(theirs)
    report.say(started=True)
    assert "Report(said=True)" == repr(report)


def test_the_supervisor_loads_little() -> None:
    """It starts fast because it loads neither the packages around it nor what they need."""
    boot = Path(start.__file__).with_name("_boot.py")
    code = (
        "import runpy, sys\n"
        "try: runpy.run_path(sys.argv.pop(), run_name='__main__')\n"
        "except IndexError: print(*sys.modules)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(boot)],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(answer.stdout.split())
    assert "agent99.embedded._supervisor" in loaded
    assert not loaded & {"asyncio", "msgspec", "subprocess", "logging", "site", "agent99.errors"}


_LAST_WRITER_GOES = """
import os, signal, sys, time
from pathlib import Path
from agent99.embedded._lifeline import HAS_SIGNAL, hold_lifeline, make_lifeline
from agent99.embedded._nats import Options, _become_server
from agent99.embedded._state import Folder

folder = Folder(Path(sys.argv[1]))
make_lifeline(folder.lifeline)
os.mkfifo(folder.log)  # opening it holds the fork up, just before it becomes the server
signal.signal(signal.SIGTERM, lambda *_: None)  # as a supervisor has one
options = Options(
    binary="/bin/sh", linger_s=1.0, port=0, start_timeout_s=1.0, sync_interval_s=120.0,
    store_bytes_max=2**30, memory_bytes_max=2**20, use_guard=not HAS_SIGNAL,
)
writer = hold_lifeline(folder.lifeline)
pid = os.fork()
if pid == 0:
    _become_server(folder, options, writer)
while not folder.server_pid.exists():
    time.sleep(0.001)
os.close(writer)
until = time.monotonic() + 3
while time.monotonic() < until:
    if os.waitpid(pid, os.WNOHANG) != (0, 0):
        sys.exit(0)
    time.sleep(0.001)
os.kill(pid, signal.SIGKILL)
sys.exit(1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals a hang-up by itself")
def test_a_hang_up_just_before_the_server_is_one_ends_the_fork(tmp_path: Path) -> None:
    """The signal comes once: the supervisor's handler, which the fork has too, must not eat it."""
    command = [sys.executable, "-c", _LAST_WRITER_GOES, str(tmp_path)]
    assert subprocess.run(command, check=False, timeout=30).returncode == 0
