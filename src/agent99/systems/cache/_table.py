"""The table that says who has which partition, and its bytes. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Final

import msgspec
from msgspec import Meta

PARTITIONS: Final = 256
REPLICAS_MAX: Final = 3
WEIGHT_MIN: Final = 1 / 16
WEIGHT_MAX: Final = 16.0
EPOCH_MAX: Final = 2**23 - 1
"""Of a partition: a version is its epoch times 2**40 and a counter, together 63 bits."""

_NOBODY: Final = -1


class Node(msgspec.Struct, frozen=True, array_like=True):
    """Who may have partitions."""

    id: str
    """A short token, new for each run of a node."""
    name: str
    """The agent's name, by which requests reach it."""
    instance: str
    """The agent instance's uuid."""
    weight: Annotated[float, Meta(ge=WEIGHT_MIN, le=WEIGHT_MAX)] = 1.0
    """Its share in relation to the others'."""
    is_leaving: bool = False
    """It gets nothing any more, and hands over what it has."""


class Part(msgspec.Struct, frozen=True, array_like=True):
    """Who has a partition, and who is to have it.

    Invariant: the owner is not among the replicas; nobody stands twice among them or in the goal.
    """

    epoch: int = 0
    """Of the last change of its owner; starts at 0, when nobody ever owned it."""
    owner: str = ""
    """The id of the node that decides about it; empty: nobody."""
    replicas: tuple[str, ...] = ()
    """Who is in sync with the owner, without it; those of the goal come first, in its order."""
    goal: tuple[str, ...] = ()
    """Who is to have it, the owner first; empty while no node may get anything."""
    is_anew: bool = False
    """What was in it is lost: its owner began it with nothing, whatever it had of it."""


class Table(msgspec.Struct, frozen=True):
    """Everything that the nodes and the clients of a cache must agree on."""

    epoch: int
    """Grows with every change."""
    replicas: int
    """How many copies are wanted besides the owner's, 0..3."""
    nodes: tuple[Node, ...]
    """By id, in the order in which they joined."""
    parts: tuple[Part, ...]
    """By partition."""
    lost: int = 0
    """How many partitions have lost their last copy so far."""


class _PackedPart(msgspec.Struct, frozen=True, array_like=True):
    """A part whose nodes are indices, so that a table stays small."""

    epoch: Annotated[int, Meta(ge=0, le=EPOCH_MAX)]
    owner: Annotated[int, Meta(ge=_NOBODY)]
    replicas: tuple[int, ...] = ()
    goal: tuple[int, ...] | None = None
    """Absent where it is the owner and the replicas: that is the rule, and half of the bytes."""
    is_anew: bool = False
    """Absent but where it is."""


class _PackedTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    epoch: Annotated[int, Meta(ge=0)]
    replicas: Annotated[int, Meta(ge=0, le=REPLICAS_MAX)]
    nodes: tuple[Node, ...]
    parts: Annotated[tuple[_PackedPart, ...], Meta(min_length=PARTITIONS, max_length=PARTITIONS)]
    lost: Annotated[int, Meta(ge=0)]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_PackedTable).decode


def new_table(replicas: int, epoch: int = 0) -> Table:
    """Return the table of a cache without nodes.

    Args:
        replicas: Copies wanted besides the owner's, 0..3.
        epoch: Later than those of any table that somebody may know still.
    """
    return Table(epoch, replicas, (), (Part(),) * PARTITIONS)


def encode_table(table: Table) -> bytes:
    """Return the table as JSON: with ten nodes and two replicas 8 KB at most, mostly 5."""
    ids = tuple([node.id for node in table.nodes])
    parts = tuple([_packed(part, ids) for part in table.parts])
    return _encode(
        {
            "epoch": table.epoch,
            "replicas": table.replicas,
            "nodes": table.nodes,
            "parts": parts,
            "lost": table.lost,
        }
    )


def decode_table(data: bytes) -> Table | None:
    """Return the table, or None if these bytes are no table that could be."""
    try:
        packed = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    ids = tuple([node.id for node in packed.nodes])
    if "" in ids or len(set(ids)) != len(ids):
        return None
    parts = tuple([part for each in packed.parts if (part := _unpacked(each, ids)) is not None])
    if len(parts) != PARTITIONS:
        return None
    return Table(packed.epoch, packed.replicas, packed.nodes, parts, packed.lost)


# Mostly a table is the one before it but for a part or two: what was worked out then is that still.
_remembered = lru_cache(2 * PARTITIONS)


@_remembered
def _packed(part: Part, ids: tuple[str, ...]) -> tuple[object, ...]:
    index = {node: number for number, node in enumerate(ids)}
    owner = index.get(part.owner, _NOBODY)
    replicas = tuple([index[node] for node in part.replicas])
    if part.goal != _holders(part.owner, part.replicas):
        goal = tuple([index[node] for node in part.goal])
    elif part.is_anew:
        goal = None
    else:
        return (part.epoch, owner, replicas)
    return (part.epoch, owner, replicas, goal, *((True,) if part.is_anew else ()))


@_remembered
def _unpacked(part: _PackedPart, ids: tuple[str, ...]) -> Part | None:
    """Return the part; None if it is none that could be."""
    if not _is_sound(part, len(ids)):
        return None
    owner = "" if part.owner == _NOBODY else ids[part.owner]
    replicas = tuple(ids[index] for index in part.replicas)
    if part.goal is None:
        goal = _holders(owner, replicas)
    else:
        goal = tuple(ids[index] for index in part.goal)
    return Part(part.epoch, owner, replicas, goal, part.is_anew)


def _is_sound(part: _PackedPart, nodes: int) -> bool:
    """Tell whether each index names a node, and the invariant of a part holds."""
    goal = part.goal or ()
    holders = part.replicas if part.owner == _NOBODY else (part.owner, *part.replicas)
    return (
        all(0 <= index < nodes for index in (*holders, *goal))
        and len(set(holders)) == len(holders)
        and len(set(goal)) == len(goal)
        and (part.owner != _NOBODY or not part.replicas)
    )


def _holders(owner: str, replicas: tuple[str, ...]) -> tuple[str, ...]:
    return (owner, *replicas) if owner else ()
