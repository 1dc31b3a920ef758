"""Every house rule can fail: each is shown a small tree with one violation in it."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from ._rules import CHECKS
from ._tree import House, read_card

CARD = '''\
"""Do one thing.

Given:       what comes in.
Gives:       what goes out.
May import:  {may}
Never:       anything else.
"""
'''
TREE: dict[str, str] = {
    "src/agent99/__init__.py": CARD.format(may="errors wire")
    + "from agent99.errors import Agent99Error\n\n__all__ = ['Agent99Error']\n",
    "src/agent99/errors.py": '"""Errors."""\n\n\nclass Agent99Error(Exception):\n    """One."""\n',
    "src/agent99/wire/__init__.py": CARD.format(may="errors; msgspec")
    + "from agent99.wire._port import Port\n\n__all__ = ['Port']\n",
    "src/agent99/wire/_port.py": '''\
"""The port."""

from __future__ import annotations

import msgspec

from agent99.errors import Agent99Error


class Port(msgspec.Struct):
    """A value."""

    def go(self) -> None:
        """Go."""
        try:
            raise Agent99Error
        except Agent99Error:
            return
''',
    "src/agent99/journal/__init__.py": CARD.format(may="errors wire")
    + "from agent99.journal._keep import keep\n\n__all__ = ['keep']\n",
    "src/agent99/journal/_keep.py": '''\
"""Keep."""

from agent99.wire import Port


def keep(port: Port) -> Port:
    """Return it."""
    return port
''',
    "tests/wire/test_port.py": '''\
"""The port."""


def test_port() -> None:
    """A port is a port."""
    assert True
''',
    "tests/journal/test_keep.py": '"""Keep."""\n',
}
"""A tidy house; each case adds to it or changes a file."""

WIRE = "src/agent99/wire/_more.py"
KEEP = "src/agent99/journal/_more.py"
TEST = "tests/wire/test_more.py"
FRONT = CARD.format(may="errors; msgspec")
NESTED = (
    "def f(a):\n    if a:\n        for b in a:\n            while b:\n                with b:\n"
)

# Check, file, its text, and a piece of the finding.
BAD: list[tuple[str, str, str, str]] = [
    ("cards", "src/agent99/wire/__init__.py", '"""No card."""\n__all__ = []', "card lacks Given"),
    ("cards", "src/agent99/wire/__init__.py", CARD.format(may="agent"), "not to the left of wire"),
    ("cards", "src/agent99/oddity/__init__.py", FRONT, "knows no room 'oddity'"),
    ("cards", "src/agent99/observe/_x.py", "", "needs an __init__.py"),
    ("imports", WIRE, "import yaml", "yaml is not on the card of wire"),
    ("imports", WIRE, "def f():\n    import yaml", "yaml is not on the card"),
    ("imports", "src/agent99/errors.py", "import yaml", "imports no library but msgspec"),
    ("imports", WIRE, "from . import _port", "write the whole name"),
    ("imports", WIRE, "from agent99.journal import keep", "journal is not to the left of wire"),
    ("imports", WIRE, "import agent99.journal", "journal is not to the left of wire"),
    ("imports", WIRE, "from agent99 import journal", "journal is not to the left of wire"),
    ("imports", WIRE, "from agent99 import Agent99Error", "agent99 is not to the left of wire"),
    ("imports", WIRE, "from agent99.clock import Clock", "clock is not on the card of wire"),
    ("imports", WIRE, "from agent99.wire import Port", "not through the own front door"),
    ("imports", KEEP, "from agent99.wire._port import Port", "belongs to its room"),
    ("imports", KEEP, "from agent99.wire import _port", "belongs to its room"),
    ("imports", KEEP, "import agent99.wire._port", "belongs to its room"),
    (
        "imports",
        "src/agent99/systems/shop/_x.py",
        "from agent99.systems.cache import Node",
        "systems.cache is not to the left of systems.shop",
    ),
    ("cycles", WIRE, "import agent99.wire._more", ""),
    ("cycles", "src/agent99/errors.py", "from agent99.wire import Port", "→ agent99.wire._port →"),
    ("cycles", "src/agent99/errors.py", "def f():\n    import agent99.wire._port", "→"),
    ("sizes", WIRE, "x = 1\n" * 401, "lines: 401, at most 400"),
    ("sizes", WIRE, "def f():\n" + "    x = 1\n" * 60, "f: lines: 61, at most 60"),
    ("sizes", WIRE, "def f(a, b, c, *, d, e, f, g): ...", "f: parameters: 7, at most 6"),
    (
        "sizes",
        WIRE,
        "class A:\n    def f(self, a, b, c, d, e, *f, **g): ...",
        "A.f: parameters: 7",
    ),
    ("sizes", WIRE, NESTED + "                    pass", "f: nesting: 4, at most 3"),
    ("sizes", "src/agent99/errors.py", "", "lines fits now: take it off the ratchet"),
    ("banned", WIRE, "import time\ntime.monotonic()", "time.monotonic: use time comes in"),
    ("banned", WIRE, "import time as t\nx = t.time", "time.time: use time comes in"),
    ("banned", WIRE, "from time import time_ns\ntime_ns()", "time.time_ns"),
    ("banned", WIRE, "from datetime import datetime\ndatetime.now()", "datetime.datetime.now"),
    ("banned", WIRE, "import datetime\ndatetime.datetime.now()", "datetime.datetime.now"),
    ("banned", WIRE, "import asyncio\nasyncio.sleep(1)", "use await clock.sleep()"),
    ("banned", WIRE, "from asyncio import sleep\nsleep(1)", "use await clock.sleep()"),
    ("banned", WIRE, "import asyncio\nasyncio.get_event_loop()", "get_running_loop"),
    ("banned", WIRE, "from uuid import uuid4\nuuid4()", "use randomness comes in"),
    ("banned", WIRE, "import random\nrandom.random()", "random.random: use randomness"),
    ("banned", WIRE, "import secrets\nsecrets.token_hex()", "secrets.token_hex"),
    ("banned", WIRE, "import os\nos.urandom(8)", "os.urandom"),
    ("banned", WIRE, "print(1)", "only the cli talks to people"),
    ("banned", WIRE, "breakpoint()", "use a test"),
    ("banned", "src/agent99/cli/_x.py", "import random\nrandom.random()", "randomness"),
    ("excepts", WIRE, "try:\n    x\nexcept Exception:\n    pass", "catch what you expect"),
    ("excepts", WIRE, "try:\n    x\nexcept (OSError, BaseException):\n    pass", "catch what"),
    ("excepts", WIRE, "try:\n    x\nexcept:\n    pass", "catch what you expect"),
    ("comments", WIRE, "# TODO: later", "do it, or open an issue"),
    ("comments", TEST, '"""FIXME"""', "do it, or open an issue"),
    ("comments", WIRE, "x = 1  # noqa: E501", "say why"),
    ("comments", WIRE, "x = 1  # noqa", "say why"),
    ("comments", WIRE, "x = 1  # noqa: E501, S101 - no", "say why"),
    ("comments", WIRE, "x = 1  # type: ignore[misc]", "say why"),
    ("comments", WIRE, "x = 1  # pyright: ignore[reportX]", "say why"),
    ("comments", TEST, "x = 1  # pragma: no cover", "say why"),
    ("front doors", "src/agent99/wire/__init__.py", FRONT + "x = 1", "only a docstring, imports"),
    ("front doors", "src/agent99/wire/__init__.py", FRONT + "def f(): ...", "only a docstring"),
    (
        "front doors",
        "src/agent99/wire/__init__.py",
        FRONT + "\n" * 60,
        "67 lines before __all__, at most 60",
    ),
    ("exports", "src/agent99/wire/__init__.py", FRONT, "an __init__ has an __all__"),
    (
        "exports",
        "src/agent99/wire/__init__.py",
        "from agent99.wire._port import Port, go\n__all__ = ['Port']",
        "go is imported but not in __all__",
    ),
    (
        "exports",
        "src/agent99/wire/__init__.py",
        "__all__ = ['Port']",
        "is in __all__ but not there",
    ),
    (
        "exports",
        "src/agent99/wire/__init__.py",
        "from a import go, Port, MAX\n__all__ = ['go', 'MAX', 'Port']",
        "sort __all__",
    ),
    ("reprs", WIRE, "class A:\n    pass", "class A needs a __repr__"),
    ("reprs", WIRE, "class B(_A): ...\nclass _A: ...", "class B needs a __repr__"),
    ("docstrings", WIRE, "x = 1", "the module needs a docstring"),
    ("docstrings", WIRE, '"""M."""\ndef f(): ...', "f needs a docstring"),
    ("docstrings", WIRE, '"""M."""\nclass A:\n    x = 1', "A needs a docstring"),
    (
        "docstrings",
        WIRE,
        '"""M."""\nclass A:\n    """A."""\n    @property\n    def x(self): ...',
        "A.x needs a docstring",
    ),
    ("test docstrings", TEST, "async def test_x(): ...", "test_x needs its rule"),
    ("test docstrings", TEST, "class TestX:\n    def test_y(self): ...", "TestX.test_y needs"),
    ("test calls", TEST, "import time\ntime.sleep(1)", "wait for the condition"),
    ("test calls", TEST, "import asyncio\nasyncio.sleep(0.1)", "wait for the condition"),
    ("test calls", TEST, "from asyncio import sleep\nsleep(delay)", "wait for the condition"),
    ("test calls", TEST, "from unittest import mock", "use a real part"),
    ("test calls", TEST, "from unittest.mock import Mock", "use a real part"),
    ("mirror", "tests/nowhere/test_x.py", "", "there is no src/agent99/nowhere"),
    ("mirror", "tests/test_nothing.py", "", "there is no src/agent99/nothing"),
    ("mirror", "src/agent99/store/__init__.py", FRONT, "no tests in tests/store"),
]

# Check, file, its text: nothing to find.
GOOD: list[tuple[str, str, str]] = [
    ("imports", WIRE, "import os.path\nfrom collections.abc import Mapping\nimport msgspec"),
    ("imports", WIRE, "from agent99.wire._port import Port\nfrom agent99.errors import E"),
    ("imports", "src/agent99/__main__.py", "from agent99.cli import main"),
    ("sizes", WIRE, "class A:\n    def f(self, a, b, c, d, e, f): ..."),
    ("sizes", WIRE, "from typing import overload\n@overload\ndef f(a, b, c, d, e, f, g): ..."),
    ("sizes", WIRE, "if 1:\n    pass\nelif 2:\n    pass\nelif 3:\n    pass\nelif 4:\n    pass\n"),
    ("banned", "src/agent99/clock.py", "import time, asyncio\ntime.monotonic()\nasyncio.sleep(1)"),
    ("banned", "src/agent99/ids.py", "import os, random\nos.urandom(1)\nrandom.Random(1)"),
    ("banned", "src/agent99/cli/_x.py", "print(1)"),
    ("banned", WIRE, "import asyncio\nasyncio.sleep(0)"),
    ("banned", WIRE, "import time\ndef f(time_ns): return time.strftime"),
    ("banned", WIRE, "class A:\n    def print(self): return self.random.random()"),
    ("excepts", WIRE, "try:\n    x\nexcept Exception:  # noqa: BLE001 - user code\n    pass"),
    ("excepts", WIRE, "try:\n    x\nexcept BaseException:\n    y()\n    raise"),
    ("comments", WIRE, "x = 1  # noqa: E501, S101 - the reason stands here"),
    ("comments", WIRE, "x = 1  # type: ignore[misc]  # the reason stands here"),
    ("comments", WIRE, "x = 1  # pyright: ignore[reportX] - the reason stands here"),
    ("exports", WIRE, "from agent99.wire._port import Port"),
    ("exports", "src/agent99/wire/__init__.py", "from a import b as _b\n__all__: list[str] = []"),
    ("reprs", WIRE, "import enum\nclass A(enum.Enum): ...\nclass B(A): ..."),
    ("reprs", WIRE, "from typing import Protocol, Generic\nclass A(Protocol): ..."),
    ("reprs", WIRE, "class A:\n    def __repr__(self): ...\nclass B(A): ..."),
    ("reprs", KEEP, "from agent99.wire._port import Port\nclass A(Port): ..."),
    ("reprs", WIRE, "class MyError(OSError): ..."),
    ("docstrings", WIRE, '"""M."""\ndef _f(): ...\ndef f():\n    """F."""\n    def g(): ...'),
    ("test docstrings", "tests/wire/_help.py", "def test_x(): ..."),
    ("test calls", TEST, "import asyncio\nasyncio.sleep(0)"),
    ("test calls", "tests/wire/_help.py", "import asyncio\nasyncio.sleep(0.01)"),
    ("mirror", "tests/test_errors.py", ""),
    ("mirror", "tests/wire/deep/test_x.py", ""),
    ("mirror", "tests/house/test_x.py", ""),
    ("mirror", "tests/nowhere/_help.py", ""),
]


def _find(root: Path, check: str, path: str, text: str) -> list[str]:
    for name, content in {**TREE, path: text}.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return [str(finding) for finding in CHECKS[check](House(root))]


@pytest.mark.parametrize("check", CHECKS)
def test_tidy_tree_has_no_findings(tmp_path: Path, check: str) -> None:
    """A rule leaves alone what keeps it."""
    findings = _find(
        tmp_path, check, "src/agent99/wire/_port.py", TREE["src/agent99/wire/_port.py"]
    )
    on_ratchet = [one for one in findings if "take it off the ratchet" in one]
    assert on_ratchet == findings


@pytest.mark.parametrize(("check", "path", "text", "expected"), BAD)
def test_violation_is_found(
    tmp_path: Path, check: str, path: str, text: str, expected: str
) -> None:
    """A rule finds the violation that was planted, and names its place."""
    findings = _find(tmp_path, check, path, dedent(text))
    if not expected:
        assert not findings
        return
    assert any(expected in finding for finding in findings), findings


@pytest.mark.parametrize(("check", "path", "text"), GOOD)
def test_neighbour_of_a_violation_is_left_alone(
    tmp_path: Path, check: str, path: str, text: str
) -> None:
    """A rule does not find more than it should."""
    place = path.rpartition("/")[2]
    assert not [found for found in _find(tmp_path, check, path, text) if place in found]


def test_every_check_has_a_violation() -> None:
    """No rule goes untested."""
    assert set(CHECKS) == {check for check, _, _, expected in BAD if expected}


def test_card_lists_rooms_and_libraries_apart() -> None:
    """A card's rooms stand before the semicolon, its libraries after, on several lines or one."""
    card = read_card(
        "Do.\n\nMay import:  errors clock\n             ids; msgspec\nNever:  talks.\n"
    )
    assert card is not None
    assert ({"errors", "clock", "ids"}, {"msgspec"}) == (card.rooms, card.libraries)
    assert read_card("Do.") is None
