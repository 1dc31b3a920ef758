"""House rules about who may import whom."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ._tree import (
    PACKAGE,
    Finding,
    House,
    Import,
    SourceModule,
    is_standard,
    layer_of,
    read_card,
    room_of,
)

CARD_FIELDS = ("Given", "Gives", "May import", "Never")
REQUIRED = "msgspec"
"""The one library that is always there."""
LATE = frozenset({("agent", f"{PACKAGE}.systems.cache")})
"""What a room may import from its right, but inside a function or for types alone: a word on every
agent opens a system that is built on agents (`docs/decisions/016-cache-ownership.md`)."""
OPTIONAL = (
    *(
        "cronsim",
        "datasketches",
        "ddsketch",
        "nats",
        "numpy",
        "opentelemetry",
        "polars",
        "prometheus_client",
        "psycopg",
        "pyarrow",
    ),
    *("rich", "sqlalchemy", "typer", "tzdata", "uvloop"),
)
"""Libraries that `import agent99` must not load."""


def check_cards(house: House) -> Iterator[Finding]:
    """Every folder with Python in it is a room with a whole card."""
    for room, folder in house.room_folders.items():
        front = house.fronts.get(room)
        if front is None:
            place = folder.relative_to(house.root).as_posix()
            yield Finding("card", place, "a room needs an __init__.py with its card")
            continue
        card = read_card(_docstring(front))
        missing = [name for name in CARD_FIELDS if card is None or name not in card.fields]
        if missing:
            yield Finding("card", front.place, f"the card lacks {', '.join(missing)}")
        if layer_of(room) is None:
            yield Finding("card", front.place, f"the design knows no room {room!r}")
        for wanted in sorted(card.rooms if card else ()):
            if not _is_left(wanted, room):
                message = f"the card allows {wanted}, which is not to the left of {room}"
                yield Finding("card", front.place, message)


def check_imports(house: House) -> Iterator[Finding]:
    """A module imports what its room's card allows, by front doors, absolutely."""
    for module in house.modules:
        front = house.fronts.get(module.room)
        card = read_card(_docstring(front)) if front is not None else None
        for wanted in module.imports:
            place = f"{module.place}:{wanted.line}"
            if _is_late(house, module, wanted):
                continue
            if wanted.level:
                yield Finding("relative", place, "write the whole name: from agent99.…")
                continue
            target = house.target(wanted)
            if target:
                yield from _check_ours(module, place, target, card.rooms if card else None)
            elif not is_standard(wanted.module):
                library = wanted.module.split(".")[0]
                if card is not None and library not in card.libraries:
                    message = f"{library} is not on the card of {module.room} (after the `;`)"
                    yield Finding("library", place, message)
                elif card is None and library != REQUIRED:
                    message = f"a file that is a room imports no library but {REQUIRED}"
                    yield Finding("library", place, message)


def check_cycles(house: House) -> Iterator[Finding]:
    """No two files import each other, however long the way round."""
    graph = {
        module.name: sorted(
            {
                target
                for wanted in module.imports
                if (target := house.target(wanted)) and not _is_late(house, module, wanted)
            }
            & house.by_name.keys() - {module.name}
        )
        for module in house.modules
    }
    for cycle in _cycles(graph):
        place = house.by_name[cycle[0]].place
        yield Finding("cycle", place, " → ".join((*cycle, cycle[0])))


def _is_late(house: House, module: SourceModule, wanted: Import) -> bool:
    is_nested = module.comment(wanted.line).startswith(" ")
    return is_nested and (module.room, house.target(wanted)) in LATE


def _check_ours(
    module: SourceModule, place: str, target: str, allowed: frozenset[str] | None
) -> Iterator[Finding]:
    room = room_of(target)
    if room == module.room:
        is_inside = module.name.startswith(f"{PACKAGE}.{room}.")  # `__main__` belongs to the cli
        if target == f"{PACKAGE}.{room}" and is_inside:
            message = "inside a room import from the file, not through the own front door"
            yield Finding("front door", place, message)
        return
    if any(part.startswith("_") for part in target.split(".")):
        message = f"{target} belongs to its room; import from the front door agent99.{room}"
        yield Finding("front door", place, message)
    if not _is_left(room, module.room):
        yield Finding("layer", place, f"{room} is not to the left of {module.room}")
    elif allowed is not None and room not in allowed:
        yield Finding("card", place, f"{room} is not on the card of {module.room}")


def _is_left(room: str, of: str) -> bool:
    left, right = layer_of(room), layer_of(of)
    if left is None or right is None:
        return True  # `check_cards` reports a room that nobody knows
    return left < right


def _docstring(module: SourceModule | None) -> str:
    return (ast.get_docstring(module.tree) or "") if module is not None else ""


def _cycles(graph: dict[str, list[str]]) -> list[list[str]]:
    """Return one cycle for each knot of modules that reach each other: Tarjan, in a loop."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    knots: list[list[str]] = []
    for root, targets_of_root in graph.items():
        if root in index:
            continue
        work = [(root, iter(targets_of_root))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, targets = work[-1]
            target = next(targets, None)
            if target is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    knot = stack[stack.index(node) :]
                    del stack[stack.index(node) :]
                    on_stack.difference_update(knot)
                    if len(knot) > 1:
                        knots.append(knot)
            elif target not in index:
                index[target] = low[target] = len(index)
                stack.append(target)
                on_stack.add(target)
                work.append((target, iter(graph[target])))
            elif target in on_stack:
                low[node] = min(low[node], index[target])
    return [_round_trip(graph, knot) for knot in knots]


def _round_trip(graph: dict[str, list[str]], knot: list[str]) -> list[str]:
    """Return the shortest way from the knot's first module (by name) back to itself."""
    start = min(knot)
    ways = [[start]]
    seen = {start}
    while ways:
        way = ways.pop(0)
        for target in graph[way[-1]]:
            if target == start:
                return way
            if target in knot and target not in seen:
                seen.add(target)
                ways.append([*way, target])
    return knot
