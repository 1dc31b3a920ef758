"""A key's state as nodes tell it to each other."""

import msgspec


class Item(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A key's whole state at one version: a value, or that it was deleted.

    It is the state, not the change: to apply it twice does no harm, and of two the higher version
    holds.
    """

    key: str
    """The full key, `namespace:key`."""
    version: int
    """Given by the partition's owner, rising within the partition; starts at 1."""
    value: bytes = b""
    """What was set, as bytes; empty if the key was deleted."""
    kind: int = 0
    """How the value is to be read: 0 bytes, 1 text, 2 JSON; 16 more: compressed."""
    expires_us: int = 0
    """From then on it is never served, in microseconds since the epoch; 0: never."""
    fresh_us: int = 0
    """From then on it is stale: served while it is computed anew; 0: as `expires_us`."""
    cost_us: int = 0
    """How long it took to compute, in microseconds; 0: nobody said."""
    tags: tuple[str, ...] = ()
    """The words by which it may be dropped together with others."""
    is_deleted: bool = False
    """The key was deleted at this version: a tombstone, without a value."""
