"""What clients and nodes say to each other: batches of keys and of changes, and what came of them.

Both travel as arrays without names, since a batch may hold a thousand of them.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from agent99.systems.cache._item import Item
from agent99.systems.cache._table import PARTITIONS


class Verb(IntEnum):
    """What a change does with its key."""

    SET = 0
    ADD = 1
    """Set, unless there is one."""
    REPLACE = 2
    """Set, if there is one."""
    CAS = 3
    """Set, if its version is `number`."""
    DELETE = 4
    """Delete; with `number` only if its version is that."""
    TOUCH = 5
    """Give it another time to live."""
    INCR = 6
    """Add `number` to a whole number; an absent one is 0."""
    APPEND = 7
    """Add `value` behind it; an absent one is empty."""


class Status(IntEnum):
    """What came of a change."""

    DONE = 0
    NOT_DONE = 1
    """Its condition did not hold; nothing was changed."""
    MOVED = 2
    """The node does not own the key (now); nothing was changed."""
    REFUSED = 3
    """It cannot be done with what is there; `code` says why; nothing was changed."""
    UNKNOWN = 4
    """The node lost the key meanwhile: it may have been changed, or not."""


class Change(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One change of one key."""

    verb: int
    key: str
    """The full key."""
    value: bytes = b""
    kind: int = 0
    ttl_us: int = 0
    """From now on; 0: for ever. Of INCR and APPEND: only for what is made new."""
    number: int = 0
    fresh_us: int = 0
    """For so long it is fresh, then served while it is computed anew; 0: all of its time."""
    cost_us: int = 0
    """What it took to compute."""
    tags: tuple[str, ...] = ()
    keeps_ttl: bool = False
    """The time to live of what is there stays as it is."""
    wants_old: bool = False
    """The answer is to have the value that was there."""
    lead: int = 0
    """Only if this turn to compute the key has not ended; 0: whatever is."""


class Outcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What came of one change."""

    status: int
    version: int = 0
    """Of what is there now; 0: nothing."""
    number: int = 0
    """Of INCR the sum, of APPEND the length in bytes, of DELETE at which version it was done."""
    value: bytes | None = None
    """What was there before, where that was wanted."""
    kind: int = 0
    code: str = ""


class Hit(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is there for one key."""

    value: bytes
    kind: int
    version: int
    expires_us: int = 0
    """When it ends, by the owner's clock; 0: never."""
    fresh_us: int = 0
    cost_us: int = 0
    size: int = 0
    """In bytes, where it is too large for one message and `value` is empty: read it in parts."""


class Read(msgspec.Struct, frozen=True):
    """Asks for several keys of one owner."""

    epoch: int
    """Of the table by which it was sent."""
    keys: tuple[str, ...]
    is_near: bool = False
    """The values are kept near: who changes them tells of it."""


class Found(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is there for them."""

    hits: tuple[Hit | None, ...]
    """By key, as far as one answer can hold them: for the rest ask again."""
    moved: tuple[int, ...] = ()
    """The indexes of those that this node does not own (now); their hits are None."""
    hot: tuple[str, ...] = ()
    """Keys among them that many ask for now: worth keeping near."""
    table: bytes = b""
    """A newer table than the one by which it was asked; empty: there is none."""
    now_us: int = 0
    """The node's time, where values are to be held near."""


class Write(msgspec.Struct, frozen=True):
    """Several changes of keys of one owner, in order."""

    epoch: int
    changes: tuple[Change, ...]
    upload: str = ""
    """The value of the only change was staged under this name."""


class Written(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of them."""

    outcomes: tuple[Outcome, ...]
    """By change, in order, as far as one answer can hold them: the rest was not made."""
    table: bytes = b""


class Portion(msgspec.Struct, frozen=True, array_like=True):
    """Items of one partition, from its owner to one that has a copy."""

    partition: Annotated[int, Meta(ge=0, lt=PARTITIONS)]
    epoch: int
    """At which the sender owns it."""
    items: tuple[Item, ...]
    is_first: bool = False
    """What the receiver has of it so far, it forgets."""
    is_recent: bool = False
    """By a new owner: what it was told last before it came to own it."""
    upload: str = ""
    """The value of the only item was staged under this name."""


class Copy(msgspec.Struct, frozen=True):
    """Items for one node that has copies."""

    portions: tuple[Portion, ...]


class Copied(msgspec.Struct, frozen=True, omit_defaults=True):
    """They are there now."""

    fenced: tuple[int, ...] = ()
    """The partitions whose portion was refused: a later owner is known, or there is no copy."""
    lacking: tuple[int, ...] = ()
    """The partitions whose portion is to be sent again: its value is not staged here, or its owner
    is not known here yet."""
