"""The order service on raw nats-py: msgspec on both sides, one subscription, `nc.request`."""

from __future__ import annotations

import asyncio

import msgspec
import nats
from _order import ORDER, Confirmation, Order, confirm
from _role import Arguments, measure, read_arguments, run_on_uvloop, tell_ready
from nats.aio.msg import Msg

_SUBJECT = "natspy.orders.create"


async def serve(arguments: Arguments) -> None:
    """Confirm orders for so many seconds."""
    decode = msgspec.json.Decoder(Order).decode
    encode = msgspec.json.Encoder().encode
    connection = await nats.connect(arguments.url)

    async def answer(message: Msg) -> None:
        await message.respond(encode(confirm(decode(message.data))))

    await connection.subscribe(_SUBJECT, cb=answer)
    await connection.flush()
    tell_ready()
    await asyncio.sleep(arguments.seconds)
    await connection.close()


async def load(arguments: Arguments) -> None:
    """Have orders confirmed, and measure."""
    decode = msgspec.json.Decoder(Confirmation).decode
    encode = msgspec.json.Encoder().encode
    connection = await nats.connect(arguments.url)

    async def ask() -> Confirmation:
        reply = await connection.request(_SUBJECT, encode(ORDER), timeout=10)
        return decode(reply.data)

    await measure(ask, arguments)
    await connection.close()


def main() -> None:
    """Be the server or the client."""
    arguments = read_arguments("The order service on raw nats-py.")
    run_on_uvloop(serve(arguments) if arguments.role == "server" else load(arguments))


if __name__ == "__main__":
    main()
