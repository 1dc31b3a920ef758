"""How far a closer is: what of the log it has merged, and up to where it has closed windows."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

Cursors = dict[int, int]
"""By part of the log: the sequence up to which its deltas have been merged."""
decode_cursors: Final = msgspec.json.Decoder(Cursors).decode
_encode: Final = msgspec.json.Encoder().encode


def encode_cursors(cursors: Cursors) -> str:
    """Return cursors as a database has them: JSON."""
    return _encode(cursors).decode()


class Reached(msgspec.Struct, frozen=True):
    """How far a closer is."""

    watermark_us: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None
    """Up to where it has closed windows; None: nowhere."""
    cursors: Cursors

    def lacks(self, cursors: Cursors) -> int:
        """Return how many places of the log it has yet to merge, to be as far as another one."""
        return sum(max(at - self.cursors.get(part, -1), 0) for part, at in cursors.items())
