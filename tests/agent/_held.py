"""What a process holds: the size of every table that can be reached, objects, tasks, memory."""

from __future__ import annotations

import asyncio
import gc
import linecache
import os
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import msgspec

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_CONTAINERS = (dict, list, set, deque)
_ENTRIES_MAX = 64
"""Of a table, so many entries are looked into: those of a kind are alike."""


class Held(msgspec.Struct, frozen=True):
    """What was there at one moment."""

    tables: dict[str, int]
    """By the way to it, the length of everything that has one."""
    tasks: int
    blocks: int
    """Pieces of memory that Python's allocator has handed out: any object is one or two."""
    rss_bytes: int


def rss_bytes() -> int:
    """Return the memory that this process occupies now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def take_stock(*roots: object) -> Held:
    """Count what the roots, and everything of ours that they reach, hold now."""
    linecache.clearcache()  # the source of every frame that the watchdog named meanwhile
    gc.collect()
    tables = {
        f"{number}: {name}": size
        for number, root in enumerate(roots)
        for name, size in tables_of(root)
    }
    return Held(tables, len(asyncio.all_tasks()), sys.getallocatedblocks(), rss_bytes())


def tables_of(root: object) -> Iterator[tuple[str, int]]:
    """Yield the length of every dict, list, set and deque, under the way that leads to it."""
    seen: set[int] = set()
    names: dict[str, int] = {}
    waiting = deque([(type(root).__name__, root)])
    while waiting:
        path, thing = waiting.popleft()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, _CONTAINERS):
            number = names[path] = names.get(path, -1) + 1
            yield (f"{path}#{number}" if number else path), len(thing)
            entries = list(thing.values()) if isinstance(thing, dict) else list(thing)
            waiting.extend((f"{path}[]", entry) for entry in entries[:_ENTRIES_MAX])
        if _may_grow(thing):
            waiting.extend((f"{path}.{name}", value) for name, value in _attributes(thing))
        elif isinstance(thing, tuple):
            waiting.extend((f"{path}()", entry) for entry in thing)


def _may_grow(thing: object) -> bool:
    is_ours = type(thing).__module__.startswith("agent99.")
    return is_ours and not (isinstance(thing, msgspec.Struct) and thing.__struct_config__.frozen)


def _attributes(thing: object) -> Iterator[tuple[str, object]]:
    names = dict.fromkeys(getattr(thing, "__dict__", ()))
    for kind in type(thing).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        names.update(dict.fromkeys([slots] if isinstance(slots, str) else slots))
    for field in getattr(thing, "__struct_fields__", ()):
        names[field] = None
    for name in names:
        if name.startswith("__") or name == "_schema":
            continue
        try:
            yield name, getattr(thing, name)
        except AttributeError:  # a slot that was never set
            continue
