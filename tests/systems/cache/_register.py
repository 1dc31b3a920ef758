"""What one key of a cache may answer: an atomic register, that is missing or holds a value.

Invariant: `after` alone says what an operation does; whoever searches knows nothing of the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import msgspec

Value = str | int
"""What is kept. An operation's own result may be a truth value, or None for a miss."""
Outcome = Literal["ok", "failed", "unknown"]


class Operation(msgspec.Struct, frozen=True):
    """One operation on one key, as the client saw it."""

    client: str
    name: str
    """`get`, `set`, `delete`, `add`, `cas` or `incr`."""
    invoked_ns: int
    returned_ns: int = 0
    """Of no meaning where nobody knows the outcome."""
    value: Value | None = None
    """What is to be kept; of `incr`, by how much it counts."""
    expected: int = 0
    """The version that `cas` asks for."""
    outcome: Outcome = "ok"
    """`failed`: it took no effect, for certain. `unknown`: it may, at any time from then on."""
    result: Value | bool | None = None
    """`get`: value or None; `delete`: was it there; `add`, `cas`: was it done; `incr`: the sum."""
    version: int = 0
    """Of the item that was seen or written, where an answer told it; 0: none did."""

    @property
    def changed_nothing(self) -> bool:
        """By its answer the key was left as it was."""
        return self.outcome == "ok" and (self.name == "get" or self.result is False)

    def __str__(self) -> str:
        words = [self.client, self.name, *([] if self.value is None else [repr(self.value)])]
        words += [f"if version {self.expected}"] if self.expected else []
        if self.outcome == "ok":
            answer = "a miss" if self.name == "get" and self.result is None else repr(self.result)
            words += ["→", "ok" if self.name == "set" else answer]
            words += [f"(version {self.version})"] if self.version else []
            return f"{_ms(self.invoked_ns)}..{_ms(self.returned_ns)} ms: {' '.join(words)}"
        return f"{_ms(self.invoked_ns)}.. ms: {' '.join(words)} → {self.outcome}"


def _ms(at_ns: int) -> str:
    return f"{at_ns / 1e6:.3f}"


class State(NamedTuple):
    """What a key may be between two operations."""

    value: Value | None = None
    """None: a miss."""
    version: int = 0
    """At least this: not every answer tells it, but every write has a higher one."""
    is_exact: bool = False
    """The version is this, and no other."""

    def __str__(self) -> str:
        if self.value is None:
            return "missing"
        return f"{self.value!r} ({'' if self.is_exact else '≥ '}version {self.version})"


MISSING: Final = State()


def after(state: State, operation: Operation) -> State | None:
    """Return what the key is once the operation took effect; None: its answer rules that out.

    An operation whose outcome nobody knows is ruled out by nothing: it does what it can.
    """
    return _STEPS[operation.name](state, operation)


def _get(state: State, operation: Operation) -> State | None:
    if operation.result != state.value:
        return None
    if not operation.version:
        return state
    return (
        State(state.value, operation.version, is_exact=True)
        if _fits(state, operation.version)
        else None
    )


def _set(state: State, operation: Operation) -> State | None:
    return _written(state, operation, operation.value)


def _delete(state: State, operation: Operation) -> State | None:
    was_there = state.value is not None
    if not _may_answer(operation, result=was_there):
        return None
    return _written(state, operation, None) if was_there else state


def _add(state: State, operation: Operation) -> State | None:
    is_added = state.value is None
    if not _may_answer(operation, result=is_added):
        return None
    return _written(state, operation, operation.value) if is_added else state


def _incr(state: State, operation: Operation) -> State | None:
    held = 0 if state.value is None else state.value
    if not isinstance(held, int) or not isinstance(operation.value, int):
        return state if operation.outcome == "unknown" else None
    total = held + operation.value
    if not _may_answer(operation, result=total):
        return None
    return _written(state, operation, total)


def _cas(state: State, operation: Operation) -> State | None:
    may_succeed = state.value is not None and _fits(state, operation.expected)
    if operation.outcome == "ok" and operation.result is False:
        must_succeed = may_succeed and state.is_exact
        return None if must_succeed else state
    if not may_succeed:
        return state if operation.outcome == "unknown" else None
    known = State(state.value, operation.expected, is_exact=True)
    return _written(known, operation, operation.value)


_STEPS: Final[dict[str, Callable[[State, Operation], State | None]]] = {
    "get": _get,
    "set": _set,
    "delete": _delete,
    "add": _add,
    "incr": _incr,
    "cas": _cas,
}


def _may_answer(operation: Operation, *, result: Value | bool) -> bool:
    return operation.outcome == "unknown" or operation.result == result


def _fits(state: State, version: int) -> bool:
    return state.version == version if state.is_exact else state.version <= version


def _written(state: State, operation: Operation, value: Value | None) -> State | None:
    if not operation.version:
        # Counted no further while none is told: every other order would leave another state.
        return State(value, state.version + state.is_exact)
    if operation.version < state.version + state.is_exact:
        return None
    return State(value, operation.version, is_exact=True)
