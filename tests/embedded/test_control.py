"""Status, stop, reset and logs."""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from agent99.embedded import (
    acquire_server,
    find_server,
    reset_server,
    server_logs,
    server_status,
    stop_server,
)
from agent99.embedded._state import lock_exclusive
from agent99.errors import EmbeddedServerError, ServerStartError, StateFolderError
from agent99.settings import Settings
from tests.embedded._place import Place, eventually


async def test_status_of_a_running_server(place: Place) -> None:
    """It tells the processes, the users and the version, and no credential."""
    user = place.start_user()
    await user.ready()
    async with await acquire_server(place.settings) as server:
        status = await server_status(place.settings)
        assert status.running
        assert server.url_public == status.url
        assert [status.pid] == place.servers()
        assert [status.supervisor_pid] == place.supervisors()
        assert 2 == status.users
        assert (0, 0) == (status.streams, status.store_bytes)
        assert status.version is not None
        assert status.version.startswith("2.")
        assert status.uptime_s is not None
        assert 0 <= status.uptime_s < 60
        assert str(place.folder.path) == status.state_folder
        password = server.url.split(":")[2].split("@")[0]
        assert password not in repr(status) + repr(server) + repr(find_server(place.settings))


async def test_status_where_nothing_runs(place: Place) -> None:
    """It says so, and makes no folder."""
    status = await server_status(place.settings)
    assert not status.running
    assert status.pid is None
    assert not place.folder.path.exists()


async def test_what_is_found_is_what_runs(place: Place) -> None:
    """`find_server` gives the address that users have."""
    async with await acquire_server(place.settings) as server:
        found = find_server(place.settings)
        assert found is not None
        assert server.url == found.url
        assert [found.pid] == place.servers()


async def test_stop_ends_the_server_and_says_whether_one_ran(place: Place) -> None:
    """True the first time, False the second."""
    async with await acquire_server(place.settings):
        assert await stop_server(place.settings)
        assert place.is_quiet()
        assert find_server(place.settings) is None
        assert not await stop_server(place.settings)


async def test_stop_where_nothing_ever_ran(place: Place) -> None:
    """There is nothing to stop, and no folder is made."""
    assert not await stop_server(place.settings)
    assert not await reset_server(place.settings)
    assert not place.folder.path.exists()


async def test_stop_ends_a_server_whose_supervisor_was_killed(place: Place) -> None:
    """It ends the server itself."""
    async with await acquire_server(place.settings):
        place.kill(place.supervisors())
        assert await stop_server(place.settings)
        assert place.is_quiet()


@pytest.mark.slow
async def test_stop_ends_a_server_that_does_not_react(place: Place) -> None:
    """A frozen server is killed in the end, and does not hold the stop up for ever."""
    async with await acquire_server(place.settings):
        os.kill(place.servers()[0], signal.SIGSTOP)
        assert await stop_server(place.settings, timeout_s=20)
        assert place.is_quiet()


async def test_reset_wipes_the_store_and_keeps_the_address(place: Place) -> None:
    """What was stored is gone; port and credential stay."""
    async with await acquire_server(place.settings) as first:
        mark = place.folder.store / "jetstream" / "mark"
        mark.touch()
        assert await reset_server(place.settings)
        assert place.is_quiet()
        assert not place.folder.store.exists()
        async with await acquire_server(place.settings) as second:
            assert first.url == second.url
            assert not mark.exists()
            assert [place.folder.jetstream] == list(place.folder.store.iterdir())


async def test_reset_deletes_nothing_that_the_server_did_not_make(place: Place) -> None:
    """What somebody else laid into the store's folder stays."""
    async with await acquire_server(place.settings):
        mine = place.folder.store / "mine.txt"
        mine.write_text("precious")
        await reset_server(place.settings)
        assert "precious" == mine.read_text()
        assert [mine] == list(place.folder.store.iterdir())


async def test_reset_ends_what_a_killed_reset_left(place: Place) -> None:
    """The half of a store that was about to be deleted goes with the next reset."""
    rest = place.folder.store / "jetstream.old"
    rest.mkdir(parents=True)
    (rest / "half").touch()
    await reset_server(place.settings)
    assert not rest.exists()


async def test_reset_keeps_the_store_of_a_server_that_does_not_end(place: Place) -> None:
    """Without the supervisor's lock nothing is wiped."""
    await (await acquire_server(place.settings)).aclose()
    await eventually(place.is_quiet, "the server ended")
    # A process that ends loses its command line before its files: the lock is free a moment later.
    lock = await eventually(
        lambda: lock_exclusive(place.folder.supervisor_lock), "its lock is free"
    )
    try:
        with pytest.raises(ServerStartError, match="does not end"):
            await reset_server(place.settings, timeout_s=0.05)
        assert place.folder.store.exists()
    finally:
        os.close(lock)


async def test_logs_are_the_last_lines_of_server_and_supervisor(place: Place) -> None:
    """Oldest first, as many as asked for."""
    async with await acquire_server(place.settings):
        lines = server_logs(place.settings, lines=3)
        assert 3 == len(lines)
        assert "Server is ready" in lines[-1]
    await eventually(place.is_quiet, "the server ended")
    lines = server_logs(place.settings)
    assert "supervisor: ended" in lines[-1]
    assert any("supervisor: nobody is left" in line for line in lines)
    assert [] == server_logs(place.settings, lines=0)


async def test_there_are_no_logs_where_nothing_ran(place: Place) -> None:
    """It is said, with the folder; nothing is made."""
    with pytest.raises(EmbeddedServerError) as caught:
        server_logs(place.settings)
    assert f"there is no log in {place.folder.path}: no server has run there" == str(caught.value)
    assert not place.folder.path.exists()


@pytest.mark.parametrize(
    "act", [server_status, stop_server, reset_server, server_logs, find_server]
)
async def test_a_file_in_place_of_the_state_folder(
    place: Place, act: Callable[[Settings], Any]
) -> None:
    """Whatever is asked, it is an error that names the file; nothing pretends to be done."""
    place.folder.path.parent.mkdir(parents=True)
    place.folder.path.touch()
    with pytest.raises(StateFolderError, match=r"agent99 cannot be used: Not a directory"):
        await _done(act(place.settings))


async def _done(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer
