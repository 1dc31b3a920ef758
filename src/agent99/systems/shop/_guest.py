"""Whoever else is on the demo's mesh while the shop works: another system that looks on."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from agent99 import Mesh, Settings


class Till(msgspec.Struct, frozen=True):
    """What the till knows of an order before anybody else does: what its invoice says."""

    order_id: UUID
    invoice: str
    """Its number in the file."""
    at: datetime
    """When it was written, by the file."""
    country: str


class Guest(Protocol):
    """Another system, on the shop's mesh."""

    def joined(self, settings: Settings, mesh: Mesh) -> AbstractAsyncContextManager[None]:
        """Return a context in which it is there: from before the first order until the last event.

        Args:
            settings: Of the shop's mesh; its project is a folder that is the demo's alone.
            mesh: The demo's own connection.
        """
        ...

    async def announce(self, till: Till) -> None:
        """Learn of an order that is about to be placed."""
        ...

    async def messages(self) -> list[bytes]:
        """Return every event that the shop has stored, as the guest has it, in the log's order.

        It is called once no agent of the shop is left.
        """
        ...
