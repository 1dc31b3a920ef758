"""What the RESP listener needs of a cache, in a dictionary: the twin that its tests use."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent99.clock import Clock
from agent99.errors import Agent99Error, Failure, UsageError
from agent99.systems.cache._resp_glob import compile_glob
from agent99.systems.cache._resp_port import NOT_A_NUMBER, OVERFLOW, Only

KEY_BYTES_MAX = 1_024
INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")


@dataclass
class Held:
    """A value."""

    value: bytes
    expires_us: int = 0


class MemoryStrings:
    """Strings in a dictionary; what is asked for is counted, and may be made to fail."""

    def __init__(self, clock: Clock) -> None:
        self.calls: Counter[str] = Counter()
        self.held: dict[str, Held] = {}
        self.broken: dict[str, Exception] = {}
        """By key: what a call raises that names it."""
        self._clock = clock

    def __repr__(self) -> str:
        return f"MemoryStrings({len(self.held)})"

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        self._count("get_many", keys)
        found = [self._find(key) for key in keys]
        return [held.value if held else None for held in found]

    async def set(
        self,
        key: str,
        value: bytes,
        *,
        ttl_us: int = 0,
        keep_ttl: bool = False,
        only: Only = "",
        returns_old: bool = False,
    ) -> tuple[bool, bytes | None]:
        self._count("set", [key])
        old = self._find(key)
        told = old.value if old and returns_old else None
        if (only == "new" and old) or (only == "known" and not old):
            return False, told
        kept_us = old.expires_us if old and keep_ttl else 0
        self.held[key] = Held(value, self._clock.wall_us() + ttl_us if ttl_us else kept_us)
        return True, told

    async def set_many(self, items: Mapping[str, bytes]) -> dict[str, Agent99Error]:
        self._count("set_many", [])
        failed: dict[str, Agent99Error] = {}
        for key, value in items.items():
            try:
                self._check(key)
            except Agent99Error as error:
                failed[key] = error
            else:
                self.held[key] = Held(value)
        return failed

    async def take(self, key: str) -> bytes | None:
        self._count("take", [key])
        held = self._find(key)
        self.held.pop(key, None)
        return held.value if held else None

    async def delete(self, keys: Sequence[str]) -> int:
        self._count("delete", keys)
        known = {key for key in keys if self._find(key)}
        for key in known:
            del self.held[key]
        return len(known)

    async def exists(self, keys: Sequence[str]) -> int:
        self._count("exists", keys)
        return sum(self._find(key) is not None for key in keys)

    async def touch(self, key: str, ttl_us: int) -> bool:
        self._count("touch", [key])
        held = self._find(key)
        if held:
            held.expires_us = self._clock.wall_us() + ttl_us if ttl_us else 0
        return held is not None

    async def ttl_us(self, key: str) -> int | None:
        self._count("ttl_us", [key])
        held = self._find(key)
        if held is None:
            return None
        return held.expires_us - self._clock.wall_us() if held.expires_us else 0

    async def incr(self, key: str, amount: int) -> int:
        self._count("incr", [key])
        held = self._find(key) or Held(b"0")
        number = int(held.value) if INTEGER.fullmatch(held.value) else 2**63
        if not -(2**63) <= number < 2**63:
            raise Failure("no number", code=NOT_A_NUMBER)
        if not -(2**63) <= number + amount < 2**63:
            raise Failure("too large", code=OVERFLOW)
        self.held[key] = Held(b"%d" % (number + amount), held.expires_us)
        return number + amount

    async def append(self, key: str, value: bytes) -> int:
        self._count("append", [key])
        held = self._find(key) or Held(b"")
        self.held[key] = Held(held.value + value, held.expires_us)
        return len(held.value + value)

    async def scan(self, cursor: int, match: str, count: int) -> tuple[int, list[str]]:
        self._count("scan", [])
        keys = sorted(key for key in self.held if self._find(key))
        pattern = compile_glob(match or "*")
        some = keys[cursor : cursor + count]
        after = cursor + count
        return after if after < len(keys) else 0, [key for key in some if pattern.fullmatch(key)]

    async def count(self) -> int:
        self._count("count", [])
        return sum(self._find(key) is not None for key in list(self.held))

    async def flush(self) -> None:
        self._count("flush", [])
        self.held.clear()

    async def info(self) -> dict[str, str | int]:
        self._count("info", [])
        return {"used_memory": 1_000, "keyspace_hits": 3, "nodes": 2}

    def _count(self, name: str, keys: Sequence[str]) -> None:
        self.calls[name] += 1
        for key in keys:
            self._check(key)

    def _check(self, key: str) -> None:
        if key in self.broken:
            raise self.broken[key]
        if not 1 <= len(key.encode()) <= KEY_BYTES_MAX:
            raise UsageError(f"a key has 1 to {KEY_BYTES_MAX:,} bytes")

    def _find(self, key: str) -> Held | None:
        held = self.held.get(key)
        if held and held.expires_us and held.expires_us <= self._clock.wall_us():
            del self.held[key]
            return None
        return held


class AwayError(Agent99Error):
    """Nobody can be asked right now."""

    code = "AWAY"
    retryable = True
