"""What ties a worker to its supervisor: a socket whose end, however it comes, means drain."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

import msgspec

VARIABLE = "AGENT99_LIFELINE"
"""The number of the worker's end of the socket."""


class Lifeline:
    """The worker's end."""

    def __init__(self, handle: int) -> None:
        self._socket = socket.socket(fileno=handle)
        self._socket.set_inheritable(False)
        self._socket.setblocking(False)

    def __repr__(self) -> str:
        return f"Lifeline({self._socket.fileno()})"

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call `callback` once when the supervisor is gone."""
        loop = asyncio.get_running_loop()

        def look() -> None:
            loop.remove_reader(self._socket)
            callback()

        loop.add_reader(self._socket, look)  # the supervisor writes nothing: it can only end

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()

    def tell_ready(self, document: Any) -> None:
        """Tell the supervisor that this worker is ready, and what it runs."""
        self._socket.setblocking(True)
        try:
            self._socket.sendall(msgspec.json.encode(document) + b"\n")
        except OSError:
            return  # the supervisor is gone: `on_end` tells
        finally:
            self._socket.setblocking(False)


def find_lifeline() -> Lifeline | None:
    """Return this process's lifeline if it is a worker; its children do not see it."""
    number = os.environ.pop(VARIABLE, "")
    return Lifeline(int(number)) if number.isdigit() else None
