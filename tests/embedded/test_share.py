"""Starting, sharing and leaving the embedded server."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import stat
from pathlib import Path

import pytest

from agent99.clock import SystemClock
from agent99.embedded import acquire_server, find_server, temporary_server
from agent99.embedded._state import Record, read_record, write_record
from agent99.settings import Settings
from tests.embedded._place import Place, eventually


async def test_a_first_user_starts_the_server_and_a_second_shares_it(place: Place) -> None:
    """The first call starts a server, the next finds it at the same address."""
    async with (
        await acquire_server(place.settings) as first,
        await acquire_server(place.settings) as second,
    ):
        assert (True, False) == (first.started, second.started)
        assert first.url == second.url
        assert 1 == len(place.servers())
        assert 1 == len(place.supervisors())


async def test_it_answers_when_the_call_returns(place: Place) -> None:
    """A server that was acquired takes JetStream requests at once."""
    async with await acquire_server(place.settings):
        answer = place.answer()
        assert answer is not None
        assert answer.is_ready


async def test_processes_that_start_together_get_one_server(place: Place) -> None:
    """However many start at once, one server and one supervisor run, and all know the address."""
    users = [place.start_user() for _ in range(6)]
    words = [await user.ready() for user in users]
    assert 1 == len({word["url"] for word in words})
    assert 1 == sum(word["started"] for word in words)
    assert 1 == len(place.servers())
    assert 1 == len(place.supervisors())


async def test_calls_at_once_in_one_process_get_one_server(place: Place) -> None:
    """Concurrent calls of one process share like those of many."""
    servers = await asyncio.gather(*(acquire_server(place.settings) for _ in range(8)))
    try:
        assert 1 == len({server.url for server in servers})
        assert 1 == sum(server.started for server in servers)
    finally:
        for server in servers:
            await server.aclose()


async def test_it_ends_after_the_last_user_and_the_linger(place: Place) -> None:
    """The server stays for the linger and then ends by itself; its record loses the processes."""
    server = await acquire_server(place.settings)
    await server.aclose()
    left_s = SystemClock().monotonic_s()
    assert find_server(place.settings) is not None
    await eventually(place.is_quiet, "the server ended")
    assert SystemClock().monotonic_s() - left_s >= place.settings.linger_s - 0.15
    record = read_record(place.folder)
    assert record is not None
    assert not record.is_running
    assert find_server(place.settings) is None


async def test_a_user_that_comes_within_the_linger_keeps_it(place: Place) -> None:
    """Leaving and coming back in time meets the same process."""
    first = await acquire_server(place.settings)
    pids = place.servers()
    await first.aclose()
    async with await acquire_server(place.settings) as second:
        assert not second.started
        await SystemClock().sleep(
            place.settings.linger_s * 2
        )  # what is awaited is that nothing ends
        assert pids == place.servers()


async def test_users_that_come_while_it_ends_get_a_server(tmp_path: Path) -> None:
    """With no linger every call meets a server that is about to end: each still gets one."""
    place = Place(tmp_path / "state", linger_s=0.0)
    for _ in range(12):
        async with await acquire_server(place.settings):
            assert place.answer() is not None
    await place.close()


async def test_address_and_credential_stay_over_restarts(place: Place) -> None:
    """A server that is started again has the same port and password."""
    async with await acquire_server(place.settings) as first:
        url = first.url
    await eventually(place.is_quiet, "the server ended")
    async with await acquire_server(place.settings) as second:
        assert second.started
        assert url == second.url


async def test_another_port_is_taken_when_the_kept_one_is_not_free(place: Place) -> None:
    """A port that somebody took in between is given up."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        place.folder.path.mkdir(parents=True)
        write_record(place.folder, Record(port, "agent99", "secret", "agent99-x"))
        async with await acquire_server(place.settings) as server:
            assert f":{port}" not in server.url


async def test_closing_twice_is_harmless(place: Place) -> None:
    """`aclose` may be called again."""
    server = await acquire_server(place.settings)
    await server.aclose()
    await server.aclose()
    assert "closed" in repr(server)


async def test_a_cancelled_call_leaves_nothing(place: Place) -> None:
    """A call that is cancelled half-way is no user: whatever it started ends."""
    task = asyncio.create_task(acquire_server(place.settings))
    await eventually(place.supervisors, "the start is under way")
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await eventually(place.is_quiet, "nothing is left")


async def test_a_bare_connection_is_refused(place: Place) -> None:
    """Without the credential the server hangs up."""
    async with await acquire_server(place.settings):
        record = read_record(place.folder)
        assert record is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", record.port)
        writer.write(b'CONNECT {"verbose":false}\r\nPING\r\n')
        text = await asyncio.wait_for(reader.read(), 5)
        assert b"Authorization Violation" in text
        assert b"PONG" not in text
        writer.close()
        await writer.wait_closed()


async def test_it_listens_on_loopback_only(place: Place) -> None:
    """No other address of the machine reaches it."""
    async with await acquire_server(place.settings):
        record = read_record(place.folder)
        assert record is not None
        hexadecimal = f"{record.port:04X}"
        tables = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        listening = [line.split()[1] for line in tables.splitlines() if line.split()[3] == "0A"]
        assert [f"0100007F:{hexadecimal}"] == [
            a for a in listening if a.endswith(f":{hexadecimal}")
        ]


async def test_only_the_owner_can_read_the_state(place: Place) -> None:
    """The folder is 0700, its files 0600, and git is told to pass it by."""
    async with await acquire_server(place.settings):
        assert 0o700 == stat.S_IMODE(place.folder.path.stat().st_mode)
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode)
            for path in place.folder.path.iterdir()
            if path.name not in ("store", ".gitignore")
        }
        assert {"server.json", "nats.conf", "users.lock", "supervisor.lock"} <= modes.keys()
        assert {0o600} == set(modes.values())
        assert 0o700 == stat.S_IMODE(place.folder.store.stat().st_mode) | 0o700
        assert "*\n" == (place.folder.path / ".gitignore").read_text()


async def test_no_command_line_shows_the_credential(place: Place) -> None:
    """Whoever lists the processes learns no password."""
    async with await acquire_server(place.settings):
        record = read_record(place.folder)
        assert record is not None
        lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in place.processes()]
        environs = [Path(f"/proc/{pid}/environ").read_bytes() for pid in place.processes()]
        assert not any(record.password.encode() in text for text in lines + environs)


async def test_the_terminal_does_not_reach_supervisor_and_server(place: Place) -> None:
    """They have a session of their own: Ctrl-C goes to the user's processes alone."""
    async with await acquire_server(place.settings):
        sessions = {os.getsid(pid) for pid in place.processes()}
        assert 1 == len(sessions)
        assert os.getsid(0) not in sessions
        groups = {os.getpgid(pid) for pid in place.processes()}
        assert os.getpgid(0) not in groups


async def test_blocked_signals_are_not_inherited(place: Place) -> None:
    """A user that blocks SIGTERM still gets a server that can be ended."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        async with await acquire_server(place.settings):
            status = Path(f"/proc/{place.supervisors()[0]}/status").read_text()
            assert "SigBlk:\t0000000000000000" in status
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def test_a_long_path_works(tmp_path: Path) -> None:
    """A state folder deeper than a socket's name could be is no trouble."""
    place = Place(tmp_path.joinpath(*["d" * 100] * 20) / ".agent99")
    async with await acquire_server(place.settings):
        assert place.answer() is not None
    await place.close()


async def test_a_temporary_server_leaves_neither_process_nor_folder() -> None:
    """Its folder is fresh, and gone at the end with everything that ran in it."""
    async with temporary_server() as first, temporary_server() as second:
        places = [Place(server.state_folder) for server in (first, second)]
        assert first.url != second.url
        assert [1, 1] == [len(place.servers()) for place in places]
    assert all(place.is_quiet() for place in places)
    assert not any(place.folder.path.exists() for place in places)


async def test_a_temporary_server_ends_when_its_body_fails() -> None:
    """An error inside passes through, and nothing is left either."""
    places: list[Place] = []

    async def fail() -> None:
        async with temporary_server() as server:
            places.append(Place(server.state_folder))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    place = places[0]
    assert place.is_quiet()
    assert not place.folder.path.exists()


async def test_settings_of_another_project_mean_another_server(tmp_path: Path) -> None:
    """Two state folders are two servers with two credentials."""
    one, two = Place(tmp_path / "one"), Place(tmp_path / "two")
    async with await acquire_server(one.settings) as a, await acquire_server(two.settings) as b:
        assert a.url != b.url
        assert a.url.split("@")[0] != b.url.split("@")[0]
    await one.close()
    await two.close()


def test_nothing_is_found_where_nothing_runs(tmp_path: Path) -> None:
    """`find_server` starts nothing and makes no folder."""
    settings = Settings(project=tmp_path, state_folder=tmp_path / "state")
    assert find_server(settings) is None
    assert not settings.state_folder.exists()


@pytest.mark.slow
async def test_whoever_holds_a_server_has_it_throughout(tmp_path: Path, seed: int) -> None:
    """Users come and go with no linger at all: nobody ever loses a server that it holds."""
    place = Place(tmp_path / "state", linger_s=0.0)
    draw = random.Random(seed)
    clock = SystemClock()

    async def use() -> None:
        for _ in range(20):
            async with await acquire_server(place.settings):
                pids = place.servers()
                assert 1 == len(pids)
                await clock.sleep(draw.uniform(0, 0.1))  # the moments are what varies
                assert pids == place.servers()
                assert place.answer() is not None
            await clock.sleep(draw.uniform(0, 0.4))  # the same

    await asyncio.gather(*(use() for _ in range(4)))
    await place.close()
