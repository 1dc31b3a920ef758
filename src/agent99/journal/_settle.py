"""Tell the server what became of a delivery, until it has noted it or does not know it any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from agent99.errors import (
    DeadlineExceededError,
    DisconnectedError,
    JournalError,
    NoRespondersError,
)
from agent99.journal._api import NOT_READY, nanoseconds
from agent99.journal._client import JetStreamClient, Retry
from agent99.journal._consumers import find_consumer
from agent99.journal._hands import Taken, Verdict
from agent99.journal._port_consumers import ConsumerConfig
from agent99.journal._streams import stream_info

BACK = b"-NAK"
"""Gives a delivery back, to come again at once."""
KEEP = b"+WPI"
_ASK_S = 1.0
"""What became of a delivery is asked for no longer: to tell it once more may be better."""

Told = Literal["noted", "forgotten", "deleted"]


async def tell_verdict(
    client: JetStreamClient,
    config: ConsumerConfig,
    delivery: Taken,
    verdict: Verdict,
    is_deleted: Callable[[], bool],
) -> Told:
    """Return `noted`, or that the server does not know: of the delivery, or of the consumer.

    Args:
        is_deleted: Tells that the consumer is known to be deleted.

    Raises:
        JournalError: the stream is gone, or the consumer was not ready in time.
        DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
    """
    retry = Retry(client, client.deadline_s(client.patience_s))
    while not is_deleted():
        try:
            await client.ask_once(delivery.place, _form(verdict), retry.deadline_s)
        except NoRespondersError:
            await retry.pause(JournalError(f"consumer {config.name!r} is not ready"))
        except (DeadlineExceededError, DisconnectedError) as error:
            await retry.pause(error)
        else:
            return "noted"
        told = await _ask(client, config, delivery, retry.deadline_s)
        if told is not None:
            return told
    return "deleted"


async def _ask(
    client: JetStreamClient, config: ConsumerConfig, delivery: Taken, deadline_s: float
) -> Told | None:
    """Find out why a verdict is not answered; None: it may pass.

    A server that was killed knows its consumers as they were a tenth of a second before, and says
    nothing to a verdict on what it does not remember to have delivered. Of work it knows better
    what was done: that has left the stream. Where there are replicas nothing is forgotten, but who
    leads since a moment ago may not have caught up, and a replica that has just started answers
    for the leader, as if the consumer were new.
    """
    stream, name, sequence = config.stream, config.name, delivery.record.sequence
    until_s = min(deadline_s, client.deadline_s(_ASK_S))
    try:
        info = await find_consumer(client, stream, name, deadline_s=until_s)
        if info is None:
            return "deleted"
        if info.delivered.stream_seq >= sequence:
            return None
        if (await stream_info(client, stream, deadline_s=until_s)).config.get("num_replicas") != 1:
            return None
        is_there = await client.leader_get(stream, {"seq": sequence}, deadline_s=until_s)
    except (DeadlineExceededError, DisconnectedError):
        return None
    except JournalError as error:
        if error.server_code and error.server_code not in NOT_READY:
            raise
        return None
    return "forgotten" if is_there else "noted"


def _form(verdict: Verdict) -> bytes:
    """Return a verdict as the server takes it."""
    if verdict.kind == "ack":
        return b"+ACK"
    if verdict.kind == "terminate":
        return b"+TERM " + verdict.reason.encode()
    if verdict.delay_s == 0:
        return BACK
    return b'-NAK {"delay": %d}' % nanoseconds(verdict.delay_s)
