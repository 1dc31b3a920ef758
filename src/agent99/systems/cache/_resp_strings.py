"""The commands on strings and on how long they last."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple

from agent99.systems.cache._resp_port import Only
from agent99.systems.cache._resp_replies import (
    INTEGER_MAX,
    INTEGER_MIN,
    OK,
    SYNTAX,
    Dialect,
    RefusedError,
    array,
    integer,
    integer_of,
    simple,
)
from agent99.systems.cache._resp_session import Call

_SECOND_US: Final = 1_000_000
_MILLISECOND_US: Final = 1_000
_NO_KEY, _NO_END = -2, -1


class _Unit(NamedTuple):
    """What the number after an option about time means."""

    us: int
    is_moment: bool
    """Since the epoch, not from now."""


_UNITS: Final = {
    b"EX": _Unit(_SECOND_US, is_moment=False),
    b"PX": _Unit(_MILLISECOND_US, is_moment=False),
    b"EXAT": _Unit(_SECOND_US, is_moment=True),
    b"PXAT": _Unit(_MILLISECOND_US, is_moment=True),
}


# --- reading --------------------------------------------------------------------------------------


def one_value(dialect: Dialect, values: Sequence[bytes | None]) -> bytes:
    """GET: the value."""
    return dialect.value(values[0])


def all_values(dialect: Dialect, values: Sequence[bytes | None]) -> bytes:
    """MGET: the values."""
    return array([dialect.value(value) for value in values])


def length(_: Dialect, values: Sequence[bytes | None]) -> bytes:
    """STRLEN: bytes of the value."""
    return integer(len(values[0] or b""))


async def exists(call: Call) -> bytes:
    """EXISTS key [key …]: how many there are. TOUCH is the same: reading makes no key younger."""
    return integer(await call.session.strings.exists(call.keys))


async def type_of(call: Call) -> bytes:
    """TYPE key."""
    return simple("string" if await call.session.strings.exists(call.keys) else "none")


# --- writing --------------------------------------------------------------------------------------


def plain_items(call: Call) -> Mapping[str, bytes] | None:
    """Return what SET key value and MSET write; None where SET has options."""
    if call.name == "set" and len(call.arguments) != 2:
        return None
    return dict(zip(call.keys, call.arguments[1::2], strict=True))


async def set_with(call: Call) -> bytes:
    """SET key value [NX | XX] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]."""
    options = _Options(call, at=2, flags=_SET_FLAGS)
    is_written, old = await call.session.strings.set(
        call.keys[0],
        call.arguments[1],
        ttl_us=options.ttl_us() or 0,
        keep_ttl=b"KEEPTTL" in options.given,
        only=options.only,
        returns_old=b"GET" in options.given,
    )
    if b"GET" in options.given:
        return call.session.dialect.value(old)
    return OK if is_written else call.session.dialect.null


def set_for(unit_us: int) -> Callable[[Call], Awaitable[bytes]]:
    """Return SETEX or PSETEX: key, how long, value."""

    async def run(call: Call) -> bytes:
        ttl_us = _ttl_us(call, call.arguments[1], _Unit(unit_us, is_moment=False))
        await call.session.strings.set(call.keys[0], call.arguments[2], ttl_us=ttl_us)
        return OK

    return run


async def set_new(call: Call) -> bytes:
    """SETNX key value."""
    strings = call.session.strings
    is_written, _ = await strings.set(call.keys[0], call.arguments[1], only="new")
    return integer(is_written)


async def swap(call: Call) -> bytes:
    """GETSET key value."""
    strings = call.session.strings
    _, old = await strings.set(call.keys[0], call.arguments[1], returns_old=True)
    return call.session.dialect.value(old)


async def take(call: Call) -> bytes:
    """GETDEL key."""
    return call.session.dialect.value(await call.session.strings.take(call.keys[0]))


async def delete(call: Call) -> bytes:
    """DEL key [key …], and UNLINK."""
    return integer(await call.session.strings.delete(call.keys))


async def append(call: Call) -> bytes:
    """APPEND key value."""
    return integer(await call.session.strings.append(call.keys[0], call.arguments[1]))


async def increase(call: Call) -> bytes:
    """INCR key, and INCRBY key amount."""
    amount = integer_of(call.arguments[1]) if len(call.arguments) > 1 else 1
    return integer(await call.session.strings.incr(call.keys[0], amount))


async def decrease(call: Call) -> bytes:
    """DECR key, and DECRBY key amount."""
    amount = integer_of(call.arguments[1]) if len(call.arguments) > 1 else 1
    if amount == INTEGER_MIN:
        raise RefusedError("ERR decrement would overflow")
    return integer(await call.session.strings.incr(call.keys[0], -amount))


# --- time -----------------------------------------------------------------------------------------


async def get_and_touch(call: Call) -> bytes:
    """GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]: read, then touch; two steps."""
    options = _Options(call, at=1, flags=_GETEX_FLAGS)
    strings = call.session.strings
    (value,) = await strings.get_many(call.keys)
    if value is not None and options.given:
        await strings.touch(call.keys[0], options.ttl_us() or 0)
    return call.session.dialect.value(value)


def expire(unit_us: int, *, is_moment: bool) -> Callable[[Call], Awaitable[bytes]]:
    """Return EXPIRE, PEXPIRE, EXPIREAT or PEXPIREAT: key, when. In the past is DEL."""

    async def run(call: Call) -> bytes:
        if len(call.arguments) > 2:
            raise RefusedError(b"ERR Unsupported option %b" % call.arguments[2])
        number = integer_of(call.arguments[1])
        ttl_us = _checked_ttl_us(call, number, _Unit(unit_us, is_moment))
        strings = call.session.strings
        if ttl_us > 0:
            return integer(await strings.touch(call.keys[0], ttl_us))
        return integer(await strings.delete(call.keys))

    return run


async def persist(call: Call) -> bytes:
    """PERSIST key: 1 where it would have ended. Look, then touch; two steps."""
    strings = call.session.strings
    if not await strings.ttl_us(call.keys[0]):
        return integer(0)
    return integer(await strings.touch(call.keys[0], 0))


def time_left(unit_us: int) -> Callable[[Call], Awaitable[bytes]]:
    """Return TTL or PTTL: key."""

    async def run(call: Call) -> bytes:
        left_us = await call.session.strings.ttl_us(call.keys[0])
        if left_us is None:
            return integer(_NO_KEY)
        # To the nearest, as in Redis: who asks right after EXPIRE key 10 is told 10.
        return integer((left_us + unit_us // 2) // unit_us if left_us else _NO_END)

    return run


# --- options --------------------------------------------------------------------------------------

_SET_FLAGS: Final = frozenset({b"NX", b"XX", b"GET", b"KEEPTTL"})
_GETEX_FLAGS: Final = frozenset({b"PERSIST"})
_ONLY: Final[dict[bytes, Only]] = {b"NX": "new", b"XX": "known"}
_OF_TIME: Final = _UNITS.keys() | {b"KEEPTTL", b"PERSIST"}


class _Options:
    """What stands behind the key, and the value, of SET and GETEX.

    Raises:
        RefusedError: one is unknown, lacks its number, or forbids another.
    """

    def __init__(self, call: Call, *, at: int, flags: frozenset[bytes]) -> None:
        self.given: dict[bytes, bytes] = {}
        """By name in capitals; with its number where it has one."""
        words = iter(call.arguments[at:])
        for word in words:
            name = word.upper()
            number = next(words, None) if name in _UNITS else b""
            if number is None or name not in flags | _UNITS.keys():
                raise RefusedError(SYNTAX)
            self.given[name] = number
        of_time = self.given.keys() & _OF_TIME
        if len(of_time) > 1 or self.given.keys() >= _ONLY.keys():
            raise RefusedError(SYNTAX)
        self._call = call

    @property
    def only(self) -> Only:
        """Whether to write at all."""
        for name, only in _ONLY.items():
            if name in self.given:
                return only
        return ""

    def ttl_us(self) -> int | None:
        """How long it is to last, 1 µs where the moment has passed; None where nothing is said."""
        for name, unit in _UNITS.items():
            if name in self.given:
                return _ttl_us(self._call, self.given[name], unit)
        return None


def _ttl_us(call: Call, raw: bytes, unit: _Unit) -> int:
    """Read how long a key lasts: something above 0, but at least 1 µs."""
    number = integer_of(raw)
    if number <= 0:
        raise RefusedError(_invalid_time(call))
    return max(1, _checked_ttl_us(call, number, unit))


def _checked_ttl_us(call: Call, number: int, unit: _Unit) -> int:
    """Return how long a key lasts, below 0 too; the moment fits into 64 bits of microseconds."""
    now_us = call.session.clock.wall_us()
    moment_us = number * unit.us + (0 if unit.is_moment else now_us)
    if not INTEGER_MIN <= moment_us <= INTEGER_MAX:
        raise RefusedError(_invalid_time(call))
    return moment_us - now_us


def _invalid_time(call: Call) -> str:
    return f"ERR invalid expire time in '{call.name}' command"
