"""Documents are executed: their Python runs, their commands exist, their links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from . import _cli
from ._docs import (
    NO_RUN,
    Block,
    blocks,
    broken_links,
    commands,
    compiles,
    documents,
    named_in,
    programmes,
)

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 60
RUNNER = """
import ast, asyncio, inspect, sys
name = sys.argv[1]
code = compile(open(name).read(), name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
scope = {"__name__": "__main__", "__file__": name}
if code.co_flags & inspect.CO_COROUTINE:
    asyncio.run(eval(code, scope))
else:
    exec(code, scope)
"""

_BLOCKS = [block for path in documents(ROOT) for block in blocks(ROOT, path)]
_PYTHON = [block for block in _BLOCKS if block.language in {"python", "unclosed"}]
_CONSOLE = [block for block in _BLOCKS if block.language == "console"]
_PROGRAMMES = list(programmes(_BLOCKS))


def run_programme(folder: Path, text: str, files: dict[str, str]) -> None:
    """Run a snippet as a script in a folder of its own, with the files that its document names.

    Raises:
        AssertionError: it fails, or takes too long; the message has its last words.
    """
    for name, content in files.items():
        (folder / name).write_text(content)
    script = folder / "snippet_of_the_document.py"
    script.write_text(text)
    inherited = {name: value for name, value in os.environ.items() if "AGENT99" not in name}
    environment = {**inherited, "AGENT99_LINGER_S": "0.2", "PYTHONPATH": str(folder)}
    try:
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-c", RUNNER, script.name],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        pytest.fail(f"took more than {TIMEOUT_S} s", pytrace=False)
    assert done.returncode == 0, done.stderr[-3_000:]


@pytest.mark.parametrize("block", _PYTHON, ids=[block.place for block in _PYTHON])
def test_python_block_compiles(block: Block) -> None:
    """Every Python block of a document is Python, also one that is not run."""
    assert block.language == "python", f"{block.place}: the block is not closed"
    compiles(block.text, block.place, is_fragment=NO_RUN in block.marks)


@pytest.mark.parametrize(
    ("block", "text"), _PROGRAMMES, ids=[block.place for block, _ in _PROGRAMMES]
)
def test_python_block_runs(tmp_path: Path, block: Block, text: str) -> None:
    """Every Python block that is not marked `no-run` runs, in a folder of its own."""
    files = {
        other.file: other.text
        for other in _BLOCKS
        if other.language == "python" and other.document == block.document and other.file
    }
    run_programme(tmp_path, text, files)


@pytest.mark.parametrize("block", _CONSOLE, ids=[block.place for block in _CONSOLE])
def test_console_block_names_real_commands(block: Block) -> None:
    """Every `$ agent99 …` and `$ make …` of a document exists."""
    wrong = [
        f"{block.place}: {programme} {' '.join(words)}"
        for programme, words in commands(block)
        if not _exists(programme, words)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "path", documents(ROOT), ids=[str(path.relative_to(ROOT)) for path in documents(ROOT)]
)
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link of a document leads to a file and a heading that are there."""
    assert [] == list(broken_links(ROOT, path))


def _must_be_documented() -> dict[str, set[str]]:
    import agent99
    from agent99 import errors, settings

    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.Agent99Error)
    ]
    return {
        "public names": set(agent99.__all__),
        "error codes": {cls.code for cls in classes},
        "settings": set(settings._VARIABLES),
        "commands": {f"agent99 {command}" for command in _cli.commands()},
        "control actions": {"shutdown", "pause", "resume", "status", "trace", "update_config"},
    }


@pytest.mark.skipif(
    not list((ROOT / "docs" / "reference").glob("*.md")), reason="there is no docs/reference yet"
)
@pytest.mark.parametrize(
    "what", ["public names", "error codes", "settings", "commands", "control actions"]
)
def test_reference_is_whole(what: str) -> None:
    """Every public name, error code, setting, command and control action is in docs/reference."""
    named = named_in(ROOT / "docs" / "reference")
    missing = [
        name
        for name in sorted(_must_be_documented()[what])
        if name not in named and not any(code.startswith(f"{name} ") for code in named)
    ]
    assert not missing, f"docs/reference does not name these {what}: {', '.join(missing)}"


@cache
def _make_targets() -> set[str]:
    return set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))


@cache
def _agent99_commands() -> set[str]:
    return _cli.commands()


def _exists(programme: str, words: list[str]) -> bool:
    if programme == "make":
        return all(word in _make_targets() for word in words if "=" not in word and word[0] != "-")
    if programme == "agent99":
        plain = [word for word in words if not word.startswith("-")]
        known = _agent99_commands()
        return not plain or any(" ".join(plain[:size]) in known for size in (1, 2))
    return True
