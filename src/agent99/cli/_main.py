"""The entry point, and what it says when the command line's own libraries are missing."""

from __future__ import annotations

import sys

from agent99.errors import how_to_install

_LIBRARIES = frozenset({"typer", "rich"})
_USAGE = 2
_INTERRUPTED = 130


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        code = _run()
    except KeyboardInterrupt:  # while the libraries are imported: a command minds its own
        print("agent99: interrupted", file=sys.stderr)
        code = _INTERRUPTED
    sys.exit(code)


def _run() -> int:
    try:
        from agent99.cli._app import run_app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _LIBRARIES:
            raise
        message = f"the command line needs {error.name}: {how_to_install('cli')}"
        print(f"agent99: {message}", file=sys.stderr)
        return _USAGE
    return run_app()
