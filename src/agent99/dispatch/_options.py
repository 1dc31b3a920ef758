"""The bounds of one instance."""

from __future__ import annotations

import msgspec


class DispatchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of one instance."""

    concurrency_max: int = 100
    """Operations in flight."""
    waiting_max: int = 200
    """Requests that wait for a place; beyond them the answer is `OVERLOADED`, at once."""
    timeout_s_max: float = 300.0
    """How long a request may run whose caller names no time, or a longer one."""
    stale_s: float = 2.0
    """A request this long past its sender's deadline, by the wall clock, is dropped on arrival."""
    verify_senders: bool = False
    """Answer only to inboxes of the sender that the subject names: with permissions on."""
