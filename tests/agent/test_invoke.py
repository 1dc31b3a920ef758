"""Operations on threads and in processes: none starves, and none that hangs harms the others."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

from agent99 import Mesh
from agent99.agent._processes import DiedError, Processes
from agent99.agent._threads import Threads
from agent99.errors import ClosedError, DeadlineExceededError, Failure, HandlerError
from tests._wait import eventually, wait_until
from tests.agent._invoke_agents import (
    CALLERS,
    Crowd,
    Cruncher,
    Hanger,
    leave,
    raise_odd,
    raise_value,
    return_lock,
)

ROOT = Path(__file__).parents[2]
PROCESSORS = os.cpu_count() or 1


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Give what hanging work waits for; it is opened with the test's end."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    """Give a pool of one process."""
    pool = Processes(1)
    yield pool
    pool.close()


async def hang_on(threads: Threads, gate: threading.Event) -> asyncio.Task[object]:
    """Return a task whose work hangs on a thread, once it does."""
    begun = threading.Event()

    def hang() -> None:
        begun.set()
        gate.wait()

    task = asyncio.create_task(threads.run(hang))
    await eventually(begun.is_set)
    return task


async def end(*tasks: asyncio.Task[object]) -> None:
    """Cancel tasks and wait for that."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def is_gone(pid: int) -> bool:
    """Return whether a process has ended; it may not have been reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # before it is read, or while it is
        return True
    return state == "Z"


# --- through the mesh -----------------------------------------------------------------------------


async def test_blocking_calls_within_one_process_do_not_starve(mesh: Mesh, client: Mesh) -> None:
    """More `def` operations than there once were threads wait for another of the same agent."""
    await mesh.host(Crowd())
    await client.wait_for("crowd")
    calls = (client.request("crowd", "enter", timeout_s=10) for _ in range(CALLERS))
    assert [1] * CALLERS == await asyncio.gather(*calls)


async def test_operations_that_hang_on_threads_harm_no_other(mesh: Mesh, client: Mesh) -> None:
    """Each is an error to its caller; the next call gets a thread."""
    hanger = Hanger()
    await mesh.host(hanger)
    await client.wait_for("hanger")
    calls = (client.request("hanger", "hang", timeout_s=0.3) for _ in range(CALLERS))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [DeadlineExceededError] * CALLERS == [type(outcome) for outcome in outcomes]
    assert await client.request("hanger", "answer", timeout_s=5) == 1
    hanger.gate.set()


async def test_an_operation_on_a_thread_may_raise_anything(mesh: Mesh, client: Mesh) -> None:
    """Also what a future or a coroutine would not carry: the caller is told at once."""
    await mesh.host(Hanger())
    await client.wait_for("hanger")
    with pytest.raises(HandlerError, match="StopIteration"):
        await client.request("hanger", "stop_iteration", timeout_s=5)


@pytest.mark.slow
async def test_operations_that_hang_in_processes_harm_no_other(
    mesh: Mesh, client: Mesh, tmp_path: Path
) -> None:
    """A process whose caller has gone is killed, and another takes its place."""
    await mesh.host(Cruncher())
    await client.wait_for("cruncher")
    await client.request("cruncher", "answer", timeout_s=30)
    call = partial(client.request, "cruncher", "hang", {"folder": str(tmp_path)}, timeout_s=3)
    calls = (call() for _ in range(PROCESSORS + 1))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {DeadlineExceededError} == {type(outcome) for outcome in outcomes}
    pids = [int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()]
    assert pids
    await eventually(lambda: all(map(is_gone, pids)))
    assert await client.request("cruncher", "answer", timeout_s=30) not in pids


@pytest.mark.slow
@pytest.mark.parametrize("where", ["thread", "process"])
async def test_the_exit_waits_for_nothing_that_hangs(where: str) -> None:
    """A programme whose mesh is closed ends, whatever its operations still do."""
    command = (sys.executable, "-m", "tests.agent._invoke_agents", where)
    programme = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=-1, stderr=-1)
    try:
        out, err = await asyncio.wait_for(programme.communicate(), 30)
    finally:
        if programme.returncode is None:
            programme.kill()
            await programme.wait()
    assert (0, b"closing\n", b"") == (programme.returncode, out, err)


# --- threads --------------------------------------------------------------------------------------


async def test_a_threads_outcome_comes_back() -> None:
    """A result is returned, an error raised."""
    threads = Threads()
    assert await threads.run(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 / 0)
    threads.close()


async def test_a_thread_is_used_again() -> None:
    """One call after the other needs one thread."""
    threads = Threads()
    names = {await threads.run(threading.get_ident) for _ in range(50)}
    assert (1, 1) == (len(names), threads.count)
    threads.close()


async def test_an_idle_thread_ends() -> None:
    """What a burst needed does not stay."""
    threads = Threads(idle_s=0.01)
    await asyncio.gather(*(threads.run(int) for _ in range(20)))
    await eventually(lambda: threads.count == 0)
    assert await threads.run(lambda: 3) == 3
    threads.close()


async def test_idle_threads_that_end_lose_no_call() -> None:
    """A call that comes as its thread gives up is run all the same."""
    threads = Threads(idle_s=0.0001)
    for number in range(500):
        assert number == await asyncio.wait_for(threads.run(partial(int, number)), 5)
    threads.close()


async def test_an_idle_thread_keeps_no_result_alive() -> None:
    """Nor what its work was made of."""

    class Big:
        pass

    threads = Threads()
    big = await threads.run(Big)
    seen = weakref.ref(big)
    del big
    await eventually(lambda: seen() is None)
    threads.close()


async def test_beyond_the_threads_work_waits(gate: threading.Event) -> None:
    """At the bound it is begun when a thread is free."""
    threads = Threads(1)
    first = await hang_on(threads, gate)
    second = asyncio.create_task(threads.run(lambda: 2))
    await eventually(lambda: "waiting=1" in repr(threads))
    assert threads.count == 1
    gate.set()
    assert [None, 2] == await asyncio.gather(first, second)
    threads.close()


async def test_work_that_was_cancelled_before_it_began_never_begins(gate: threading.Event) -> None:
    """Nobody waits for it: it must not run later."""
    threads = Threads(1)
    ran: list[int] = []
    first = await hang_on(threads, gate)
    second = asyncio.create_task(threads.run(partial(ran.append, 2)))
    await eventually(lambda: "waiting=1" in repr(threads))
    await end(second)
    gate.set()
    await first
    assert await threads.run(lambda: 3) == 3
    assert ([], "Threads(1, abandoned=0, waiting=0)") == (ran, repr(threads))
    threads.close()


async def test_beyond_the_abandoned_threads_nothing_is_begun(gate: threading.Event) -> None:
    """The caller is told why at once; when one returns, all is well again."""
    threads = Threads(9, abandoned_max=2)
    await end(*[await hang_on(threads, gate) for _ in range(2)])
    assert (2, 2) == (threads.count, threads.abandoned)
    with pytest.raises(Failure, match="nobody waits for them") as caught:
        await threads.run(int)
    assert (HandlerError.code, True) == (caught.value.code, caught.value.retryable)
    gate.set()
    await eventually(lambda: threads.abandoned == 0)
    assert await threads.run(lambda: 3) == 3
    threads.close()


async def test_closed_threads_end(gate: threading.Event) -> None:
    """Idle ones at once, busy ones after their work; what waits is cancelled, the rest refused."""
    threads = Threads(1)
    first = await hang_on(threads, gate)
    second = asyncio.create_task(threads.run(int))
    await eventually(lambda: "waiting=1" in repr(threads))
    threads.close()
    with pytest.raises(asyncio.CancelledError):
        await second
    with pytest.raises(ClosedError):
        await threads.run(int)
    gate.set()
    assert await first is None
    await eventually(lambda: threads.count == 0)


def test_a_thread_that_outlives_its_loop_is_silent(gate: threading.Event) -> None:
    """Its outcome concerns nobody any longer."""
    threads = Threads()

    async def begin() -> asyncio.Task[object]:
        return await hang_on(threads, gate)

    asyncio.run(begin())
    gate.set()
    wait_until(lambda: threads.abandoned == 0)
    threads.close()


# --- processes ------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_process_is_used_again(processes: Processes) -> None:
    """It stays warm, also after an error, which says where it comes from."""
    pid = await processes.run(os.getpid)
    assert os.getpid() != pid
    with pytest.raises(ValueError, match="oh") as caught:
        await processes.run(raise_value)
    assert "in raise_value" in caught.value.__notes__[0]
    assert pid == await processes.run(os.getpid)


@pytest.mark.slow
async def test_what_cannot_travel_is_an_error_to_its_caller_alone(processes: Processes) -> None:
    """Arguments, results and errors that pickle refuses leave the process as it is."""
    pid = await processes.run(os.getpid)
    with pytest.raises(TypeError, match="cannot pickle"):
        await processes.run(partial(print, threading.Lock()))
    with pytest.raises(TypeError, match="cannot pickle"):
        await processes.run(return_lock)
    with pytest.raises(RuntimeError, match="OddError: this and that"):
        await processes.run(raise_odd)
    assert pid == await processes.run(os.getpid)


@pytest.mark.slow
async def test_a_process_that_dies_is_replaced(processes: Processes) -> None:
    """In a call its caller is told how it ended; between two calls nobody notices."""
    with pytest.raises(DiedError) as caught:
        await processes.run(leave)
    assert caught.value.exit_code == 3
    pid = await processes.run(os.getpid)
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG))
    assert await processes.run(os.getpid) not in {pid, os.getpid()}


@pytest.mark.slow
async def test_a_call_that_waits_for_a_process_can_be_given_up(
    processes: Processes, tmp_path: Path
) -> None:
    """It never runs, and the process that another call has is left alone."""
    first = asyncio.create_task(processes.run(partial(Cruncher.hang, str(tmp_path))))
    await eventually(lambda: list(tmp_path.iterdir()))
    second = asyncio.create_task(processes.run(partial(Path.touch, tmp_path / "ran")))
    await asyncio.sleep(0)
    await end(second)
    (pid,) = (int(path.name) for path in tmp_path.iterdir())
    assert not is_gone(pid)
    await end(first)
    await eventually(lambda: is_gone(pid))
    assert await processes.run(os.getpid) != pid
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
async def test_a_call_that_is_given_up_while_its_process_starts_leaves_none(
    processes: Processes,
) -> None:
    """Whenever it is cancelled, the process is killed or never started."""
    for _ in range(5):
        task = asyncio.create_task(processes.run(threading.Event().wait))
        await asyncio.sleep(0)
        await end(task)
    assert await processes.run(os.getpid) != os.getpid()
    assert repr(processes) == "Processes(busy=0, idle=1)"


@pytest.mark.slow
async def test_closed_processes_end(tmp_path: Path) -> None:
    """Those that run a call, and those that wait for one."""
    pool = Processes(2)
    hanging = asyncio.create_task(pool.run(partial(Cruncher.hang, str(tmp_path))))
    await eventually(lambda: list(tmp_path.iterdir()))
    idle = await pool.run(os.getpid)
    (busy,) = (int(path.name) for path in tmp_path.iterdir())
    pool.close()
    with pytest.raises(DiedError):
        await hanging
    await eventually(lambda: is_gone(idle) and is_gone(busy))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
async def test_a_fork_that_runs_its_exit_functions_ends_nothing(processes: Processes) -> None:
    """The processes are the parent's: a child that leaves by `sys.exit` must not kill them."""
    pid = await processes.run(os.getpid)
    fork = os.fork()
    if fork == 0:
        processes.close()  # what the exit functions call
        os._exit(0)
    assert (fork, 0) == await asyncio.to_thread(os.waitpid, fork, 0)
    assert pid == await processes.run(os.getpid)


def test_processes_cost_nothing_until_they_are_used() -> None:
    """`import agent99.agent` loads no `multiprocessing`."""
    programme = (
        "import sys, agent99.agent._processes;sys.exit('multiprocessing.context' in sys.modules)"
    )
    bare = {name: value for name, value in os.environ.items() if "COV" not in name}  # it loads it
    done = subprocess.run(
        [sys.executable, "-c", programme], capture_output=True, check=False, env=bare
    )
    assert done.returncode == 0, done.stderr[-2000:]
