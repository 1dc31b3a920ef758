"""Who carries messages to customers: the port, and one that only pretends to.

The pretend one stands for a service outside. What it was asked to send it keeps in tables of its
own, in transactions of its own: a process that is killed takes nothing of it along.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol, get_args
from uuid import UUID

import msgspec

from agent99.clock import Clock
from agent99.ids import Ids
from agent99.systems.shop._delivery import Mode, ProviderView
from agent99.systems.shop._errors import ProviderError
from agent99.systems.shop._model import Channel

if TYPE_CHECKING:
    from agent99.store import Store, Transaction

CHANNELS: tuple[Channel, ...] = get_args(Channel)
_MODE = "SELECT mode FROM provider_channels WHERE channel = :channel"
_MODES = "SELECT channel, mode FROM provider_channels"
_SET_MODE = (
    "INSERT INTO provider_channels (channel, mode) VALUES (:channel, :mode)"
    " ON CONFLICT (channel) DO UPDATE SET mode = :mode"
)
_TAKE = (
    "INSERT INTO provider_messages (key, reference, channel, customer_id, text, calls, at_us)"
    " VALUES (:key, :reference, :channel, :customer_id, :text, 1, :at_us)"
    " ON CONFLICT (key) DO UPDATE SET calls = provider_messages.calls + 1"
    " RETURNING reference, channel"
)
_COUNTS = "SELECT count(*) AS sent, sum(calls) AS calls FROM provider_messages"


class Receipt(msgspec.Struct, frozen=True):
    """What a provider says of a message that it carries."""

    reference: str
    """Its own name for it."""
    channel: Channel
    """The channel that it went by: that of the first request with its key."""


class Provider(Protocol):
    """Carries messages to customers.

    The same key is the same message, for as long as somebody may ask again and on whatever channel:
    only the first request that comes through reaches the customer, and the others get its receipt.
    Where a service knows keys for each of its channels apart, an adapter has to see to that.
    """

    async def send(self, channel: Channel, customer_id: UUID, text: str, *, key: str) -> Receipt:
        """Carry a message to a customer, once for each key.

        Raises:
            ProviderError: it did not, or did and could not say so. The same key may be tried again,
                on this channel or another.
        """
        ...


class PretendProvider:
    """Carries nothing, and remembers by key what it would have sent; channels can be switched off.

    Invariant: a key has one message, however often and from however many processes it comes.

    Args:
        store: Where its tables are.
        clock: The source of time.
        ids: The source of randomness.
    """

    def __init__(self, store: Store, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids

    def __repr__(self) -> str:
        return f"PretendProvider({self._store!r})"

    async def send(self, channel: Channel, customer_id: UUID, text: str, *, key: str) -> Receipt:
        """Note a message as sent, once for each key.

        Raises:
            ProviderError: the channel is down: nothing was noted; or mute: it was.
            StoreError: and its kinds.
        """
        row: dict[str, str | int] = {
            "key": key,
            "reference": f"msg_{self._ids.token().decode()}",
            "channel": channel,
            "customer_id": str(customer_id),
            "text": text,
            "at_us": self._clock.wall_us(),
        }
        mode, receipt = await self._store.transaction(partial(_send, row=row))
        if receipt is None:
            raise ProviderError(channel, "is down")
        if mode == "mute":
            raise ProviderError(channel, "does not answer")
        return receipt

    async def set_mode(self, channel: Channel | None, mode: Mode) -> None:
        """Let a channel work or fail, or all of them, from now on and for every process.

        Raises:
            StoreError: and its kinds.
        """
        rows = [{"channel": each, "mode": mode} for each in CHANNELS if channel in (None, each)]
        await self._store.transaction(lambda tx: tx.execute(_SET_MODE, rows).changed)

    async def view(self) -> ProviderView:
        """Return how its channels stand, and how much it was asked to send.

        Raises:
            StoreError: and its kinds.
        """
        return await self._store.read(_view)


def _send(tx: Transaction, *, row: dict[str, str | int]) -> tuple[Mode, Receipt | None]:
    mode: Mode = tx.execute(_MODE, {"channel": row["channel"]}).scalar() or "up"
    if mode == "down":
        return mode, None
    taken = tx.execute(_TAKE, row).one()
    return mode, Receipt(taken.reference, taken.channel)


def _view(tx: Transaction) -> ProviderView:
    modes: dict[Channel, Mode] = dict.fromkeys(CHANNELS, "up")
    modes |= {row.channel: row.mode for row in tx.execute(_MODES)}
    counts = tx.execute(_COUNTS).one()
    return ProviderView(modes, counts.sent, int(counts.calls or 0))
