"""What the process of the demo's agents is told."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Plan(msgspec.Struct, frozen=True):
    """What this process needs to know. It holds a credential: it travels by a pipe."""

    folder: str
    url: str
    mesh: str
    is_quiet: bool

    def __repr__(self) -> str:
        return f"Plan({self.mesh!r})"


def audit_url_in(folder: Path) -> str:
    """Return where the audit log of the demo is."""
    return f"sqlite:///{folder}/audit.db"
