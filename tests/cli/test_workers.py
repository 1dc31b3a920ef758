"""`agent99 run --workers`: the process supervisor."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests._wait import wait_until
from tests.cli._cli import Cli, children_of, is_gone
from tests.cli._programmes import CREW, DIES_AT_START, NO_START

DYING = """
import os

from agent99 import Agent, operation


class Mortal(Agent):
    capabilities = ("mortal",)

    @operation
    async def die(self) -> None:
        os._exit(7)
"""


@pytest.mark.slow
def test_a_killed_worker_is_started_again_and_ctrl_c_drains_all(cli: Cli) -> None:
    """The others go on meanwhile; what they print says who said it."""
    cli.write("crew.py", CREW)
    running = cli.start("run", "crew.py:Greeter", "--workers", "2")
    ready = running.wait_line("^ready: ")
    assert ready.startswith("ready: 2 workers of greeter (greeter, hello_world: ")
    first = set(children_of(running.pid))
    assert 2 == len(first)
    os.kill(min(first), signal.SIGKILL)
    running.wait_line("was killed by SIGKILL; starting it again in 0.1 s")
    assert '"Hello, World!"\n' == cli.run("call", "greeter", "greet").out
    wait_until(lambda: len(set(children_of(running.pid)) - first) == 1)
    call = cli.start("call", "greeter", "wait", "seconds=1.5")
    running.wait_line(r"^\[Greeter/\d\] waiting$")
    alive = children_of(running.pid)
    running.signal(signal.SIGINT)
    running.wait_line("draining 2 workers; Ctrl-C again ends at once")
    running.wait_line(r"^\[Greeter/\d\] agent99: draining: 1 operation in flight")
    assert 0 == running.wait()
    assert 0 == call.wait()
    assert '"waited"' in call.lines
    assert all(map(is_gone, alive))


@pytest.mark.slow
def test_a_second_ctrl_c_ends_all_workers_at_once(cli: Cli) -> None:
    """Exit code 130, and nothing is left."""
    cli.write("crew.py", CREW)
    running = cli.start("run", "crew.py:Greeter", "--workers", "1", "--json")
    document = json.loads(running.wait_line("^{"))
    assert (1, ["greeter"]) == (document["workers"], [a["name"] for a in document["agents"]])
    alive = children_of(running.pid)
    call = cli.start("call", "greeter", "freeze", "seconds=60", "--timeout", "60")
    running.wait_line("frozen")
    running.signal(signal.SIGINT)
    running.wait_line("draining: 1 operation")
    running.signal(signal.SIGINT)
    assert 130 == running.wait()
    assert 1 == call.wait()
    assert all(map(is_gone, alive))


@pytest.mark.slow
def test_workers_drain_when_their_supervisor_is_killed(cli: Cli) -> None:
    """No orphan stays, however the supervisor ends."""
    cli.write("crew.py", CREW)
    running = cli.start("run", "crew.py:Greeter", "--workers", "1")
    running.wait_line("^ready: ")
    (worker,) = children_of(running.pid)
    running.signal(signal.SIGKILL)
    wait_until(lambda: is_gone(worker))


@pytest.mark.slow
def test_shut_down_workers_are_not_started_again(cli: Cli) -> None:
    """Their end was wished for: the supervisor ends too."""
    cli.write("crew.py", CREW)
    running = cli.start("run", "crew.py:Greeter", "--workers", "2")
    running.wait_line("^ready: ")
    assert "2 of 2 applied\n" == cli.run("ctl", "shutdown", "all").out
    assert 0 == running.wait()
    assert 2 == sum("its agents were shut down" in line for line in running.lines)


def test_what_is_wrong_with_the_code_is_said_once(cli: Cli) -> None:
    """The second worker starts only when the first is ready; a wrong file is not tried again."""
    done = cli.run("run", "nowhere.py", "--workers", "3")
    assert (2, 1) == (done.code, done.err.count("there is no file"))
    assert "again" not in done.err


def test_a_file_of_the_folder_never_stands_in_for_pythons_own(cli: Cli) -> None:
    """Workers start beside a queue.py and a json.py, as agents without workers do."""
    cli.write("crew.py", CREW)
    for name in ("queue.py", "json.py"):
        cli.write(name, "raise SystemExit('imported instead')\n")
    running = cli.start("run", "crew.py:Greeter", "--workers", "2")
    running.wait_line("^ready: 2 workers of greeter")
    running.signal(signal.SIGINT)
    assert 0 == running.wait()


def test_an_agent_that_does_not_start_is_told_once(cli: Cli) -> None:
    """Nothing ever ran: it ends as `run` without workers would, and is not tried again."""
    cli.write("no_start.py", NO_START)
    done = cli.run("run", "no_start.py", "--workers", "2")
    sentence = "[no_start/1] agent99: agent 'broken' did not start: RuntimeError: no database"
    assert (1, 1) == (done.code, done.err.count(sentence)), done.err
    assert "again" not in done.err


@pytest.mark.slow
def test_a_worker_that_keeps_dying_is_given_up(cli: Cli) -> None:
    """After its budget of restarts, with what it died of; everything ends."""
    cli.write("mayfly.py", DIES_AT_START)
    running = cli.start("run", "mayfly.py", "--workers", "2")
    assert 1 == running.wait()
    text = running.text
    assert "ended with exit code 7, and was started again 5 times within 60 s: giving up" in text
    assert 6 == text.count("[mayfly/1] hatched")
    assert "[mayfly/2]" not in text


@pytest.mark.slow
def test_a_worker_that_exits_in_an_operation(cli: Cli) -> None:
    """Its exit code is told, and it comes back."""
    cli.write("dying.py", DYING)
    running = cli.start("run", "dying.py", "--workers", "1")
    running.wait_line("^ready: ")
    before = children_of(running.pid)
    assert 0 != cli.run("call", "mortal", "die", "--timeout", "0.5").code
    running.wait_line("worker dying/1 ended with exit code 7; starting it again in 0.1 s")
    wait_until(lambda: children_of(running.pid) and children_of(running.pid) != before)
