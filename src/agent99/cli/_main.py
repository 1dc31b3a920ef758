"""The entry point, and what it says when the command line's own libraries are missing."""

from __future__ import annotations

import sys

_LIBRARIES = frozenset({"typer", "rich"})
_USAGE = 2


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        from agent99.cli._app import run_app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _LIBRARIES:
            raise
        message = (
            f"the command line needs {error.name}: install agent99 with its extra 'cli':"
            " pip install '.[cli]' in a checkout"
        )
        print(f"agent99: {message}", file=sys.stderr)
        sys.exit(_USAGE)
    sys.exit(run_app())
