"""`agent99 run`: from the ready line to the end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests._nats_server import NatsServer
from tests._wait import wait_until
from tests.cli._cli import Cli, children_of, is_gone
from tests.cli._programmes import CREW, NO_START, SLOW_START


def test_it_says_what_runs_and_drains_on_ctrl_c(cli: Cli) -> None:
    """What is under way when Ctrl-C comes is finished, and its caller gets the result."""
    cli.write("crew.py", CREW)
    running = cli.start("run", "crew.py:Greeter", "--count", "2")
    ready = running.wait_line("^ready: ")
    assert "2 x greeter (greeter, hello_world: breaks, crunch, freeze, greet, refuse, " in ready
    assert " on mesh 'main' at nats://127.0.0.1:" in ready
    assert ready.endswith(" (embedded); Ctrl-C drains")
    assert "@" not in ready
    call = cli.start("call", "greeter", "wait", "seconds=1")
    running.wait_line("^waiting$")
    running.signal(signal.SIGINT)
    running.wait_line("draining: 1 operation in flight; Ctrl-C again ends at once")
    assert 0 == running.wait()
    assert "agent99: drained" in running.lines
    call.wait()
    assert '"waited"' in call.lines


def test_a_second_ctrl_c_ends_at_once(cli: Cli) -> None:
    """The callers are told, also where an operation cannot be interrupted."""
    cli.write("crew.py", CREW)
    running = cli.start("run", "crew.py")
    running.wait_line("^ready: ")
    calls = [
        cli.start("call", "greeter", "wait", "seconds=30", "--timeout", "60"),
        cli.start("call", "greeter", "freeze", "seconds=30", "--timeout", "60"),
    ]
    running.wait_line("^waiting$")
    running.wait_line("^frozen$")
    running.signal(signal.SIGTERM)
    running.wait_line("draining: 2 operations in flight")
    running.signal(signal.SIGINT)
    assert 130 == running.wait()
    assert "agent99: ending at once: 2 operations given up" in running.lines
    for call in calls:
        assert 1 == call.wait()
        assert "the instance stopped" in call.text


def test_ctrl_c_before_it_is_ready(cli: Cli) -> None:
    """There is nothing to drain."""
    cli.write("slow.py", SLOW_START)
    running = cli.start("run", "slow.py")
    running.wait_line("^starting$")
    running.signal(signal.SIGINT)
    assert 130 == running.wait()
    assert "agent99: stopped before it was ready" in running.lines


def test_it_ends_when_every_agent_was_shut_down(cli: Cli) -> None:
    """By `ctl`; and with --json it prints one document, whatever its agents print."""
    cli.write("crew.py", CREW + "\nprint('hello from the file')\n")
    running = cli.start("run", "crew.py", "--json")
    document = json.loads(running.wait_line("^{"))
    assert ["greeter", "echo"] == [agent["name"] for agent in document["agents"]]
    assert ("main", True) == (document["mesh"], document["embedded"])
    done = cli.run("ctl", "shutdown", "all")
    assert (0, "2 of 2 applied\n") == (done.code, done.out)
    assert 0 == running.wait()
    assert "agent99: every agent was shut down" in running.lines


def test_interrupting_a_call(cli: Cli) -> None:
    """Exit code 130, and the agent is told that nobody waits."""
    cli.write("crew.py", CREW)
    running = cli.start("run", "crew.py")
    running.wait_line("^ready: ")
    call = cli.start("call", "greeter", "wait", "seconds=30", "--timeout", "60")
    running.wait_line("^waiting$")
    call.signal(signal.SIGINT)
    assert 130 == call.wait()
    assert ["agent99: interrupted", "(end of output)"] == call.lines
    running.signal(signal.SIGINT)
    assert 0 == running.wait()


Prepare = Callable[[Cli], dict[str, str]]


def _nothing(_cli: Cli) -> dict[str, str]:
    return {}


def _closed_port(_cli: Cli) -> dict[str, str]:
    return {"AGENT99_URL": "nats://user:secret@127.0.0.1:1"}


def _state_is_a_file(cli: Cli) -> dict[str, str]:
    return {"AGENT99_STATE": str(cli.write("in-the-way", ""))}


def _bad_setting(_cli: Cli) -> dict[str, str]:
    return {"AGENT99_LINGER_S": "soon"}


@pytest.mark.parametrize(
    ("source", "prepare", "code", "part"),
    [
        ("crew.py", _closed_port, 5, "no NATS server answers at nats://127.0.0.1:1: "),
        ("crew.py", _state_is_a_file, 5, "set AGENT99_STATE to a folder that can be written"),
        ("crew.py", _bad_setting, 2, "the variable AGENT99_LINGER_S"),
        ("no_start.py", _nothing, 1, "agent 'broken' did not start: RuntimeError: no database"),
        ("syntax.py", _nothing, 2, "syntax.py:2: invalid syntax: def f(:"),
        ("nowhere.py", _nothing, 2, "there is no file"),
        ("crew.py:Greter", _nothing, 2, "defines no class Greter; there is Greeter"),
    ],
)
def test_what_keeps_it_from_running(
    cli: Cli, source: str, prepare: Prepare, code: int, part: str
) -> None:
    """One helpful sentence, no traceback, no credential, and an exit code."""
    cli.write("crew.py", CREW)
    cli.write("no_start.py", NO_START)
    cli.write("syntax.py", "x = 1\ndef f(:\n")
    done = cli.run("run", source, **prepare(cli))
    sentences = [line for line in done.err.splitlines() if line.startswith("agent99: ")]
    assert part in sentences[0]
    assert (code, "", 1) == (done.code, done.out, len(sentences))
    assert "Traceback" not in done.err
    assert "secret" not in done.err


def test_debug_shows_the_agents_own_traceback(cli: Cli) -> None:
    """Down to the line that raised."""
    cli.write("no_start.py", NO_START)
    assert 'raise RuntimeError("no database")' in cli.run("run", "no_start.py", "--debug").err


def test_a_port_that_is_taken(cli: Cli) -> None:
    """A port that was asked for is not replaced by another."""
    cli.write("crew.py", CREW)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = cli.run("run", "crew.py", AGENT99_SERVER_PORT=str(port))
    assert f"port {port} is taken by another programme" in done.err
    assert 5 == done.code


@pytest.mark.skipif(
    os.geteuid() != 0 or sys.platform != "linux", reason="needs root, to mount a small disk"
)
def test_a_disk_that_is_full(cli: Cli, tmp_path: Path) -> None:
    """What the system says is passed on, in one sentence."""
    cli.write("crew.py", CREW)
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let root mount a disk")
    try:
        with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
            while ballast.write(b"x" * 4096):
                pass
        done = cli.run("run", "crew.py", AGENT99_STATE=str(disk / "state"))
        assert "No space left on device" in done.err
        assert (5, 1) == (done.code, len(done.err.splitlines())), done.err
    finally:
        subprocess.run(["umount", str(disk)], capture_output=True, check=True)


def test_a_wrong_credential(cli: Cli, tmp_path: Path) -> None:
    """The server's refusal is told without the credential."""
    cli.write("crew.py", CREW)
    config = "authorization { user: somebody, password: right }"
    server = NatsServer(tmp_path / "nats", config=config)
    try:
        url = server.url.replace("nats://", "nats://somebody:wrong@")
        for words in (("run", "crew.py"), ("ps",)):
            done = cli.run(*words, AGENT99_URL=url)
            assert "refused the credential" in done.err
            assert "wrong" not in done.err
            assert 5 == done.code
    finally:
        server.close()


def test_a_named_server_is_used_and_none_started(cli: Cli, nats_server: NatsServer) -> None:
    """AGENT99_URL, or --url, which wins."""
    cli.write("crew.py", CREW)
    mesh = f"m{os.getpid()}"
    running = cli.start(
        "run", "crew.py", "--url", nats_server.url, "--mesh", mesh, AGENT99_URL="nats://127.0.0.1:1"
    )
    assert f"on mesh '{mesh}' at {nats_server.url}; Ctrl-C drains" in running.wait_line("^ready: ")
    done = cli.run("call", "greeter", "greet", AGENT99_URL=nats_server.url, AGENT99_MESH=mesh)
    assert (0, '"Hello, World!"\n') == (done.code, done.out)
    assert not (cli.folder / "state").exists()
    running.signal(signal.SIGTERM)
    assert 0 == running.wait()


@pytest.mark.slow
def test_no_process_of_a_pool_outlives_a_kill(cli: Cli) -> None:
    """Operations that run in processes leave none behind, however their agent ends."""
    cli.write("crew.py", CREW)
    running = cli.start("run", "crew.py")
    running.wait_line("^ready: ")
    assert "45\n" == cli.run("call", "greeter", "crunch", "n=10").out
    pool = children_of(running.pid)
    assert pool
    running.signal(signal.SIGKILL)
    wait_until(lambda: all(map(is_gone, pool)))
