"""Sagas on DBOS, started and run in one process: measured where it is installed.

An async workflow is started in the background, as its documents show, and its handle is waited for;
no queue. The database is what `--url` says: PostgreSQL, or SQLite.
"""

from __future__ import annotations

from _role import run_on_uvloop
from _sagas_role import STEPS, Arguments, measure, read_arguments
from dbos import DBOS, DBOSConfig


@DBOS.step()
async def do_nothing() -> None:
    """Do nothing, and be known to have done it."""


@DBOS.workflow()
async def run(number: int) -> int:
    """Take four steps."""
    for _ in range(STEPS):
        await do_nothing()
    return number


async def start(arguments: Arguments) -> None:
    """Start workflows, wait for them, and measure."""
    DBOS(config=DBOSConfig(name="bench", system_database_url=arguments.url, log_level="ERROR"))
    DBOS.launch()

    async def ask(number: int) -> int:
        handle = await DBOS.start_workflow_async(run, number)
        return await handle.get_result()

    await measure(ask, arguments)
    DBOS.destroy()


def main() -> None:
    """Measure."""
    run_on_uvloop(start(read_arguments("Sagas on DBOS.")))


if __name__ == "__main__":
    main()
