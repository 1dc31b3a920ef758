"""What became of the requests for one operation."""

from __future__ import annotations


class Tally:
    """What became of the requests for one operation; plain attributes: the hot path writes them."""

    __slots__ = ("errors", "last_error", "processing_ns", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.processing_ns = 0
        self.last_error = ""

    def __repr__(self) -> str:
        return f"Tally(requests={self.requests}, errors={self.errors})"
