"""Histories that are legal because they took place: operations one by one, seen by many clients."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from hypothesis import strategies as st

from tests.systems.cache._register import Operation, Value

NAMES = ("get", "set", "delete", "add", "incr", "cas")
VALUES: tuple[Value, ...] = ("a", "b", 1, 2)
APART_NS = 10
VERSIONS_APART = 3


class Draw(msgspec.Struct, frozen=True):
    """What is random of one operation."""

    name: str
    value: Value
    before_ns: int
    """So long before its moment it is invoked."""
    behind_ns: int
    """So long after its moment it returns."""
    age: int
    """Of `cas`: how many writes ago its version was right."""
    is_unknown: bool
    reaches: bool
    """Of an unknown one: whether it takes effect."""
    tells_version: bool


def draws(
    names: Sequence[str] = NAMES, *, outcomes: Sequence[bool] = (False, False, False, True)
) -> st.SearchStrategy[Draw]:
    """Draw operations of which up to a dozen overlap; by default every fourth is unknown."""
    spread = st.integers(0, 6 * APART_NS)
    return st.builds(
        Draw,
        name=st.sampled_from(names),
        value=st.sampled_from(VALUES),
        before_ns=spread,
        behind_ns=spread,
        age=st.integers(0, 2),
        is_unknown=st.sampled_from(outcomes),
        reaches=st.booleans(),
        tells_version=st.booleans(),
    )


class PlainRegister:
    """A register that is a variable."""

    def __init__(self) -> None:
        self.value: Value | None = None
        self.version = 0

    def __repr__(self) -> str:
        return f"PlainRegister({self.value!r}, version={self.version})"

    def do(self, name: str, value: Value, expected: int) -> Value | bool | None:
        """Do an operation and return its answer.

        Raises:
            TypeError: a text cannot be counted.
        """
        held = self.value
        if name == "get":
            return held
        if name == "incr":
            if not isinstance(held, int | None) or not isinstance(value, int):
                raise TypeError
            return self._write((held or 0) + value)
        is_done = {
            "set": True,
            "delete": held is not None,
            "add": held is None,
            "cas": held is not None and self.version == expected,
        }[name]
        if is_done:
            self._write(None if name == "delete" else value)
        return None if name == "set" else is_done

    def _write(self, value: Value | None) -> Value | None:
        self.value = value
        self.version += VERSIONS_APART
        return value


def history_of(plan: Sequence[Draw]) -> list[Operation]:
    """Do what was drawn, one by one, and return what clients see of it."""
    register = PlainRegister()
    return [_seen(register, number, draw) for number, draw in enumerate(plan)]


def _seen(register: PlainRegister, number: int, draw: Draw) -> Operation:
    at_ns = 1_000 + APART_NS * number
    is_cas = draw.name == "cas"
    expected = max(1, register.version - VERSIONS_APART * draw.age) if is_cas else 0
    seen = Operation(
        client=f"c{number}",
        name=draw.name,
        invoked_ns=at_ns - draw.before_ns,
        returned_ns=at_ns + draw.behind_ns,
        value=None if draw.name in {"get", "delete"} else draw.value,
        expected=expected,
        outcome="unknown" if draw.is_unknown else "ok",
    )
    if draw.is_unknown and not draw.reaches:
        return seen
    try:
        result = register.do(draw.name, draw.value, expected)
    except TypeError:
        return msgspec.structs.replace(seen, outcome="unknown" if draw.is_unknown else "failed")
    if draw.is_unknown:
        return seen
    is_told = draw.tells_version and register.value is not None and result is not False
    version = register.version if is_told else 0
    return msgspec.structs.replace(seen, result=result, version=version)
