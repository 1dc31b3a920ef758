"""Trouble while it runs: starts that fail and recover, locks that stay, files in the way."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from agent99.embedded import (
    acquire_server,
    find_server,
    reset_server,
    server_logs,
    stop_server,
)
from agent99.embedded._binary import find_binary
from agent99.embedded._state import lock_exclusive
from agent99.errors import ServerStartError, StateFolderError
from agent99.settings import Settings
from tests.embedded._place import Place, eventually

LOG_BYTES_MAX = 8 * 1024**2


@pytest.fixture
def broken(place: Place, tmp_path: Path) -> Iterator[Path]:
    """Give a file; while it exists, the place's nats-server does not start."""
    mark = tmp_path / "broken"
    script = tmp_path / "nats-server"
    script.write_text(
        "#!/bin/sh\n"
        f'[ "$1" != --version ] && [ -e "{mark}" ] && echo "no luck today" >&2 && exit 1\n'
        f'exec "{find_binary(None)}" "$@"\n'
    )
    script.chmod(0o755)
    place.settings = msgspec.structs.replace(place.settings, server_binary=script)
    yield mark
    mark.unlink(missing_ok=True)


async def test_a_restart_that_fails_is_tried_until_it_works(place: Place, broken: Path) -> None:
    """Meanwhile the server counts as found: it comes back at the same address."""
    async with await acquire_server(place.settings) as server:
        broken.touch()
        place.kill(place.servers())
        await eventually(
            lambda: any(
                "no restart: no luck today" in line for line in server_logs(place.settings)
            ),
            "the restart failed",
        )
        found = find_server(place.settings)
        assert found is not None
        assert server.url == found.url
        broken.unlink()
        await eventually(place.answer, "it is back")


@pytest.mark.slow
async def test_a_take_over_that_fails_is_told_and_tried_again(
    place: Place, broken: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The user's log has the reason, without a credential; once it works all is well."""
    async with await acquire_server(place.settings) as server:
        broken.touch()
        place.kill(place.processes())
        with caplog.at_level(logging.WARNING, "agent99.embedded"):
            await eventually(lambda: "no luck today" in caplog.text, "the user said so")
        assert server.url not in caplog.text
        broken.unlink()
        await eventually(place.answer, "it is back")


async def test_whoever_waits_for_an_end_that_never_comes_is_told(place: Place) -> None:
    """A supervisor that hangs while it ends its server costs the start's time and no more."""
    place.folder.path.mkdir(parents=True)
    settings = msgspec.structs.replace(place.settings, server_start_timeout_s=0.1)
    lock = lock_exclusive(place.folder.users_lock)
    assert lock is not None
    with pytest.raises(ServerStartError, match="does not answer in time: it said nothing"):
        await acquire_server(settings)
    os.close(lock)


async def test_whoever_waits_for_a_start_that_never_comes_is_told(place: Place) -> None:
    """The same for a supervisor that hangs while it starts its server."""
    place.folder.path.mkdir(parents=True)
    settings = msgspec.structs.replace(place.settings, server_start_timeout_s=0.1)
    lock = lock_exclusive(place.folder.supervisor_lock)
    assert lock is not None
    with pytest.raises(ServerStartError, match="does not answer in time"):
        await acquire_server(settings)
    assert lock_exclusive(place.folder.users_lock) is not None, "it is no user any more"
    os.close(lock)


async def test_a_start_that_is_given_up_before_it_begins_keeps_no_lock(place: Place) -> None:
    """Whoever comes next gets a server, however busy the threads of the first caller were."""
    gate = threading.Event()
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as crowded:
        loop.set_default_executor(crowded)
        busy = loop.run_in_executor(None, gate.wait, 20)
        coming = asyncio.create_task(acquire_server(place.settings))
        await eventually(place.folder.users_lock.exists, "it came")
        coming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await coming
        gate.set()
        await busy
        async with await acquire_server(place.settings):
            assert place.answer() is not None


async def test_a_start_without_a_thread_is_an_error_and_keeps_no_lock(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system gives no thread the caller is told, and the lock is free."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ServerStartError, match="can't start new thread"):
            await acquire_server(place.settings)
    lock = lock_exclusive(place.folder.supervisor_lock)
    assert lock is not None
    os.close(lock)


async def test_a_file_in_place_of_the_lifeline(place: Place) -> None:
    """The folder cannot be used, and no server starts without its lifeline."""
    place.folder.path.mkdir(parents=True)
    place.folder.lifeline.touch()
    with pytest.raises(StateFolderError, match="File exists"):
        await acquire_server(place.settings)
    assert place.is_quiet()


async def test_a_folder_in_place_of_a_lock(place: Place) -> None:
    """Starting, stopping and resetting all say so."""
    place.folder.supervisor_lock.mkdir(parents=True)
    for act in (acquire_server, stop_server, reset_server):
        with pytest.raises(StateFolderError, match="Is a directory"):
            await act(place.settings)


async def test_a_server_that_nobody_closed_warns_and_lets_go(place: Place) -> None:
    """Collected while open: a warning, and the server ends."""
    held = [await acquire_server(place.settings)]
    with pytest.warns(ResourceWarning, match="was never closed"):
        held.clear()
    await eventually(place.is_quiet, "the server ended")


async def test_a_server_that_met_a_full_disk_starts_anew(place: Place) -> None:
    """Its own word is enough: a stream that met a full disk stays broken although there is room."""
    async with await acquire_server(place.settings):
        pids = place.servers()
        with place.folder.log.open("a") as log:
            log.write("[1] [ERR] Critical write error: 1.blk: no space left on device\n")
        await eventually(lambda: place.servers() not in ([], pids), "another server")
        await eventually(place.answer, "it answers")
        assert any("the disk is full" in line for line in server_logs(place.settings, lines=99))


async def test_a_large_log_is_turned_over(place: Place) -> None:
    """The log is bounded: beyond 8 MB it becomes the older one, and begins anew."""
    async with await acquire_server(place.settings):
        with place.folder.log.open("ab") as log:
            log.write(b"x" * LOG_BYTES_MAX)
        older = place.folder.path / "server.log.1"
        await eventually(
            lambda: older.exists() and place.folder.log.stat().st_size < LOG_BYTES_MAX, "turned"
        )
        assert older.stat().st_size > LOG_BYTES_MAX
        assert place.answer() is not None


async def test_a_relative_state_folder_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor lives elsewhere: it has to know the folder from anywhere."""
    monkeypatch.chdir(tmp_path)
    settings = Settings(project=tmp_path, state_folder=Path("state"), linger_s=0.1)
    async with await acquire_server(settings) as server:
        assert tmp_path / "state" == server.state_folder
    place = Place(tmp_path / "state")
    await eventually(place.is_quiet, "the server ended")
