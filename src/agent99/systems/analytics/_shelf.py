"""The log of the mesh, as batches of records are stored in it."""

from __future__ import annotations

from agent99.agent import Agent, link_of
from agent99.envelope import (
    ENVELOPE_BYTES,
    Header,
    encode_message,
    parse_key,
    parse_topic,
    split_message,
)
from agent99.errors import BadRequestError, IdempotencyConflictError
from agent99.systems.analytics._entries import Piece
from agent99.systems.analytics._repeats import has_same_records


class LogShelf:
    """Stores events in the name of an agent."""

    def __init__(self, agent: Agent) -> None:
        self._link = link_of(agent)
        self._instance = agent.instance

    def __repr__(self) -> str:
        return f"LogShelf({self._link!r})"

    @property
    def bytes_max(self) -> int:
        """What the body of an event may have."""
        return self._link.wire.payload_bytes_max - ENVELOPE_BYTES

    async def store(self, piece: Piece) -> bool:
        """Store an event; returns False if it was there already, within the server's two minutes.

        Delivery: returned = stored (and replicated, where the log has replicas).

        Raises:
            IdempotencyConflictError: another one is there under its id.
            as `Mesh.append`.
        """
        link, topic = self._link, parse_topic(piece.topic)
        header = Header(
            type="event",
            from_uuid=self._instance,
            to_uuid=topic,
            event_uuid=piece.event_id,
            timestamp=link.clock.wall_us(),
        )
        message = encode_message(header, piece.body)
        stored = await link.durable.log.append(
            topic, parse_key(piece.key), message, message_id=piece.event_id
        )
        if not stored.duplicate:
            return True
        record = await link.journal.get(link.durable.streams.log, stored.sequence)
        if record is not None and not _is_repeat(record.payload, piece):
            raise IdempotencyConflictError(piece.event_id)
        return False


def _is_repeat(message: bytes, piece: Piece) -> bool:
    try:
        _, there = split_message(message)
    except BadRequestError:  # a stranger's
        return False
    return has_same_records(piece.event_id, there, piece.body)
