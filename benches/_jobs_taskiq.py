"""Jobs on Taskiq over NATS: measured where it is installed.

Stored in JetStream by its pull broker, with batches of 250: with one, its default, it does a third;
with 100 it is as quick as its push broker and a fifth slower; with more no quicker. Or, with the
role `unstored`, by its plain broker, which loses what nobody hears and acknowledges nothing.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
from _jobs_role import AT_ONCE, Arguments, Tally, post_all, read_arguments, tell
from _order import ORDER, Order
from _role import run_on_uvloop
from taskiq import AsyncBroker
from taskiq.acks import AcknowledgeType
from taskiq.receiver import Receiver
from taskiq_nats import NatsBroker, PullBasedJetStreamBroker

_BATCH = 250
_TASK = "confirm"
_PLAIN_ORDER = msgspec.to_builtins(ORDER)


def stored(arguments: Arguments) -> AsyncBroker:
    """Return the broker whose jobs are stored until they have been executed."""
    queue = arguments.queue
    return PullBasedJetStreamBroker(
        arguments.url, subject=queue, stream_name=queue, durable=queue, pull_consume_batch=_BATCH
    )


async def listen(broker: AsyncBroker, last: asyncio.Event) -> None:
    """Execute a started broker's tasks as one `taskiq worker` does, until the last is done."""
    with ThreadPoolExecutor() as executor:
        receiver = Receiver(
            broker,
            executor,
            validate_params=False,  # msgspec does, in the task, as in every stack
            max_async_tasks=AT_ONCE,
            ack_type=AcknowledgeType.WHEN_EXECUTED,
            run_startup=False,
        )
        await receiver.listen(last)
    await broker.shutdown()


async def post(arguments: Arguments) -> None:
    """Store every job, before anybody is there who does it."""
    broker = stored(arguments)

    @broker.task(_TASK)
    async def confirm(order: dict[str, Any]) -> None:
        """Confirm an order: elsewhere."""

    await broker.startup()
    await post_all(lambda: confirm.kiq(_PLAIN_ORDER), arguments.every)
    await broker.shutdown()
    tell(posted=arguments.every)


async def work(arguments: Arguments) -> None:
    """Do them all; each is acknowledged after it is done, without waiting for a confirmation."""
    broker, tally, last = stored(arguments), Tally(arguments), asyncio.Event()

    @broker.task(_TASK)
    async def confirm(order: dict[str, Any]) -> None:
        if tally.do(msgspec.convert(order, Order)):
            last.set()

    await broker.startup()
    await listen(broker, last)


async def work_unstored(arguments: Arguments) -> None:
    """Post and do them all: they wait in this process's own subscription, until all are posted."""
    queue, tally = arguments.queue, Tally(arguments)
    broker = NatsBroker(arguments.url, subject=queue, queue=queue)
    hears, posted, last = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @broker.task(_TASK)
    async def confirm(order: dict[str, Any]) -> None:
        hears.set()
        await posted.wait()
        if tally.do(msgspec.convert(order, Order)):
            last.set()

    await broker.startup()
    listening = asyncio.create_task(listen(broker, last))
    while not hears.is_set():
        await confirm.kiq(_PLAIN_ORDER)
        await asyncio.sleep(0.01)
    await post_all(lambda: confirm.kiq(_PLAIN_ORDER), arguments.every)
    await broker.client.flush()
    posted.set()
    await listening


def main() -> None:
    """Post or work."""
    roles = {"post": post, "work": work, "unstored": work_unstored}
    arguments = read_arguments("Jobs on Taskiq.", tuple(roles))
    run_on_uvloop(roles[arguments.role](arguments))


if __name__ == "__main__":
    main()
