"""The messages of the shop to its customers, in SQL: one of a kind for each order, and its event.

First what is to be said is written down, then the provider is asked under the message's own key,
then what came of it is written down together with the event. A process that is killed between any
two of these leaves it to the next one, and the provider knows the key. Any number of processes may
share one database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from uuid import UUID

import msgspec

from agent99.clock import Clock
from agent99.errors import Failure, IdempotencyConflictError
from agent99.store import Store, Transaction
from agent99.systems.shop._aftercare import channels, notification_uuid, notify_fingerprint
from agent99.systems.shop._errors import ProviderError
from agent99.systems.shop._events import TOLD, CustomerTold
from agent99.systems.shop._model import NO_CHANNEL, Channel, Notified, Notify
from agent99.systems.shop._provider import Provider, Receipt
from agent99.systems.shop._templates import render

SEND_S_MAX: Final = 10.0
"""Seconds until a channel that does not answer has failed."""

_FIND = "SELECT * FROM notifications WHERE notification_id = :notification_id"
_INTEND = (
    "INSERT INTO notifications (notification_id, order_id, customer_id, type, number, state,"
    " fingerprint, texts, at_us) VALUES (:notification_id, :order_id, :customer_id, :type, :number,"
    " 'intended', :fingerprint, :texts, :at_us) ON CONFLICT DO NOTHING"
)
_CONCLUDE = (
    "UPDATE notifications SET state = 'sent', channel = :channel, reference = :reference,"
    " at_us = :at_us WHERE notification_id = :notification_id AND state = 'intended'"
)


class Messages:
    """Who was told what, and how.

    Invariant: an order has at most one message of a type and number, and that one event, from when
    the provider has it.

    Args:
        store: Where they are.
        clock: The source of time.
        traceparent: Returns the trace that an event belongs to, or nothing.
        provider: Who carries them.
    """

    def __init__(
        self, store: Store, clock: Clock, traceparent: Callable[[], str], provider: Provider
    ) -> None:
        self._store = store
        self._clock = clock
        self._traceparent = traceparent
        self.provider = provider

    def __repr__(self) -> str:
        return f"Messages({self._store!r}, {self.provider!r})"

    async def send(self, request: Notify) -> Notified:
        """Tell a customer, by the first channel that works; the same again is the same message.

        Raises:
            Failure: `TEMPLATE_ERROR` (`field`, `rule`): its text cannot be written; `NO_CHANNEL`
                (`channels`): none works, retryable unless none ever will.
            IdempotencyConflictError: they came before with other words.
            StoreError: and its kinds.
        """
        intent = await self._store.transaction(
            partial(_intend, request=request, at_us=self._clock.wall_us())
        )
        if isinstance(intent, Notified):
            return intent
        receipt = await self._reach(request, intent)
        work = partial(
            _conclude,
            request=request,
            intent=intent,
            receipt=receipt,
            at_us=self._clock.wall_us(),
            traceparent=self._traceparent(),
        )
        return await self._store.transaction(work)

    async def _reach(self, request: Notify, intent: _Intent) -> Receipt:
        """Try one channel after the other, all under one key: who gave no answer may have sent."""
        key, failed = str(intent.notification_id), list[ProviderError]()
        for channel, text in intent.texts:
            try:
                async with asyncio.timeout(SEND_S_MAX):
                    return await self.provider.send(channel, request.customer_id, text, key=key)
            except TimeoutError:
                failed.append(ProviderError(channel, f"did not answer within {SEND_S_MAX:g} s"))
            except ProviderError as error:
                failed.append(error)
        reasons = {error.channel: error.reason for error in failed}
        raise Failure(
            f"no channel carries a message of order {request.order_id}: "
            + "; ".join(str(error) for error in failed),
            code=NO_CHANNEL,
            details={"order_id": str(request.order_id), "type": request.type, "channels": reasons},
            retryable=any(error.retryable for error in failed),
        )


class _Intent(msgspec.Struct, frozen=True):
    """What is to be said. It stays as it is: the same key must never have other words."""

    notification_id: UUID
    texts: list[tuple[Channel, str]]
    """By channel, the one that the customer likes best first."""


def _intend(tx: Transaction, *, request: Notify, at_us: int) -> _Intent | Notified:
    """Write down what is to be said, or find what was written down before."""
    notification_id = notification_uuid(request.order_id, request.type, request.number)
    which = {"notification_id": str(notification_id)}
    said = notify_fingerprint(request)
    row = tx.execute(_FIND, which).first()
    if row is None:
        texts = render(request)
        ways = [(each, texts[each]) for each in channels(request.customer_id)]
        values = {
            **which,
            "order_id": str(request.order_id),
            "customer_id": str(request.customer_id),
            "type": request.type,
            "number": request.number,
            "fingerprint": said,
            "texts": msgspec.json.encode(ways).decode(),
            "at_us": at_us,
        }
        tx.execute(_INTEND, values)
        row = tx.execute(_FIND, which).one()  # of two at once, that of the first
    if row.fingerprint not in (None, said):  # None: sent before anybody kept it
        raise IdempotencyConflictError(f"{request.order_id}:{request.type}:{request.number}")
    if row.channel is not None:
        return Notified(notification_id, row.channel)
    return _Intent(notification_id, msgspec.json.decode(row.texts, type=list[tuple[Channel, str]]))


def _conclude(
    tx: Transaction,
    *,
    request: Notify,
    intent: _Intent,
    receipt: Receipt,
    at_us: int,
    traceparent: str,
) -> Notified:
    """Write down that it was sent, with its event, unless another process was faster."""
    sent = Notified(intent.notification_id, receipt.channel)
    values: dict[str, Any] = {
        "notification_id": str(intent.notification_id),
        "channel": receipt.channel,
        "reference": receipt.reference,
        "at_us": at_us,
    }
    if tx.execute(_CONCLUDE, values).changed:
        event = CustomerTold(
            order_id=request.order_id,
            customer_id=request.customer_id,
            notification_id=intent.notification_id,
            type=request.type,
            channel=receipt.channel,
            at_us=at_us,
            number=request.number,
        )
        tx.append(TOLD, event, key=str(request.order_id), traceparent=traceparent)
    return sent
