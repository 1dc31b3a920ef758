"""Ten compare-and-set appends by bare nats-py, one after the other: what a saga's journal costs.

The records are those of agent99's, byte for byte in length. Nothing is run, nothing is decided, and
none has a message id.
"""

from __future__ import annotations

from uuid import uuid4

import nats
from _role import run_on_uvloop
from _sagas_role import STEPS, Arguments, measure, read_arguments
from nats.js.api import Header, StorageType

_STREAM = "natspy"
_STARTED = b'{"kind":"started",%s}' % (b" " * 400)
_INTENT = b'{"kind":"intent","at_us":1795729500349622,"step":["nothing",0],"arguments":223132457}'
_RESULT = (
    b'{"kind":"result","at_us":1795729500350070,"step":["nothing",0],"value":{"result":null},'
    b'"is_value":true}'
)
_FINISHED = (
    b'{"kind":"finished","at_us":1795729500352491,"outcome":"done","answer":{"result":1},'
    b'"is_value":true}'
)
RECORDS = (_STARTED, *(_INTENT, _RESULT) * STEPS, _FINISHED)


async def append(arguments: Arguments) -> None:
    """Append, and measure."""
    connection = await nats.connect(arguments.url)
    stream = connection.jetstream()
    await stream.add_stream(name=_STREAM, subjects=[f"{_STREAM}.>"], storage=StorageType.FILE)

    async def store(number: int) -> int:
        subject, sequence = f"{_STREAM}.{uuid4()}", 0
        for record in RECORDS:
            headers = {Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(sequence)}
            sequence = (await stream.publish(subject, record, headers=headers)).seq
        return number

    await measure(store, arguments)
    await connection.close()


def main() -> None:
    """Measure."""
    run_on_uvloop(append(read_arguments("A saga's records on raw nats-py.")))


if __name__ == "__main__":
    main()
