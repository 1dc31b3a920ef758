"""A subscription, as both wires hand it out."""

from __future__ import annotations

from typing import Protocol


class SubscriptionOwner(Protocol):
    """The wire behind a subscription."""

    def end_subscription(self, sid: bytes) -> None:
        """Deliver nothing more to it."""
        ...

    async def drain_subscription(self, sid: bytes, timeout_s: float) -> None:
        """Stop the server sending, deliver what is under way, then end it."""
        ...


class OwnedSubscription:
    """Interest in a subject, kept alive over reconnects until it is ended."""

    def __init__(self, owner: SubscriptionOwner, subject: bytes, sid: bytes) -> None:
        self._owner = owner
        self._subject = subject
        self._sid = sid

    def __repr__(self) -> str:
        return f"OwnedSubscription({self._subject!r})"

    @property
    def subject(self) -> bytes:
        """The subject, wildcards included."""
        return self._subject

    def unsubscribe(self) -> None:
        """Stop at once: nothing is delivered after this call. Idempotent; never raises."""
        self._owner.end_subscription(self._sid)

    async def drain(self, timeout_s: float = 5.0) -> None:
        """Stop the server sending, deliver what is under way, then stop.

        Raises:
            DeadlineExceededError: the server did not confirm in time; it is ended all the same.
        """
        await self._owner.drain_subscription(self._sid, timeout_s)
