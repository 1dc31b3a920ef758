"""A user starts the supervisor and hears from it."""

from __future__ import annotations

import asyncio
import json
import os
import select
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

from agent99.embedded._binary import find_binary
from agent99.embedded._lifeline import HAS_SIGNAL
from agent99.embedded._nats import Options, last_words, log_size
from agent99.embedded._state import Folder
from agent99.errors import EmbeddedServerError, ServerStartError, StateFolderError
from agent99.settings import Settings

_GRACE_S = 15.0
_REPORT_BYTES_MAX = 65_536


class SupervisorLostError(ServerStartError):
    """The supervisor was killed before it said anything: worth another try."""


def prepare_folder(settings: Settings) -> Folder:
    """Make the state folder, for its owner alone.

    Raises:
        StateFolderError: It cannot be made or written, the disk is full, or it holds a `store` that
            is somebody else's.
        EmbeddedServerError: This system has no embedded server.
    """
    if sys.platform == "win32":
        raise EmbeddedServerError(
            "the embedded server needs Linux or macOS; set AGENT99_URL to a server that runs"
        )
    folder = Folder(settings.state_folder.absolute())
    try:
        _check_store(folder)
        folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        ignore = folder.path / ".gitignore"
        if not ignore.exists():  # there is a credential inside
            ignore.write_text("*\n", encoding="ascii")
    except OSError as error:
        raise state_error(folder, error) from error
    return folder


def _check_store(folder: Folder) -> None:
    """Refuse a `store` that no server of ours made: a reset would delete what is in it."""
    if folder.record.exists() or folder.server_pid.exists() or not folder.store.is_dir():
        return
    if any(folder.store.iterdir()):
        raise StateFolderError(
            f"{folder.store} holds files that agent99 did not make: set AGENT99_STATE to another"
            " folder, or move them away"
        )


def state_error(folder: Folder, error: OSError) -> StateFolderError:
    """Return the error for a state folder that the system refuses."""
    return StateFolderError(
        f"the state folder {folder.path} cannot be used: {error.strerror or error};"
        " set AGENT99_STATE to a folder that can be written"
    )


async def start_supervisor_beside(settings: Settings, folder: Folder, lock: int) -> bool:
    """Do what `start_supervisor` does, on a thread of its own.

    Not on a pool's: what waits there for its turn never runs once its caller has given up, and
    nobody would give the lock back. Given up after it began, it goes on to its end.

    Raises:
        ServerStartError: No thread can be made; else as `start_supervisor`.
    """
    outcome: Future[bool] = Future()

    def start() -> None:
        try:
            outcome.set_result(start_supervisor(settings, folder, lock))
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
            outcome.set_exception(error)

    try:
        outcome.set_running_or_notify_cancel()  # to give it up does not end it
        threading.Thread(target=start, name="agent99-embedded-start", daemon=True).start()
    except RuntimeError as error:
        os.close(lock)
        raise ServerStartError(f"the embedded server does not start: {error}") from error
    return await asyncio.wrap_future(outcome)


def start_supervisor(settings: Settings, folder: Folder, lock: int) -> bool:
    """Start the supervisor and wait, blocking, until its server answers.

    Args:
        settings: What it needs to know.
        folder: Its state folder.
        lock: The handle that has `supervisor.lock`; handed down to it, and closed here.

    Returns:
        Whether it started a server; False when it took one over.

    Raises:
        ServerBinaryMissingError: There is no fit `nats-server`.
        ServerStartError: The server did not start; the message has its last words.
        StateFolderError: The state folder cannot be used, or the disk is full.
    """
    try:
        options = Options(
            binary=str(find_binary(settings.server_binary)),
            linger_s=settings.linger_s,
            port=settings.server_port,
            start_timeout_s=settings.server_start_timeout_s,
            sync_interval_s=settings.sync_interval_s,
            store_bytes_max=settings.store_bytes_max,
            memory_bytes_max=settings.memory_bytes_max,
            use_guard=not HAS_SIGNAL,
        )
        start = log_size(folder)
        report = run_supervisor(folder, options, lock)
    except OSError as error:
        raise state_error(folder, error) from error
    finally:
        os.close(lock)
    if not report:
        raise SupervisorLostError(
            f"the embedded server's supervisor ended early: {last_words(folder, start)}"
        )
    answer = json.loads(report)
    if "error" in answer:
        failed = StateFolderError if answer["error"] == "state" else ServerStartError
        raise failed(str(answer["message"]))
    return bool(answer["started"])


def run_supervisor(folder: Folder, options: Options, lock: int) -> bytes:
    """Start the supervisor, hand the lock down, and return what it says; empty when it dies."""
    ours, theirs = os.pipe()
    log = os.open(folder.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        boot = Path(__file__).with_name("_boot.py")
        # -I -S: neither the environment nor installed packages may change or slow it.
        command = [sys.executable, "-I", "-S", str(boot), str(folder.path), options.to_text()]
        process = subprocess.Popen(
            [*command, str(lock)],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=log,
            cwd="/",
            pass_fds=(lock,),
            start_new_session=True,
        )
        os.close(theirs)
        theirs = -1
        process.wait()  # it forks and ends at once
        return _read(ours, options.start_timeout_s + _GRACE_S)
    finally:
        os.close(ours)
        os.close(log)
        if theirs >= 0:
            os.close(theirs)


def _read(handle: int, timeout_s: float) -> bytes:
    poll = select.poll()  # `select` refuses handles above 1,023
    poll.register(handle, select.POLLIN)
    # One short line, written at once: it cannot arrive in parts.
    return os.read(handle, _REPORT_BYTES_MAX) if poll.poll(timeout_s * 1000) else b""
