"""The near caches of one client: kept in step with what the owners of their keys tell."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from typing import Any, NamedTuple

from agent99.envelope import Subjects, parse_name
from agent99.errors import UsageError
from agent99.systems.cache._near import Near
from agent99.systems.cache._news import decode_news
from agent99.systems.cache._table import Table
from agent99.systems.cache._words import Change, Hit, Outcome
from agent99.wire import ConnectionState, Message, Subscription, Wire

NEAR_S_MAX = 3_600.0
ENTRIES_MAX = 10_000
BYTES_MAX = 16 * 1024 * 1024
"""Of one near cache, by default."""


class Told(NamedTuple):
    """What an owner has for a key that will be held near."""

    hit: Hit | None
    now_us: int
    """The owner's time when it said so."""


class NearRule(NamedTuple):
    """How long, and how much, is held near."""

    near_s: float
    """Since it was asked for, a value is given so long at most, whatever is heard or not."""
    entries_max: int = ENTRIES_MAX
    bytes_max: int = BYTES_MAX


class _Namespace(NamedTuple):
    nears: dict[Hashable, Near]
    subscription: Subscription


class Nearby:
    """Near caches by namespace, each for one type of values and one rule.

    What an owner tells of a change may be lost with the link, and a new owner does not know what
    is held near. So everything is forgotten when the link is cut, and the keys of a partition when
    its owner changes. Apart from that, each value is given up in time.
    """

    def __init__(self, wire: Wire, subjects: Subjects) -> None:
        self._wire = wire
        self._subjects = subjects
        self._namespaces: dict[str, _Namespace] = {}
        wire.on_state(self._on_state)

    def __repr__(self) -> str:
        return f"Nearby(namespaces={len(self._namespaces)})"

    def open(self, namespace: str, value_type: Any, rule: NearRule) -> Near:
        """Return the near cache of a namespace; whoever asks for the same one has the same.

        Raises:
            UsageError: bounds that make no sense.
            ClosedError
        """
        near_s = rule.near_s
        if isinstance(near_s, bool) or not isinstance(near_s, int | float):
            raise UsageError(f"near_s is a number of seconds or None, not {near_s!r}")
        if not 0 < near_s <= NEAR_S_MAX:  # nothing is true of NaN
            raise UsageError(f"near_s is more than 0 s, {NEAR_S_MAX:,.0f} s at most; not {near_s}")
        near = Near(f"{namespace}:", entries_max=rule.entries_max, bytes_max=rule.bytes_max)
        key = _key(value_type, rule)
        found = self._namespaces.get(namespace)
        if found is None:
            subject = self._subjects.near_listen(parse_name("namespace", namespace))
            nears: dict[Hashable, Near] = {}
            subscription = self._wire.subscribe(subject, partial(self._hear, nears))
            found = self._namespaces[namespace] = _Namespace(nears, subscription)
        return found.nears.setdefault(key, near)

    def close(self) -> None:
        """Give nothing any more."""
        for namespace in self._namespaces.values():
            namespace.subscription.unsubscribe()
        self._forget_all()
        self._namespaces.clear()

    # --- what it hears ----------------------------------------------------------------------------

    def on_table(self, before: Table, table: Table) -> None:
        """Partitions whose owner changed: the new one does not know what is held near."""
        if not self._namespaces:
            return
        moved = {
            partition
            for partition, (old, new) in enumerate(zip(before.parts, table.parts, strict=True))
            if old.epoch != new.epoch
        }
        if moved:
            for near in self._all():
                near.forget(moved)

    def on_written(self, change: Change, outcome: Outcome) -> None:
        """This client made a change: whoever reads here must not see what was before."""
        if not self._namespaces:
            return
        namespace, _, key = change.key.partition(":")
        found = self._namespaces.get(namespace)
        if found is None:
            return
        version = outcome.version or outcome.number
        for near in found.nears.values():
            if version:
                near.invalidate(key, version)
            else:
                near.outdate(key)

    def on_swept(self, namespace: str) -> None:
        """This client deleted many keys of a namespace."""
        found = self._namespaces.get(namespace)
        if found is not None:
            for near in found.nears.values():
                near.clear()

    # --- inside -----------------------------------------------------------------------------------

    def _hear(self, nears: dict[Hashable, Near], message: Message) -> None:
        news = decode_news(message.payload)
        for near in nears.values():
            if news is None:
                near.clear()
                continue
            for key, version in news:
                near.invalidate(key, version)

    def _on_state(self, _state: ConnectionState) -> None:
        # Cut: nobody can tell of changes. Back: nobody could.
        self._forget_all()

    def _forget_all(self) -> None:
        for near in self._all():
            near.clear()

    def _all(self) -> list[Near]:
        return [near for each in self._namespaces.values() for near in each.nears.values()]


def _key(value_type: Any, rule: NearRule) -> Hashable:
    key = (value_type, rule)
    try:
        hash(key)
    except TypeError:  # a type that cannot be looked up has a near cache of its own
        return object()
    return key
