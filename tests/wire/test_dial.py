"""What is said of a server that cannot be reached."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Callable

import pytest

from agent99.clock import SystemClock
from agent99.errors import ServerUnavailableError
from agent99.ids import SystemIds
from agent99.wire import open_wire
from agent99.wire._dial import _reason


def _loops() -> list[Callable[[], asyncio.AbstractEventLoop]]:
    loops: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop]
    if sys.platform != "win32":
        import uvloop

        loops.append(uvloop.new_event_loop)
    return loops


async def _refusal(url: str) -> str:
    with pytest.raises(ServerUnavailableError) as caught:
        await open_wire(url, sender=b"tester", clock=SystemClock(), ids=SystemIds())
    return str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("make_loop", _loops())
def test_a_closed_port_is_told_in_the_same_words_on_every_loop(
    make_loop: Callable[[], asyncio.AbstractEventLoop], host: str
) -> None:
    """It is "connection refused", with what may help, whoever runs the loop."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        with asyncio.Runner(loop_factory=make_loop) as runner:
            text = runner.run(_refusal(f"nats://{host}:{taken.getsockname()[1]}"))
    assert ": connection refused; is a nats-server running there? (AGENT99_URL or" in text


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            OSError("Multiple exceptions: [Errno 111] 1, [Errno 111] 2, [Errno 113] 3"),
            f"{os.strerror(111).lower()} and {os.strerror(113).lower()}",
        ),
        (OSError(errno.ECONNREFUSED, "other words"), "connection refused"),
        (socket.gaierror(socket.EAI_NONAME, "Name not known"), "Name not known"),
        (socket.gaierror(), "the host name is not known"),
        (OSError("no number"), "OSError"),
    ],
)
def test_the_reason_is_in_the_systems_words(error: OSError, reason: str) -> None:
    """Each of the system's numbers is told once; what has none is told by its kind."""
    assert reason == _reason(error)
