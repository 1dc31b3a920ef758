"""kill -9 of users, supervisor, server, any set: one server meanwhile, none afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from agent99.clock import SystemClock
from agent99.embedded import acquire_server, stop_server
from agent99.embedded._nats import Options
from agent99.embedded._start import run_supervisor
from agent99.embedded._state import lock_exclusive, read_record
from tests.embedded._place import Place, User, eventually

_CLOCK = SystemClock()


async def test_killed_users_leave_no_orphan(place: Place) -> None:
    """When every user is killed the server ends after the linger."""
    users = [place.start_user(), place.start_user()]
    for user in users:
        await user.ready()
    for user in users:
        user.kill()
    await eventually(place.is_quiet, "the server ended")


async def test_a_killed_user_disturbs_nobody(place: Place) -> None:
    """The user that started the server may be killed: the others keep the same process."""
    first = place.start_user()
    await first.ready()
    pids = place.processes()
    async with await acquire_server(place.settings):
        first.kill()
        await first.close()
        await _CLOCK.sleep(place.settings.linger_s * 2)  # what is awaited is that nothing ends
        assert pids == place.processes()


async def test_a_killed_server_comes_back_at_the_same_address(place: Place) -> None:
    """The supervisor starts it again: same port, same credential, within two seconds."""
    async with await acquire_server(place.settings) as server:
        old = place.servers()
        place.kill(old)
        await eventually(
            lambda: place.servers() not in ([], old) and place.answer(), "it is back", timeout_s=2
        )
        record = read_record(place.folder)
        assert record is not None
        assert server.url == record.url
        assert 1 == len(place.supervisors())


async def test_a_server_that_keeps_dying_is_restarted_with_back_off(place: Place) -> None:
    """The second death in a row is answered later than the first."""
    async with await acquire_server(place.settings):
        waits: list[float] = []
        for _ in range(4):
            old = place.servers()
            place.kill(old)
            killed_s = _CLOCK.monotonic_s()
            await eventually(
                lambda old=old: place.servers() not in ([], old) and place.answer(), "it is back"
            )
            waits.append(_CLOCK.monotonic_s() - killed_s)
        assert waits[3] >= 0.4
        assert waits[3] > waits[0]


async def test_a_killed_supervisor_is_replaced_and_the_server_lives_on(place: Place) -> None:
    """A user starts a new supervisor; the nats-server never notices."""
    async with await acquire_server(place.settings):
        servers, supervisors = place.servers(), place.supervisors()
        place.kill(supervisors)
        await eventually(
            lambda: place.supervisors() not in ([], supervisors), "a new supervisor", timeout_s=3
        )
        await eventually(lambda: _supervisor_of(place) == place.supervisors(), "it is recorded")
        assert servers == place.servers()
        # The new one really keeps it:
        place.kill(servers)
        await eventually(lambda: place.answer() and place.servers() != servers, "it is back")


async def test_supervisor_and_server_killed_together_come_back(place: Place) -> None:
    """A user starts both again, at the same address."""
    async with await acquire_server(place.settings) as server:
        old = place.processes()
        place.kill(old)
        await eventually(place.answer, "both are back", timeout_s=4)
        assert not set(old) & set(place.processes())
        record = read_record(place.folder)
        assert record is not None
        assert server.url == record.url


async def test_users_and_supervisor_killed_together_leave_no_server(place: Place) -> None:
    """With nobody left at all, the kernel ends the server, at once."""
    user = place.start_user()
    await user.ready()
    place.kill([user.pid, *place.supervisors()])
    await eventually(place.is_quiet, "the server ended", timeout_s=2)


async def test_the_server_ends_gently(place: Place) -> None:
    """The hang-up arrives as SIGTERM: the server closes its store, it is not torn away."""
    user = place.start_user()
    await user.ready()
    place.kill([user.pid, *place.supervisors()])
    await eventually(place.is_quiet, "the server ended")
    assert "JetStream Shutdown" in place.folder.log.read_text()


async def test_a_guard_does_what_the_kernel_does_elsewhere(place: Place) -> None:
    """Where a pipe cannot name its signal, a guard process ends the server."""
    place.folder.path.mkdir(parents=True)
    lock = lock_exclusive(place.folder.supervisor_lock)
    assert lock is not None
    options = Options(
        binary=str(Path(os.environ.get("VIRTUAL_ENV", ".venv")).absolute() / "bin/nats-server"),
        linger_s=30.0,
        port=0,
        start_timeout_s=10.0,
        sync_interval_s=120.0,
        store_bytes_max=1024**3,
        memory_bytes_max=1024**2,
        use_guard=True,
    )
    report = run_supervisor(place.folder, options, lock)
    os.close(lock)
    assert {"started": True} == json.loads(report)
    assert 2 == len(place.supervisors()), "the supervisor and its guard"
    supervisor = _supervisor_of(place)
    guard = sorted(set(place.supervisors()) - set(supervisor))
    place.kill(guard)
    await eventually(
        lambda: len(place.supervisors()) == 2 and not set(guard) & set(place.supervisors()),
        "a new guard",
    )
    place.kill(supervisor)
    await eventually(place.is_quiet, "the guard ended the server, and itself", timeout_s=3)


async def test_a_killed_start_is_tried_again(place: Place) -> None:
    """A supervisor that is killed before its server answers costs its user nothing."""
    user = place.start_user()
    killed = await eventually(place.supervisors, "a supervisor")
    place.kill(killed)
    await user.ready()
    assert 1 == len(place.servers())


async def test_a_server_left_by_everybody_is_taken_over_or_replaced(place: Place) -> None:
    """Even a server whose supervisor and record are lost does not stay beside a new one."""
    user = place.start_user()
    await user.ready()
    place.kill(place.supervisors())
    place.folder.record.unlink()
    async with await acquire_server(place.settings):
        assert 1 == len(place.servers())
        assert place.answer() is not None


async def test_a_server_whose_threads_are_still_ending_is_waited_for(place: Place) -> None:
    """The lock of one that has ended may be held a moment longer; the next one waits for that."""
    place.folder.path.mkdir(parents=True)
    lock = lock_exclusive(place.folder.server_lock)
    assert lock is not None
    start = asyncio.create_task(acquire_server(place.settings))
    await eventually(place.folder.config.exists, "it starts one")
    await eventually(lambda: 2 == len(place.supervisors()) or start.done(), "it has forked")
    os.close(lock)
    async with await start as server:
        assert server.started
        assert 1 == len(place.servers())


async def test_a_removed_folder_ends_its_server(place: Place) -> None:
    """`rm -rf` of the state folder leaves no server on a store that nobody can see."""
    server = await acquire_server(place.settings)
    pids = place.processes()
    for path in sorted(place.folder.path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
    await eventually(lambda: not set(pids) & set(place.processes()), "they ended")
    await server.aclose()


async def test_stopped_is_stopped_although_users_are_there(place: Place) -> None:
    """After `stop` no user starts the server again; the next new one does."""
    async with await acquire_server(place.settings) as old:
        assert await stop_server(place.settings)
        await _CLOCK.sleep(1.5)  # longer than a user's look: what is awaited is that nothing starts
        assert place.is_quiet()
        async with await acquire_server(place.settings) as new:
            assert new.started
            assert old.url == new.url


# --- any set --------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_any_set_killed_in_20_rounds(place: Place, seed: int) -> None:
    """Two processes start at once, any set is killed: one server each time, no orphan."""
    await _rounds(place, seed, rounds=20)


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.parametrize("part", range(10))
async def test_any_set_killed_in_200_rounds(place: Place, seed: int, part: int) -> None:
    """The same two hundred times, in ten parts so that none takes minutes."""
    await _rounds(place, seed + part, rounds=20)


async def _rounds(place: Place, seed: int, *, rounds: int) -> None:
    draw = random.Random(seed)
    for number in range(rounds):
        during_start = draw.random() < 0.4
        users = [place.start_user(), place.start_user()]
        if during_start:
            await _CLOCK.sleep(draw.uniform(0, 0.4))  # the moment of the kill is what varies
        else:
            words = [await user.ready() for user in users]
            assert 1 == len({word["url"] for word in words}), f"round {number}"
            assert 1 == len(place.servers()), f"round {number}"
            assert 1 == len(place.supervisors()), f"round {number}"
        await _kill_any_set(place, users, draw, number)
        place.users.clear()


async def _kill_any_set(place: Place, users: list[User], draw: random.Random, number: int) -> None:
    candidates = [user.pid for user in users] + place.processes()
    victims = [pid for pid in candidates if draw.random() < 0.5]
    draw.shuffle(victims)
    place.kill(victims)
    left = [user for user in users if user.pid not in victims]
    for user in left:
        await user.ready()
    if left:
        await eventually(
            lambda: len(place.servers()) == len(place.supervisors()) == 1 and place.answer(),
            f"round {number}: one server for {len(left)} users after {victims}",
        )
    for user in left:
        if draw.random() < 0.5:
            user.kill()
    await asyncio.gather(*(user.close() for user in users))
    await eventually(place.is_quiet, f"round {number}: no orphan after {victims}")


def _supervisor_of(place: Place) -> list[int]:
    record = read_record(place.folder)
    return [] if record is None else [record.supervisor.pid]


_TEMPORARY = """
import asyncio, os
from agent99.embedded import temporary_server

async def main():
    async with temporary_server(linger_s=0.1) as server:
        print(server.state_folder, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_killed_user_leaves_no_temporary_folder() -> None:
    """The supervisor removes it, with the credential inside, when nobody is left."""
    place = await asyncio.to_thread(_kill_temporary_user)
    await eventually(lambda: not place.folder.path.exists(), "the folder is gone")
    await eventually(place.is_quiet, "nothing is left")


def _kill_temporary_user() -> Place:
    command = [sys.executable, "-c", _TEMPORARY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout is not None
        place = Place(Path(user.stdout.readline().strip()))
        assert place.folder.record.exists()
        user.kill()
    return place
