"""What `import agent99` costs and shows, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ._imports import OPTIONAL
from ._tree import House

ROOT = Path(__file__).resolve().parents[2]
PROGRAMME = """
import sys, threading
import {module}
loaded = {{name.partition(".")[0] for name in sys.modules}}
print(",".join(sorted(loaded & {optional!r})), threading.active_count(), sep=";")
"""
_HOUSE = House(ROOT)
_ROOMS = sorted(module.name for room, module in _HOUSE.fronts.items() if room != "cli")


def _import(module: str) -> tuple[set[str], int]:
    """Import a module in a fresh process; returns the optional libraries it loads, and threads."""
    programme = PROGRAMME.format(module=module, optional=set(OPTIONAL))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", programme],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    libraries, threads = done.stdout.strip().split(";")
    return set(filter(None, libraries.split(","))), int(threads)


def test_front_door_loads_nothing_optional() -> None:
    """`import agent99` works with the one required library, and loads no other."""
    assert (set[str](), 1) == _import("agent99")


@pytest.mark.parametrize("module", ["agent99", "agent99.cli._app"])
def test_adapters_of_observe_load_late(module: str) -> None:
    """Neither `import agent99` nor a command that does not ask for them pays for one."""
    adapters = {path.stem for path in (ROOT / "src/agent99/observe").glob("[a-z]*.py")}
    assert {"logs", "otel", "prometheus"} <= adapters
    programme = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", programme], capture_output=True, text=True, timeout=60, check=True
    )
    assert not {f"agent99.observe.{name}" for name in adapters} & set(done.stdout.split())


@pytest.mark.parametrize("module", _ROOMS)
def test_room_can_be_imported_alone(module: str) -> None:
    """Every room can be the first that a process imports, and starts nothing."""
    _, threads = _import(module)
    assert 1 == threads


def test_optional_library_is_noticed() -> None:
    """The test above can fail: it sees a library that a module loads."""
    assert {"rich"} == _import("rich.table")[0]
