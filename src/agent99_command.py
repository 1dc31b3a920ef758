"""The command `agent99`. Outside the package: Ctrl-C while that is imported is no traceback."""

import sys


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        from agent99.cli import main as run  # noqa: PLC0415 - what this module is for

        run()
    except KeyboardInterrupt:
        sys.stderr.write("agent99: interrupted\n")
        sys.exit(130)
