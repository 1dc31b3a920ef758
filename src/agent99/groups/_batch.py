"""What the handler of a group is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent99.journal import Record

if TYPE_CHECKING:
    from agent99.store import Transaction


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one partition, in the order of the log: all events of a key are in one partition.

    `agent99.envelope` says what a record's subject and payload mean (`parse_log`, `decode_header`).
    """

    group: str
    reader: str
    """The name under which a store keeps the group's positions: mesh and group."""
    partition: int
    """0 to 63."""
    epoch: int
    """Of the member's claim: it grows with every owner."""
    records: tuple[Record, ...]
    """At least one."""
    attempt: int = 1
    """Starts at 1, and grows while the handler fails at this batch here. A batch that comes again
    at another member, or after a crash, is new there."""

    @property
    def position(self) -> int:
        """The sequence of the last record."""
        return self.records[-1].sequence

    def fresh(self, transaction: Transaction) -> tuple[Record, ...]:
        """Move the position on in a store's transaction, and return what has no effect there yet.

        Write the effects of what is returned in the same transaction: each takes place once,
        whoever owned the partition before, and however often the batch comes. What is redriven from
        quarantine is fresh: it has a sequence of its own, and the id that it had. The group must
        have been given the store.

        Raises:
            LeaseLostError: another member owns the partition now. Let it pass: the transaction
                fails, and the group lets go of the partition.
            as `Transaction.execute`.
        """
        from agent99.store import advance_position  # noqa: PLC0415 - only where there is a store

        before = advance_position(
            transaction, self.reader, self.partition, self.epoch, self.position
        )
        if before < self.records[0].sequence:
            return self.records
        return tuple(record for record in self.records if record.sequence > before)
