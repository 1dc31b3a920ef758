"""Where a request goes."""

from __future__ import annotations

from typing import Literal

import msgspec

from agent99.envelope import Name


class Destination(msgspec.Struct, frozen=True, gc=False):
    """A target and an operation, checked, and the subject that they mean."""

    kind: Literal["capability", "name", "instance"]
    target: Name
    """The capability, or the agent's name."""
    instance: str
    """Of one instance; empty for any."""
    operation: Name
    subject: bytes

    @property
    def text(self) -> str:
        """What was asked for, for messages to people."""
        return f"{self.target} {self.operation}"
