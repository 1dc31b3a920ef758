"""From files and modules to agents, or one sentence why not."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent99.cli._exits import RefusalError
from agent99.cli._load import load_agents
from agent99.cli._run import crew_name
from agent99.errors import UsageError
from tests.cli._programmes import CREW


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the current folder; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def _names(sources: list[str]) -> list[str]:
    return [agent_class.__name__ for agent_class in load_agents(sources)]


def test_a_file_gives_every_agent_that_it_defines(folder: Path) -> None:
    """Neither what it imports, nor what is private, nor a mere base."""
    more = "class _Hidden(Echo):\n    pass\n"
    (folder / "crew_a.py").write_text(CREW + more)
    (folder / "crew_b.py").write_text("from crew_a import Echo\nclass Other(Echo): pass\n")
    assert _names(["crew_a.py"]) == ["Greeter", "Echo"]
    assert _names([str(folder / "crew_b.py")]) == ["Other"]


def test_a_class_can_be_named(folder: Path) -> None:
    """Also an imported one; naming it twice runs it once."""
    (folder / "crew_c.py").write_text(CREW)
    (folder / "crew_d.py").write_text("from crew_c import Echo\n")
    assert _names(["crew_c.py:Echo", "crew_d.py:Echo", "crew_c:Greeter"]) == ["Echo", "Greeter"]


def test_a_module_is_found_from_the_current_folder(folder: Path) -> None:
    """As `python -m` would find it."""
    package = folder / "some_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "crew.py").write_text(CREW)
    assert _names(["some_package.crew"]) == ["Greeter", "Echo"]


def test_what_a_file_defines_can_be_pickled(folder: Path) -> None:
    """Operations that run in a process of their own are found there again."""
    (folder / "crew_e.py").write_text(CREW)
    greeter = load_agents(["crew_e.py:Greeter"])[0]
    assert greeter.crunch is pickle.loads(pickle.dumps(greeter.crunch))  # type: ignore[attr-defined]  # a user's


def test_an_agent_that_only_hears_events_is_one(folder: Path) -> None:
    """It has neither capabilities nor uses, and is no base either."""
    text = "from agent99 import Agent, on\nclass Ear(Agent):\n    @on('a.*')\n"
    (folder / "ear.py").write_text(f"{text}    async def heard(self, event: dict) -> None: ...\n")
    assert _names(["ear.py"]) == ["Ear"]


_AGENT = "from agent99 import Agent, operation\n"


@pytest.mark.parametrize(
    ("text", "source", "part"),
    [
        ("def f(:\n", "file.py", r"file\.py:1: invalid syntax: def f\(:"),
        ("x = 1\n\n(\n", "file.py", r"file\.py:3: '\(' was never closed: \("),
        ("x\0y", "file.py", "null bytes"),
        ("import nowhere_at_all\n", "file.py", r"file\.py:1: ModuleNotFoundError: No module named"),
        ("1 / 0\n", "file.py", r"file\.py:1: ZeroDivisionError: division by zero \(while"),
        ("import sys\nsys.exit(3)\n", "file.py", r"file\.py:2: SystemExit: 3"),
        ("from . import x\n", "file.py", r"attempted relative import"),
        ("", "file.py", "file.py defines no agent: write a class that derives from"),
        (f"{_AGENT}class A(Agent): pass\n", "file.py", "A has neither capabilities nor uses"),
        (CREW, "file.py:Greter", "file.py defines no class Greter; there is Greeter"),
        ("class A: pass\n", "file.py:A", "A does not derive from agent99.Agent"),
        (f"{_AGENT}class A(Agent): capabilities = ('a',)\n", "file.py", "A offers a and has no"),
        (
            f"{_AGENT}class A(Agent):\n capabilities = ('a b',)\n",
            "file.py",
            "'a b' is no capability",
        ),
        (CREW, "fle.py", r"there is no file .*fle\.py; did you mean file\.py\?"),
        (CREW, "nowhere/file.py", r"there is no file .*nowhere/file\.py$"),
        (CREW, ".", "is a folder: name a file in it"),
        (CREW, "fle", "there is no module 'fle'"),
        (CREW, "file", None),
        ("import nowhere_at_all\n", "file", "No module named 'nowhere_at_all'"),
        (CREW, "not a module", "there is no file or module 'not a module'"),
        (CREW, "nowhere.file", "there is no module 'nowhere.file'"),
    ],
)
def test_a_source_that_cannot_be_loaded(
    folder: Path, text: str, source: str, part: str | None
) -> None:
    """One sentence says where and why."""
    (folder / "file.py").write_text(text)
    if part is None:
        assert load_agents([source])
        return
    with pytest.raises((RefusalError, UsageError), match=part) as caught:
        load_agents([source])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("json.py", "a module of Python's own"),
        ("idlelib.py", "a module of Python's own"),
        ("agent99.py", "a module that is loaded already"),
    ],
)
def test_a_file_with_the_name_of_another_module(folder: Path, name: str, part: str) -> None:
    """It could not be imported under its stem, nor pickled."""
    (folder / name).write_text(CREW)
    with pytest.raises(RefusalError, match=rf"{name} has the name of {part} .*: rename the file"):
        load_agents([name])


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (["greeter.py"], "greeter"),
        (["a/b/greeter.py:Greeter"], "Greeter"),
        (["shop.orders"], "orders"),
        (["a.py", "b.py", "c.py"], "a+2"),
    ],
)
def test_what_workers_are_called(sources: list[str], expected: str) -> None:
    """Short, and like what they run."""
    assert expected == crew_name(sources)
