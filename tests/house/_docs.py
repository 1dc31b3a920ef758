"""The documents as the house rules see them: blocks of code, links, and what must be named."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent
from typing import NamedTuple

NO_RUN = "no-run"
"""After the language of a block: compiled, but not run."""
CONTINUES = "continues"
"""After the language of a block: run after the ones before it that it continues, in one file."""

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,}|~{3,})(?P<info>[^`]*)$")
_FILE = re.compile(r"^# (?P<name>[a-z][a-z0-9_]*\.py)\s*$")
_LINK = re.compile(r"(?<!!)\[[^]]*]\((?P<target>[^)\s]+)(?:\s+\"[^\"]*\")?\)")
_ANCHOR = re.compile(r"^#+\s+(?P<title>.+?)\s*#*$")


class Block(NamedTuple):
    """A fenced block of a document."""

    document: str
    """Path from the root."""
    line: int
    """Of its first line; starts at 1."""
    language: str
    marks: frozenset[str]
    text: str

    @property
    def place(self) -> str:
        """Where it stands, for a test's name."""
        return f"{self.document}:{self.line}"

    @property
    def file(self) -> str:
        """The file that its first line names (`# greeter.py`), or an empty string."""
        match = _FILE.match(self.text.split("\n", maxsplit=1)[0])
        return match["name"] if match else ""


def documents(root: Path) -> list[Path]:
    """Return every document whose code is executed."""
    top = [path for path in sorted(root.glob("*.md")) if path.name != "CHANGELOG.md"]
    return [*top, *sorted((root / "docs").rglob("*.md")), *sorted((root / "src").rglob("*.md"))]


def blocks(root: Path, path: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a document."""
    document = path.relative_to(root).as_posix()
    fence, language, marks, start = "", "", frozenset[str](), 0
    margin, held = 0, list[str]()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        match = _FENCE.match(line)
        if fence:
            if match and match["ticks"].startswith(fence) and not match["info"].strip():
                yield Block(document, start, language, marks, "\n".join(held) + "\n")
                fence = ""
            else:
                held.append(line[min(margin, len(line) - len(line.lstrip(" "))) :])
        elif match:
            words = match["info"].split()
            fence, margin, held, start = match["ticks"], len(match["indent"]), [], number + 1
            language, marks = (words[0] if words else ""), frozenset(words[1:])
    if fence:
        yield Block(document, start, "unclosed", frozenset(), "\n".join(held))


def programmes(found: list[Block]) -> Iterator[tuple[Block, str]]:
    """Yield each Python block that is to be run, with all that it continues before it."""
    whole: dict[str, str] = {}
    for block in found:
        if block.language != "python":
            continue
        before = whole.get(block.document, "") if CONTINUES in block.marks else ""
        whole[block.document] = f"{before}\n{block.text}" if before else block.text
        if NO_RUN not in block.marks:
            yield block, whole[block.document]


def compiles(text: str, place: str, *, is_fragment: bool = False) -> object:
    """Compile a snippet; it may await at its top level, as in a notebook.

    A fragment may also come from inside an operation, and return.

    Raises:
        SyntaxError: it is no Python.
    """
    if is_fragment:
        text = f"async def operation(self):\n{indent(text, '    ')}\n    pass\n"
    return compile(text, place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def commands(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Yield the programme and the words of each `$ …` line of a console block."""
    for line in re.sub(r"\\\n\s*", " ", block.text).splitlines():
        if line.startswith("$ "):
            words = line[2:].split("#")[0].split()
            while words and re.fullmatch(r"[A-Z][A-Z0-9_]*=\S*", words[0]):
                words.pop(0)
            if words:
                yield words[0], words[1:]


def broken_links(root: Path, path: Path) -> Iterator[str]:
    """Yield each link to a file or heading of ours that is not there."""
    text = re.sub(r"(?ms)^ *(`{3,}|~{3,}).*?^ *\1`*$", "", path.read_text(encoding="utf-8"))
    for match in _LINK.finditer(re.sub(r"`[^`\n]*`", "", text)):
        target = match["target"]
        if re.match(r"[a-z]+:", target):
            continue  # the web is not ours to test
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists() or not file.is_relative_to(root):
            yield f"{path.relative_to(root)}: no file {target}"
        elif anchor and file.suffix == ".md" and anchor not in _anchors(file):
            yield f"{path.relative_to(root)}: no heading {target}"


def named_in(folder: Path) -> set[str]:
    """Return every word that stands in code type in a folder's documents."""
    words: set[str] = set()
    for path in sorted(folder.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        for code in re.findall(r"`([^`\n]+)`", text):
            words.add(code)
            words.update(re.findall(r"[A-Za-z_][A-Za-z0-9_-]*", code))
    return words


def _anchors(path: Path) -> set[str]:
    anchors: set[str] = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        match = _ANCHOR.match(line)
        if match:
            title = re.sub(r"[^\w\- ]", "", match["title"].lower())
            anchors.add(title.replace(" ", "-"))
    return anchors
