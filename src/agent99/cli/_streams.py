"""`agent99 streams`: what the mesh stores, within which bounds, and who reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent99.cli._exits import Exit
from agent99.cli._join import join, run_async
from agent99.cli._scope import Scope
from agent99.cli._show import count, duration, print_json, print_table, size, tell

if TYPE_CHECKING:
    from agent99.journal import StreamState
    from agent99.work import StreamCount

_COLUMNS = (
    *("stream", "messages", "bytes", "at most", "kept", "replicas"),
    *("consumer", "pending", "in flight"),
)
_NUMBERS = frozenset({"messages", "bytes", "at most", "pending", "in flight"})


def streams(scope: Scope) -> int:
    r"""Show the mesh's streams: what they hold and may hold, and how far their consumers are.

    \b
    agent99 streams
    agent99 streams --json | jq '.streams[] | select(.bytes > .bytes_max / 2) | .stream'

    LOG holds the events, JOB_… the work for a capability, DEAD_… its quarantine. A full stream
    refuses: the sender gets an error. Pending: not delivered yet; in flight: delivered, and neither
    done nor given up.
    """
    return run_async(_streams(scope))


async def _streams(scope: Scope) -> int:
    async with join(scope) as mesh:
        found = await mesh.ledger.streams()
        if scope.json:
            documents = [_document(one) for one in found]
            print_json({"mesh": mesh.name, "url": mesh.url, "streams": documents})
        elif not found:
            tell(f"no streams of mesh {mesh.name!r} at {mesh.url}: nothing was stored yet")
        else:
            print_table(_COLUMNS, [row for one in found for row in _rows(one)], numbers=_NUMBERS)
            held = size(sum(one.state.bytes for one in found))
            tell(f"{count(len(found), 'stream')}, {held}, of mesh {mesh.name!r} at {mesh.url}")
    return Exit.OK


def _rows(one: StreamCount) -> list[tuple[str, ...]]:
    state, config = one.state, one.state.config
    first = (
        config.name,
        f"{state.messages:,}",
        size(state.bytes),
        size(config.bytes_max) if config.bytes_max >= 0 else "no bound",
        duration(config.age_s_max) if config.age_s_max else _kept(state),
        _replicas(state),
    )
    readers = [
        (reader.config.name, f"{reader.pending:,}", f"{reader.in_flight:,}")
        for reader in one.consumers
    ]
    rows = [(*first, *(readers[0] if readers else ("-", "", "")))]
    return rows + [(*[""] * len(first), *reader) for reader in readers[1:]]


def _kept(state: StreamState) -> str:
    return "until done" if state.config.retention == "work" else "for ever"


def _replicas(state: StreamState) -> str:
    if not state.replicas:
        return str(state.config.replicas)
    current = sum(replica.is_current for replica in state.replicas)
    return f"{current} of {len(state.replicas)} current"


def _document(one: StreamCount) -> dict[str, Any]:
    state, config = one.state, one.state.config
    return {
        "stream": config.name,
        "subjects": config.subjects,
        "retention": config.retention,
        "messages": state.messages,
        "bytes": state.bytes,
        "bytes_max": config.bytes_max if config.bytes_max >= 0 else None,
        "age_s_max": config.age_s_max or None,
        "first_sequence": state.first_sequence,
        "last_sequence": state.last_sequence,
        "replicas": config.replicas,
        "servers": state.replicas,
        "consumers": [
            {
                "consumer": reader.config.name,
                "subjects": reader.config.subjects,
                "pending": reader.pending,
                "in_flight": reader.in_flight,
                "redelivered": reader.redelivered,
                "delivered_sequence": reader.delivered_sequence,
                "acknowledged_sequence": reader.acknowledged_sequence,
            }
            for reader in one.consumers
        ],
    }
