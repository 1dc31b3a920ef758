"""What a change makes of what is there. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from agent99.systems.cache._door import refusal
from agent99.systems.cache._entry import Entry
from agent99.systems.cache._item import Item
from agent99.systems.cache._values import NOTHING
from agent99.systems.cache._words import Change, Outcome, Status, Verb

NUMBER_MIN, NUMBER_MAX = -(2**63), 2**63 - 1
"""Of counters: as Redis has them."""
NOT_A_NUMBER, OVERFLOW, TOO_LARGE, NOT_TEXT = (
    *("NOT_A_NUMBER", "OVERFLOW", "VALUE_TOO_LARGE", "NOT_APPENDABLE"),
)
TEXT, JSON = 1, 2
_DIGITS_MAX = 20


State = Entry | Item
"""What is there for a key: in the store, or on its way there."""


class Resolved(NamedTuple):
    """What a change comes to."""

    item: Item | None
    """The state that it makes; None: nothing changes."""
    outcome: Outcome


def resolve(
    change: Change, there: State | None, *, version: int, now_us: int, bytes_max: int
) -> Resolved:
    """Return what a change makes of what is there.

    Args:
        there: The key's state; None: there is none, or it was deleted or has expired.
        version: That the new state is to have.
        now_us: The owner's time, in microseconds since the epoch.
        bytes_max: A value's size at most.
    """
    if code := refusal(change, there):
        return _refused(there, code)
    return _made_of(change, there, version, now_us, bytes_max)


def _made_of(
    change: Change, there: State | None, version: int, now_us: int, bytes_max: int
) -> Resolved:
    if change.verb == Verb.DELETE:
        return _delete(change, there, version)
    if there is not None and there.kind == NOTHING:
        there = None
    match change.verb:
        case Verb.TOUCH:
            if there is None:
                return _not_done(change, there)
            item = _made(change, there, version, now_us, there.value, there.kind)
            kept = msgspec.structs.replace(item, tags=there.tags, cost_us=there.cost_us)
            return Resolved(kept, _done(change, there, version))
        case Verb.INCR:
            return _incr(change, there, version, now_us)
        case Verb.APPEND:
            return _append(change, there, version, now_us, bytes_max)
        case _:
            return _set(change, there, version, now_us, bytes_max)


def _set(
    change: Change, there: State | None, version: int, now_us: int, bytes_max: int
) -> Resolved:
    if len(change.value) > bytes_max:
        return _refused(there, TOO_LARGE)
    holds = (
        change.verb == Verb.SET
        or (change.verb == Verb.ADD and there is None)
        or (change.verb == Verb.REPLACE and there is not None)
        or (change.verb == Verb.CAS and there is not None and there.version == change.number)
    )
    if not holds:
        return _not_done(change, there)
    item = _made(change, there, version, now_us, change.value, change.kind)
    return Resolved(item, _done(change, there, version))


def _delete(change: Change, there: State | None, version: int) -> Resolved:
    if there is None or (change.number and change.number != there.version):
        return _not_done(change, there)
    item = Item(change.key, version, is_deleted=True)
    if there.kind == NOTHING:  # it is forgotten, but for who asks it was not there
        return Resolved(item, Outcome(Status.NOT_DONE))
    done = _done(change, there, 0)
    return Resolved(item, msgspec.structs.replace(done, number=version))


def _incr(change: Change, there: State | None, version: int, now_us: int) -> Resolved:
    number = 0
    if there is not None:
        try:
            # `int` also takes spaces, underscores and signs that nobody meant as a number.
            text = there.value[: _DIGITS_MAX + 1].decode("ascii")
            number = int(text)
            is_number = str(number) == text and NUMBER_MIN <= number <= NUMBER_MAX
        except ValueError:  # UnicodeDecodeError is one
            is_number = False
        if not is_number:
            return _refused(there, NOT_A_NUMBER)
    number += change.number
    if not NUMBER_MIN <= number <= NUMBER_MAX:
        return _refused(there, OVERFLOW)
    value = str(number).encode()
    item = _grown(change, there, version, now_us, value, JSON if there is None else there.kind)
    return Resolved(item, Outcome(Status.DONE, version, number))


def _append(
    change: Change, there: State | None, version: int, now_us: int, bytes_max: int
) -> Resolved:
    if there is not None and there.kind != change.kind:
        return _refused(there, NOT_TEXT)
    value = change.value if there is None else there.value + change.value
    if len(value) > bytes_max:
        return _refused(there, TOO_LARGE)
    item = _grown(change, there, version, now_us, value, change.kind)
    return Resolved(item, Outcome(Status.DONE, version, len(value)))


def _grown(
    change: Change, there: State | None, version: int, now_us: int, value: bytes, kind: int
) -> Item:
    """Return what was there with another value: its time and its tags stay."""
    if there is None:
        return _made(change, there, version, now_us, value, kind)
    times = there.expires_us, there.fresh_us, there.cost_us
    return Item(change.key, version, value, kind, *times, there.tags)


def _made(
    change: Change, there: State | None, version: int, now_us: int, value: bytes, kind: int
) -> Item:
    """Return the state that a change makes, which begins to live now."""
    if change.keeps_ttl and there is not None:
        expires_us, fresh_us = there.expires_us, there.fresh_us
    else:
        expires_us = now_us + change.ttl_us if change.ttl_us else 0
        fresh_us = now_us + change.fresh_us if change.fresh_us else 0
    return Item(change.key, version, value, kind, expires_us, fresh_us, change.cost_us, change.tags)


def _done(change: Change, there: State | None, version: int) -> Outcome:
    return _with_old(Status.DONE, change, there, version)


def _not_done(change: Change, there: State | None) -> Resolved:
    version = 0 if there is None else there.version
    return Resolved(None, _with_old(Status.NOT_DONE, change, there, version))


def _with_old(status: Status, change: Change, there: State | None, version: int) -> Outcome:
    if change.wants_old and there is not None:
        return Outcome(status, version, value=there.value, kind=there.kind)
    return Outcome(status, version)


def _refused(there: State | None, code: str) -> Resolved:
    version = 0 if there is None else there.version
    return Resolved(None, Outcome(Status.REFUSED, version, code=code))
