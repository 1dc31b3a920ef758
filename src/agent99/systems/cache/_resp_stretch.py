"""Commands that came together, done together: as if one after the other, but in one round."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, NamedTuple

from agent99.errors import Agent99Error
from agent99.systems.cache._resp_commands import Command
from agent99.systems.cache._resp_port import NOT_A_NUMBER, OVERFLOW, Strings
from agent99.systems.cache._resp_replies import OK, RefusedError, error
from agent99.systems.cache._resp_session import Call

_log = logging.getLogger("agent99.cache")
_WORDS: Final = {
    NOT_A_NUMBER: "ERR value is not an integer or out of range",
    OVERFLOW: "ERR increment or decrement would overflow",
}


class _Entry(NamedTuple):
    place: int
    command: Command
    call: Call
    items: Mapping[str, bytes]
    """What the call writes, if that is all it does."""


class Stretch:
    """Calls of one client, none of which can tell in which order the others were made.

    Reads share one `get_many`, plain writes one `set_many`, and the rest is done side by side. A
    client sees what it would see if they were made one by one; others may see the writes in any
    order, as they may those of a client that does not wait for its answers.

    Invariant: a key that one call writes is in no other call, and a call that wants to be alone is.

    Args:
        strings: What is read and written.
        size_max: After so many calls, or so many keys, it takes no more.
    """

    def __init__(self, strings: Strings, size_max: int) -> None:
        self._strings = strings
        self._size_max = size_max
        self._answers: list[bytes] = []
        self._reads: list[_Entry] = []
        self._writes: list[_Entry] = []
        self._others: list[_Entry] = []
        self._read: set[str] = set()
        self._written: set[str] = set()
        self._is_closed = False

    def __repr__(self) -> str:
        return f"Stretch({len(self._answers)})"

    def __len__(self) -> int:
        return len(self._answers)

    @property
    def is_full(self) -> bool:
        """Whether it takes no more."""
        keys_count = len(self._read) + len(self._written)
        return self._is_closed or max(keys_count, len(self._answers)) >= self._size_max

    def takes(self, command: Command, call: Call) -> bool:
        """Return whether a call may be made together with those that it has."""
        if self._is_closed or command.effect == "alone":
            return not self._answers
        if not self._written.isdisjoint(call.keys):
            return False
        return command.effect != "write" or self._read.isdisjoint(call.keys)

    def add(self, command: Command, call: Call) -> None:
        """Add a call that it takes."""
        items = command.items(call) if command.items is not None else None
        entry = _Entry(len(self._answers), command, call, items or {})
        if command.fold is not None:
            self._reads.append(entry)
        elif items is not None:
            self._writes.append(entry)
        else:
            self._others.append(entry)
        (self._written if command.effect == "write" else self._read).update(call.keys)
        self._is_closed = command.effect == "alone"
        self._answers.append(b"")

    def add_answer(self, answer: bytes) -> None:
        """Add what is answered already."""
        self._answers.append(answer)

    async def run(self) -> bytes:
        """Make the calls; return the answers in the order in which they were added."""
        rounds: list[Coroutine[Any, Any, None]] = []
        if self._reads:
            rounds.append(self._make(self._reads, self._get))
        if self._writes:
            rounds.append(self._make(self._writes, self._set))
        rounds.extend(self._make([entry], _run) for entry in self._others)
        if len(rounds) == 1:
            await rounds[0]
        else:
            await asyncio.gather(*rounds)
        return b"".join(self._answers)

    async def _make(
        self,
        entries: Sequence[_Entry],
        make: Callable[[Sequence[_Entry]], Awaitable[Sequence[bytes]]],
    ) -> None:
        """Make calls at once; reads each by itself where one of them may be what is wrong.

        A write is never made again: others may have changed since what it had written.
        """
        try:
            answers = await make(entries)
        except Exception as problem:  # noqa: BLE001 - whatever happened, the client waits
            is_of_one = isinstance(problem, Agent99Error) and not problem.retryable
            if is_of_one and len(entries) > 1 and entries[0].command.fold is not None:
                await asyncio.gather(*(self._make([entry], make) for entry in entries))
                return
            answers = [_answer_to(problem)] * len(entries)
        for entry, answer in zip(entries, answers, strict=True):
            self._answers[entry.place] = answer

    async def _get(self, entries: Sequence[_Entry]) -> list[bytes]:
        keys = [key for entry in entries for key in entry.call.keys]
        values = await self._strings.get_many(keys)
        answers: list[bytes] = []
        at = 0
        for entry in entries:
            fold = entry.command.fold
            assert fold is not None
            count = len(entry.call.keys)
            answers.append(fold(entry.call.session.dialect, values[at : at + count]))
            at += count
        return answers

    async def _set(self, entries: Sequence[_Entry]) -> list[bytes]:
        problems = await self._strings.set_many(
            {key: value for entry in entries for key, value in entry.items.items()}
        )
        if not problems:
            return [OK] * len(entries)
        return [_written(entry, problems) for entry in entries]


def _written(entry: _Entry, problems: Mapping[str, Agent99Error]) -> bytes:
    """Say that all is written that a call writes, or what is wrong with the first that is not."""
    for key in entry.items:
        if key in problems:
            return _answer_to(problems[key])
    return OK


async def _run(entries: Sequence[_Entry]) -> list[bytes]:
    (entry,) = entries
    assert entry.command.run is not None
    answer = entry.command.run(entry.call)
    return [answer if isinstance(answer, bytes) else await answer]


def _answer_to(problem: Exception) -> bytes:
    """Say what went wrong, as Redis would where it knows the like."""
    if isinstance(problem, RefusedError):
        return problem.answer
    if not isinstance(problem, Agent99Error):
        _log.error("a command of a client broke", exc_info=problem)
        return error("ERR internal error")
    word = "TRYAGAIN" if problem.retryable else "ERR"
    return error(_WORDS.get(problem.code) or f"{word} {problem.code}: {problem}")
