"""The read model of the orders, in SQL: what their events told, a record for each.

Any number of processes may share one database. Nothing needs an inbox: an event that comes twice
changes nothing, and the order in which they come makes no difference (`_history_model`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final
from uuid import UUID

import msgspec

from agent99.errors import Failure
from agent99.store import Store, Transaction
from agent99.systems.shop._events import Told
from agent99.systems.shop._history_model import (
    Digest,
    HistoryDigest,
    OrderRecord,
    canonical,
    fold,
)
from agent99.systems.shop._model import ORDER_NOT_FOUND

REBUILD_SUPERSEDED: Final = "REBUILD_SUPERSEDED"
_PAGE_ROWS: Final = 5_000

_GENERATIONS = "SELECT generation, state FROM history_generations ORDER BY generation"
_BUILD = "INSERT INTO history_generations (generation, state) VALUES (:generation, 'building')"
_FORGET_BUILDING = "DELETE FROM history_generations WHERE state = 'building'"
_FORGET_ONE = (
    "DELETE FROM history_generations WHERE generation = :generation AND state = 'building'"
)
_CLEAR_ONE = "DELETE FROM order_records WHERE generation = :generation"
_FORGET_LIVE = "DELETE FROM history_generations WHERE state = 'live'"
_SET_LIVE = "UPDATE history_generations SET state = 'live' WHERE generation = :generation"
_CLEAR = "DELETE FROM order_records WHERE generation <> :generation"
_ADD = (
    "INSERT INTO order_records (record_id, generation, order_id, content)"
    " VALUES (:record_id, :generation, :order_id, :content) ON CONFLICT DO NOTHING"
)
_WRITE = "UPDATE order_records SET content = :content WHERE record_id = :record_id"
_FIND = (
    "SELECT content FROM order_records WHERE order_id = :order_id AND generation ="
    " (SELECT generation FROM history_generations WHERE state = 'live')"
)
# Ids are of one form, small letters and digits: every database puts them in the same order.
_PAGE = (
    "SELECT order_id, content FROM order_records WHERE generation = :generation"
    " AND order_id > :after ORDER BY order_id LIMIT :rows"
)


class History:
    """A record for each order of which anything was told.

    Invariant: the live generation is the fold of every event that was heard; so is the one that is
    being built, of those heard since it was begun and those that were added.

    Args:
        store: Where it is.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def __repr__(self) -> str:
        return f"History({self._store!r})"

    async def hear(self, told: Told) -> None:
        """Fold an event into its order's record, wherever one is kept; once and again is the same.

        Raises:
            StoreError: and its kinds.
        """
        await self._store.transaction(partial(_hear, told=told))

    async def record(self, order_id: UUID) -> OrderRecord:
        """Return an order as its events tell it.

        Raises:
            Failure: `ORDER_NOT_FOUND`: none was heard.
            StoreError: and its kinds.
        """
        return await self._store.read(partial(_record, order_id=order_id))

    async def digest(self) -> HistoryDigest:
        """Return what the live generation comes to.

        Raises:
            StoreError: and its kinds.
        """
        return await self._store.read(lambda tx: _digest(tx, _generations(tx)["live"]))

    # --- made anew --------------------------------------------------------------------------------

    async def begin(self) -> int:
        """Begin a generation, and return its number; one that was not finished is forgotten.

        Whatever is heard from now on is in it: read the log after this, and nothing is missing.

        Raises:
            StoreError: and its kinds.
        """
        return await self._store.transaction(_begin)

    async def add(self, generation: int, told: Sequence[Told]) -> None:
        """Fold events into the generation that is being built.

        Raises:
            Failure: `REBUILD_SUPERSEDED`, retryable: another one was begun meanwhile.
            StoreError: and its kinds.
        """
        await self._store.transaction(partial(_add, generation=generation, told=told))

    async def compare(self, generation: int) -> tuple[HistoryDigest, HistoryDigest]:
        """Return what the live generation and the other one come to, at one moment.

        Raises:
            Failure: `REBUILD_SUPERSEDED`, retryable: another one was begun meanwhile.
            StoreError: and its kinds.
        """
        return await self._store.read(partial(_compare, generation=generation))

    async def forget(self, generation: int) -> None:
        """Forget a generation that is being built; one that is not any more stays as it is.

        Raises:
            StoreError: and its kinds.
        """
        await self._store.transaction(partial(_forget, generation=generation))

    async def replace(self, generation: int) -> None:
        """Let the generation that is being built be the live one, and forget the other.

        Raises:
            Failure: `REBUILD_SUPERSEDED`, retryable: another one was begun meanwhile.
            StoreError: and its kinds.
        """
        await self._store.transaction(partial(_replace, generation=generation))


# --- inside ---------------------------------------------------------------------------------------


def _generations(tx: Transaction) -> dict[str, int]:
    """Return the number of the live generation, and of the one that is being built."""
    return {row.state: row.generation for row in tx.execute(_GENERATIONS)}


def _hear(tx: Transaction, *, told: Told) -> None:
    for generation in sorted(_generations(tx).values()):
        _fold_in(tx, generation, (told,))


def _fold_in(tx: Transaction, generation: int, told: Iterable[Told]) -> None:
    by_order: dict[str, list[Told]] = {}
    for each in told:
        by_order.setdefault(str(each.order_id), []).append(each)
    names = {f"{generation}:{order_id}": order_id for order_id in sorted(by_order)}
    fresh = [
        {
            "record_id": name,
            "generation": generation,
            "order_id": order_id,
            "content": canonical(OrderRecord(order_id=UUID(order_id))),
        }
        for name, order_id in names.items()
    ]
    tx.execute(_ADD, fresh)  # so that there is a row to lock
    changed: list[dict[str, Any]] = []
    for name, row in tx.lock("order_records", names, key="record_id").items():
        record = before = _decode(row.content)
        for each in by_order[names[name]]:
            record = fold(record, each)
        if record != before:
            changed.append({"record_id": name, "content": canonical(record)})
    if changed:
        tx.execute(_WRITE, changed)


def _record(tx: Transaction, *, order_id: UUID) -> OrderRecord:
    content = tx.execute(_FIND, {"order_id": str(order_id)}).scalar()
    if content is None:
        raise no_order(order_id)
    return _decode(content)


def _begin(tx: Transaction) -> int:
    tx.lock("history_generations", ("live",), key="state")  # two do not begin at once
    found = _generations(tx)
    generation = max(found.values()) + 1  # no number comes twice: who had one is told
    tx.execute(_FORGET_BUILDING)
    tx.execute(_CLEAR, {"generation": found["live"]})
    tx.execute(_BUILD, {"generation": generation})
    return generation


def _add(tx: Transaction, *, generation: int, told: Sequence[Told]) -> None:
    _require(tx, generation)
    _fold_in(tx, generation, told)


def _replace(tx: Transaction, *, generation: int) -> None:
    _require(tx, generation)
    tx.execute(_FORGET_LIVE)
    tx.execute(_SET_LIVE, {"generation": generation})
    tx.execute(_CLEAR, {"generation": generation})


def _forget(tx: Transaction, *, generation: int) -> None:
    if tx.execute(_FORGET_ONE, {"generation": generation}).changed:
        tx.execute(_CLEAR_ONE, {"generation": generation})


def _require(tx: Transaction, generation: int) -> None:
    """Have the generation for ourselves, or nobody has it any more."""
    locked: dict[int, Any] = tx.lock("history_generations", (generation,), key="generation")
    row = locked.get(generation)
    if row is None or row.state != "building":
        raise _superseded()


def _compare(tx: Transaction, *, generation: int) -> tuple[HistoryDigest, HistoryDigest]:
    found = _generations(tx)
    if found.get("building") != generation:
        raise _superseded()
    return _digest(tx, found["live"]), _digest(tx, generation)


def _digest(tx: Transaction, generation: int) -> HistoryDigest:
    digest, states = Digest(), Counter[str]()
    after: dict[str, Any] = {"generation": generation, "after": "", "rows": _PAGE_ROWS}
    while True:
        rows = tx.execute(_PAGE, after).all()
        for order_id, content in rows:
            digest.add(order_id, content)
            states[msgspec.json.decode(content, type=_State).state or ""] += 1
        if len(rows) < _PAGE_ROWS:
            return HistoryDigest(states.total(), dict(sorted(states.items())), digest.text)
        after["after"] = rows[-1].order_id


class _State(msgspec.Struct):
    """What is counted of a record."""

    state: str | None


def _decode(content: str) -> OrderRecord:
    return msgspec.json.decode(content, type=OrderRecord)


def _superseded() -> Failure:
    message = "the read model is being made anew by another request"
    return Failure(message, code=REBUILD_SUPERSEDED, retryable=True)


def no_order(order_id: UUID) -> Failure:
    """Return the failure of an order that nobody told anything of."""
    return Failure(
        f"no event tells of an order {order_id}",
        code=ORDER_NOT_FOUND,
        details={"order_id": str(order_id)},
    )
