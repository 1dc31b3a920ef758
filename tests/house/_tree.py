"""The source tree as the house rules see it: rooms, their cards, who imports whom."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

PACKAGE = "agent99"
TOP = PACKAGE
"""The room of the front door itself, `src/agent99/__init__.py`."""

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("clock", "ids", "settings"),
    ("observe",),
    ("wire", "envelope", "embedded"),
    ("journal", "store"),
    ("dispatch", "registry"),
    ("work",),
    ("agent",),
    ("groups", "saga", "schedules"),
    ("projections",),
    (TOP,),
    ("testing", "systems"),
    ("gateway", "dashboard"),
    ("cli",),
)
"""Rooms from left to right: a room imports only from layers to its left."""

SYSTEMS = "systems"
"""Its folders are rooms of their own (`systems.shop`): they meet on the mesh, not in imports."""


class Finding(NamedTuple):
    """A broken rule."""

    rule: str
    place: str
    """Path from the root, with the line where there is one: `src/agent99/ids.py:12`."""
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message} [{self.rule}]"


class Import(NamedTuple):
    """One imported name."""

    line: int
    module: str
    """Dotted name as written: `agent99.wire`, `os.path`."""
    name: str
    """What is taken from it; empty for `import module`."""
    level: int
    """Dots of a relative import."""


class Card(NamedTuple):
    """What a room's `__init__` says of itself."""

    rooms: frozenset[str]
    libraries: frozenset[str]
    fields: frozenset[str]


class Module:
    """One parsed file."""

    def __init__(self, root: Path, path: Path) -> None:
        self.path = path
        self.place = path.relative_to(root).as_posix()
        self.text = path.read_text(encoding="utf-8")
        self.lines = self.text.splitlines()
        self.tree = ast.parse(self.text, self.place)

    def __repr__(self) -> str:
        return f"Module({self.place})"

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        """Every import, also inside functions and under TYPE_CHECKING."""
        found: list[Import] = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [Import(node.lineno, alias.name, "", 0) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found += [
                    Import(node.lineno, node.module or "", alias.name, node.level)
                    for alias in node.names
                ]
        return tuple(found)

    @cached_property
    def aliases(self) -> dict[str, str]:
        """What each imported name stands for: `dt` → `datetime`, `sleep` → `asyncio.sleep`."""
        names: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    whole = alias.name if alias.asname else alias.name.split(".")[0]
                    names[alias.asname or whole] = whole
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                for alias in node.names:
                    names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        return names

    def dotted(self, node: ast.expr) -> str:
        """Return the full name that an expression stands for, or an empty string."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        parts.append(self.aliases.get(node.id, node.id))
        return ".".join(reversed(parts))

    def functions(self) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        """Yield every function with its qualified name, nested ones included."""
        yield from _functions(self.tree, "")

    def comment(self, line: int) -> str:
        """Return a line of the file; lines count from 1."""
        return self.lines[line - 1]


class SourceModule(Module):
    """A file of the package."""

    def __init__(self, root: Path, path: Path) -> None:
        super().__init__(root, path)
        inside = path.relative_to(root / "src" / PACKAGE)
        parts = inside.with_suffix("").parts
        self.is_front = parts[-1] == "__init__"
        if self.is_front:
            parts = parts[:-1]
        self.name = ".".join((PACKAGE, *parts))
        self.room = room_of(self.name)

    @property
    def is_private_file(self) -> bool:
        """Whether the file belongs to its room alone."""
        return self.name.rpartition(".")[2].startswith("_")


class House:
    """All of it, parsed once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        source = root / "src" / PACKAGE
        self.modules = [SourceModule(root, path) for path in sorted(source.rglob("*.py"))]
        self.by_name = {module.name: module for module in self.modules}
        self.tests = [Module(root, path) for path in sorted((root / "tests").rglob("*.py"))]

    def __repr__(self) -> str:
        return f"House({self.root}, modules={len(self.modules)}, tests={len(self.tests)})"

    @cached_property
    def fronts(self) -> dict[str, SourceModule]:
        """Each room's front door: its `__init__`, or the file that is the room."""
        rooms: dict[str, SourceModule] = {}
        for module in self.modules:
            name = module.name.removeprefix(f"{PACKAGE}.")
            if name == module.room or module.name == PACKAGE:
                rooms[module.room] = module
        return rooms

    @cached_property
    def room_folders(self) -> dict[str, Path]:
        """Rooms that are folders; the front door's own and the list of systems are none."""
        return {
            module.room: module.path.parent
            for module in self.modules
            if module.path.parent != self.root / "src" / PACKAGE and module.room != SYSTEMS
        }

    def target(self, wanted: Import) -> str:
        """Return the module of ours that an import reaches, or an empty string."""
        if wanted.level or wanted.module.split(".")[0] != PACKAGE:
            return ""
        inner = f"{wanted.module}.{wanted.name}"
        if wanted.name and inner in self.by_name:
            return inner
        return wanted.module


def room_of(name: str) -> str:
    """Return the room of a module's dotted name."""
    parts = name.split(".")[1:]
    if not parts or parts[0] == "__main__":
        return TOP if not parts else "cli"
    if parts[0] == SYSTEMS and len(parts) > 1 and not parts[1].startswith("_"):
        return f"{SYSTEMS}.{parts[1]}"
    return parts[0]


def layer_of(room: str) -> int | None:
    """Return the room's place from the left, or None for a room that the design does not know."""
    head = room.split(".", maxsplit=1)[0]
    return next((index for index, layer in enumerate(LAYERS) if head in layer), None)


def read_card(docstring: str) -> Card | None:
    """Return the card in a docstring, or None without a `May import:` line."""
    values: dict[str, str] = {}
    field = ""
    for line in docstring.splitlines():
        head, colon, rest = line.partition(":")
        if colon and head in {"Given", "Gives", "May import", "Never"}:
            field = head
            values[field] = rest.strip()
        elif field and line.startswith(" "):
            values[field] += " " + line.strip()
        else:
            field = ""
    if "May import" not in values:
        return None
    rooms, _, libraries = values["May import"].partition(";")
    return Card(
        frozenset(rooms.replace(",", " ").split()) - {"nothing"},
        frozenset(libraries.replace(",", " ").split()),
        frozenset(name for name, value in values.items() if value),
    )


def is_standard(module: str) -> bool:
    """Tell whether a module comes with Python."""
    return module.split(".", maxsplit=1)[0] in sys.stdlib_module_names


def _functions(
    node: ast.AST, prefix: str
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + child.name, child
            yield from _functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        else:
            yield from _functions(child, prefix)
