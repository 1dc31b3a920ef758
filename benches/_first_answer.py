"""From `agent99 run` to its first answer, embedded server included. Prints one JSON object."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from _processes import read_line, started

from agent99 import Mesh
from agent99.dispatch import new_event_loop
from agent99.settings import load_settings

_GREETER = '''
from agent99 import Agent, operation


class Greeter(Agent):
    """Greets people by name."""

    capabilities = ("greeter",)

    @operation
    async def greet(self, name: str = "World") -> str:
        """Say hello."""
        return f"Hello, {name}!"
'''


async def ask(folder: Path) -> str:
    """Join the mesh that was just started, and ask."""
    async with Mesh(settings=load_settings(folder, {})) as mesh:
        return await mesh.request("greeter", "greet", {"name": "Ada"}, returns=str)


def first_answer_s(folder: Path) -> float:
    """Return the seconds from the start of the process to its first answer."""
    (folder / "agent99.toml").write_text("linger_s = 0.0\n")
    (folder / "greeter.py").write_text(_GREETER)
    command = [sys.executable, "-m", "agent99", "run", "greeter.py", "--json"]
    began = time.perf_counter()
    with started(command, cwd=folder) as process:
        read_line(process, "agent99 run")
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            answer = runner.run(ask(folder))
        took = time.perf_counter() - began
    if answer != "Hello, Ada!":
        raise SystemExit(f"wrong answer: {answer}")
    return took


def main() -> None:
    """Measure as often as the argument says, each time in a fresh folder."""
    figures: list[float] = []
    for _ in range(int(sys.argv[1])):
        with tempfile.TemporaryDirectory(prefix="agent99-", ignore_cleanup_errors=True) as folder:
            figures.append(first_answer_s(Path(folder)))
    print(msgspec.json.encode(figures).decode())


if __name__ == "__main__":
    main()
