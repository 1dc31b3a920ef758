"""House rules about the tests themselves."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ._tree import Finding, House, Module

FOLDERS = frozenset({"benches", "campaigns", "examples", "fuzz", "house", "soak", "tools", "world"})
"""Folders under tests/ that test no room: programmes, the rules, whole worlds."""
SLEEPS = frozenset({"time.sleep", "asyncio.sleep"})
MOCKS = frozenset({"unittest.mock", "mock", "pytest_mock"})


def check_test_docstrings(house: House) -> Iterator[Finding]:
    """Every test says its rule in a sentence."""
    for module in house.tests:
        if not _holds_tests(module):
            continue
        for name, node in module.functions():
            is_test = name.split(".")[-1].startswith("test_") and name.count(".") <= 1
            if is_test and ast.get_docstring(node) is None:
                place = f"{module.place}:{node.lineno}"
                yield Finding("test docstring", place, f"{name} needs its rule in one sentence")


def check_test_calls(house: House) -> Iterator[Finding]:
    """Tests wait for a condition and use real parts: no sleeping, no mocks."""
    for module in house.tests:
        for wanted in module.imports:
            whole = f"{wanted.module}.{wanted.name}"
            if MOCKS & {wanted.module, whole}:
                message = "use a real part, or the deterministic twin in agent99.testing"
                yield Finding("mock", f"{module.place}:{wanted.line}", message)
        if not _holds_tests(module):
            continue  # helpers may poll: that is how one waits for a condition
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and _sleeps(module, node):
                message = "wait for the condition (tests/_wait.py), or use ManualClock"
                yield Finding("sleep", f"{module.place}:{node.lineno}", message)


def check_mirror(house: House) -> Iterator[Finding]:
    """A test stands where its room stands, and every room has tests."""
    rooms = {room.replace(".", "/") for room in house.room_folders}
    files = {name for name in house.fronts if name not in house.room_folders}
    tested: set[str] = set()
    for module in house.tests:
        if not _holds_tests(module):
            continue
        parts = module.place.split("/")[1:]
        folder = "/".join(parts[:-1])
        subject = parts[-1].removeprefix("test_").removesuffix(".py")
        tested.update(["/".join(parts[:depth]) for depth in range(1, len(parts))])
        if parts[0] in FOLDERS:
            continue
        mirrored = folder in rooms if folder else subject in files
        if not mirrored and not _is_inside(folder, rooms):
            message = f"there is no src/agent99/{folder or subject} that this tests"
            yield Finding("mirror", module.place, message)
    for room in sorted(rooms - tested):
        yield Finding("mirror", f"src/agent99/{room}", f"no tests in tests/{room}")


def _is_inside(folder: str, rooms: set[str]) -> bool:
    return bool(folder) and any(folder.startswith(f"{room}/") for room in rooms)


def _holds_tests(module: Module) -> bool:
    return module.path.name.startswith("test_")


def gives_a_turn(module: Module, node: ast.Call) -> bool:
    """Tell whether a call is `asyncio.sleep(0)`: a turn for other tasks, not a wait."""
    first = node.args[0] if node.args else None
    is_zero = isinstance(first, ast.Constant) and first.value == 0
    return is_zero and module.dotted(node.func) == "asyncio.sleep"


def _sleeps(module: Module, node: ast.Call) -> bool:
    return module.dotted(node.func) in SLEEPS and not gives_a_turn(module, node)
