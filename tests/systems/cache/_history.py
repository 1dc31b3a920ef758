"""What clients asked a cache and were answered, written down as it takes place.

Each process has a file of its own, with a line before each operation and one after it: what a
killed process had under way is known to have begun. The clock is the machine's monotonic one, which
all its processes share. Of all files together each key has one history.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from agent99.errors import Agent99Error, NoAgentError, UsageError
from agent99.systems.cache import Cache
from tests.systems.cache._linear import find_anomaly
from tests.systems.cache._register import Operation, Outcome, Value

T = TypeVar("T")
Result = Value | bool | None

NOT_SENT: Final = (UsageError, NoAgentError)
"""With any other error an operation may have taken effect."""
_now_ns: Final = time.monotonic_ns


class Began(msgspec.Struct, frozen=True, tag="began"):
    """An operation is about to be asked for."""

    number: int
    """Of the operation, in its file."""
    client: str
    key: str
    name: str
    at_ns: int
    value: Value | None = None
    expected: int = 0


class Ended(msgspec.Struct, frozen=True, tag="ended", omit_defaults=True):
    """An operation came back."""

    number: int
    at_ns: int
    outcome: Outcome
    result: Result = None
    version: int = 0
    code: str = ""
    """Of the error; empty when there was none."""


class Recorder:
    """The file of one process.

    Invariant: a line is with the operating system before the next thing happens.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / f"{os.getpid()}.history"
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        self._numbers = count()

    def __repr__(self) -> str:
        return f"Recorder({self._file})"

    def number(self) -> int:
        """Return what the next operation is called by."""
        return next(self._numbers)

    def write(self, line: Began | Ended) -> None:
        """Write a line."""
        os.write(self._file, msgspec.json.encode(line) + b"\n")

    def close(self) -> None:
        """Write no more."""
        os.close(self._file)


class Session:
    """One client's way to a cache, which is written down; it asks one thing at a time.

    What the cache raises is raised here, too.
    """

    def __init__(self, cache: Cache[Any], client: str, recorder: Recorder) -> None:
        self.client = client
        self._cache = cache
        self._recorder = recorder

    def __repr__(self) -> str:
        return f"Session({self.client!r})"

    async def get(self, key: str) -> tuple[Value | None, int]:
        """Return the value and its version; a miss: None and 0."""
        return await self._do(key, "get", self._fetch(key), lambda found: found)

    async def set(self, key: str, value: Value) -> int:
        """Set a key; returns its version."""
        work = self._cache.set(key, value)
        return await self._do(key, "set", work, lambda version: (None, version), value)

    async def delete(self, key: str) -> bool:
        """Delete a key; returns whether it was there."""
        work = self._cache.delete(key)
        return await self._do(key, "delete", work, lambda existed: (existed, 0))

    async def add(self, key: str, value: Value) -> bool:
        """Set a key that is not there."""
        work = self._cache.add(key, value)
        return await self._do(key, "add", work, lambda is_added: (is_added, 0), value)

    async def incr(self, key: str) -> int:
        """Count; returns the sum."""
        return await self._do(key, "incr", self._cache.incr(key), lambda total: (total, 0), 1)

    async def cas(self, key: str, value: Value, *, version: int) -> int:
        """Set a key that is still at a version; returns the new one, or 0."""
        work = self._swap(key, value, version)
        return await self._do(key, "cas", work, lambda new: (new > 0, new), value, expected=version)

    async def _fetch(self, key: str) -> tuple[Value | None, int]:
        hit = await self._cache.fetch(key)
        return (None, 0) if hit is None else (hit.value, hit.version)

    async def _swap(self, key: str, value: Value, version: int) -> int:
        return await self._cache.cas(key, value, version=version) or 0

    async def _do(
        self,
        key: str,
        name: str,
        work: Awaitable[T],
        told: Callable[[T], tuple[Result, int]],
        value: Value | None = None,
        *,
        expected: int = 0,
    ) -> T:
        number = self._recorder.number()
        began = Began(number, self.client, key, name, _now_ns(), value, expected)
        self._recorder.write(began)
        try:
            answer = await work
        except Agent99Error as error:
            outcome: Outcome = "failed" if isinstance(error, NOT_SENT) else "unknown"
            self._recorder.write(Ended(number, _now_ns(), outcome, code=error.code))
            raise
        at_ns = _now_ns()
        self._recorder.write(Ended(number, at_ns, "ok", *told(answer)))
        return answer


# --- reading --------------------------------------------------------------------------------------

Histories = dict[str, list[Operation]]
"""The operations by key."""


def read_histories(folder: Path) -> Histories:
    """Return what all processes have written into a folder."""
    found: Histories = defaultdict(list)
    for path in sorted(folder.glob("*.history")):
        for key, operation in _read(path):
            found[key].append(operation)
    return dict(found)


def _read(path: Path) -> Iterator[tuple[str, Operation]]:
    began: dict[int, Began] = {}
    ended: dict[int, Ended] = {}
    for text in path.read_bytes().splitlines():
        line = msgspec.json.decode(text, type=Began | Ended)
        if isinstance(line, Began):
            began[line.number] = line
        else:
            ended[line.number] = line
    for number, each in began.items():
        yield each.key, _operation(each, ended.get(number))


def _operation(began: Began, ended: Ended | None) -> Operation:
    asked = Operation(
        client=began.client,
        name=began.name,
        invoked_ns=began.at_ns,
        value=began.value,
        expected=began.expected,
        outcome="unknown",
    )
    if ended is None or ended.outcome == "unknown":
        return asked
    return msgspec.structs.replace(
        asked,
        returned_ns=ended.at_ns,
        outcome=ended.outcome,
        result=ended.result,
        version=ended.version,
    )


# --- judging --------------------------------------------------------------------------------------


def findings(histories: Histories) -> list[str]:
    """Return, in words, each key that was not at one place, and each session that went back."""
    found: list[str] = []
    for key, operations in sorted(histories.items()):
        anomaly = find_anomaly(operations)
        found += [f"{key}: {anomaly}"] if anomaly is not None else []
        found += [f"{key}: {text}" for text in steps_back(operations)]
    return found


def steps_back(operations: Sequence[Operation]) -> list[str]:
    """Return, in words, where a session saw an older version of a key than before."""
    latest: dict[str, Operation] = {}
    found: list[str] = []
    for each in sorted(operations, key=lambda one: one.invoked_ns):
        if not each.version:
            continue
        before = latest.setdefault(each.client, each)
        if each.version < before.version:
            found.append(f"a session went back: {each}; before that: {before}")
        else:
            latest[each.client] = each
    return found
