"""The command line: run agents, ask them, look at the mesh and steer it.

Given:       words on a command line, files and modules that define agents.
Gives:       tables or one JSON document on stdout, sentences on stderr, and an exit code.
May import:  errors clock ids settings observe wire envelope embedded journal dispatch
             registry work agent groups saga schedules systems systems.analytics
             systems.cache systems.events; msgspec rich typer
Never:       shows a credential or, without `--debug`, a traceback of somebody else's mistake.
"""

from agent99.cli._main import main

__all__ = ["main"]
