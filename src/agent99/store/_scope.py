"""What all transactions of one store share."""

from __future__ import annotations

from agent99.clock import Clock
from agent99.ids import Ids
from agent99.store._options import StoreOptions
from agent99.store._room import Room


class Scope:
    """Whose transactions these are, their bounds, and where their time and ids come from."""

    __slots__ = ("clock", "ids", "leaves_rows", "options", "room", "schema")

    def __init__(self, schema: str, options: StoreOptions, clock: Clock, ids: Ids) -> None:
        self.schema = schema
        self.options = options
        self.clock = clock
        self.ids = ids
        self.room = Room(options.outbox_rows_max, clock)
        self.leaves_rows = False
        """Whether rows that must be removed some day were left since the last clean-up."""

    def __repr__(self) -> str:
        return f"Scope({self.schema!r})"
