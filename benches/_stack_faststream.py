"""The order service on FastStream over NATS with msgspec: measured where it is installed."""

from __future__ import annotations

import asyncio

import msgspec
from _order import ORDER, Confirmation, Order, confirm
from _role import Arguments, measure, read_arguments, run_on_uvloop, tell_ready
from fast_depends.msgspec import MsgSpecSerializer
from faststream.nats import NatsBroker

_SUBJECT = "faststream.orders.create"


async def serve(arguments: Arguments) -> None:
    """Confirm orders for so many seconds."""
    broker = NatsBroker(arguments.url, serializer=MsgSpecSerializer(), logger=None)

    @broker.subscriber(_SUBJECT)
    async def create(order: Order) -> Confirmation:
        return confirm(order)

    async with broker:
        await broker.start()
        tell_ready()
        await asyncio.sleep(arguments.seconds)


async def load(arguments: Arguments) -> None:
    """Have orders confirmed, and measure."""
    decode = msgspec.json.Decoder(Confirmation).decode
    broker = NatsBroker(arguments.url, serializer=MsgSpecSerializer(), logger=None)

    async def ask() -> Confirmation:
        reply = await broker.request(ORDER, _SUBJECT, timeout=10)
        return decode(reply.body)

    async with broker:
        await broker.start()
        await measure(ask, arguments)


def main() -> None:
    """Be the server or the client."""
    arguments = read_arguments("The order service on FastStream.")
    run_on_uvloop(serve(arguments) if arguments.role == "server" else load(arguments))


if __name__ == "__main__":
    main()
