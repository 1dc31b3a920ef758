"""A Redis server of the tests' own, and a client that sees every byte."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests._postgres import free_port
from tests._wait import wait_until

ANSWER_S_MAX = 10.0
STOP_S_MAX = 10.0


def find_binary(name: str) -> str:
    """Return where a programme is; not installed, the test is skipped (in CI it fails)."""
    found = shutil.which(name)
    if found is None:
        reason = f"Redis is not installed: no `{name}` on PATH"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Give the port of a real redis-server, on loopback and in a temporary folder."""
    binary = find_binary("redis-server")
    folder: Path = tmp_path_factory.mktemp("redis")
    port = free_port()
    flags = [f"--port {port}", "--bind 127.0.0.1", f"--dir {folder}", "--save ''", "--databases 1"]
    words = [word for flag in flags for word in flag.split()]
    words[words.index("''")] = ""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary, *words], stdout=log, stderr=log, cwd=folder)
    try:
        wait_until(lambda: process.poll() is not None or _answers(port))
        if process.poll() is not None:
            pytest.fail(f"redis-server ended at once: {(folder / 'log').read_text()}")
        yield port
    finally:
        process.terminate()
        process.wait(STOP_S_MAX)


def _answers(port: int) -> bool:
    asked = [find_binary("redis-cli"), "-p", str(port), "PING"]
    return subprocess.run(asked, check=False, capture_output=True).stdout == b"PONG\n"


class RawClient:
    """A client of the protocol that returns answers as they came."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int) -> RawClient:
        """Connect on loopback."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def send(self, *words: str | bytes) -> None:
        """Send a request."""
        self.writer.write(request_of(*words))

    async def ask(self, *words: str | bytes) -> bytes:
        """Send a request and return the answer to it."""
        self.send(*words)
        return await self.answer()

    async def answer(self) -> bytes:
        """Return the next answer, whole."""
        async with asyncio.timeout(ANSWER_S_MAX):
            return await self._answer()

    async def rest(self) -> bytes:
        """Return what comes until the other side closes; nothing where it cuts the connection."""
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                return await self.reader.read()
        except ConnectionError:
            return b""

    async def close(self) -> None:
        """Close the connection."""
        self.writer.close()
        await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)

    async def _answer(self) -> bytes:
        line = await self.reader.readuntil(b"\r\n")
        kind, number = line[:1], line[1:-2]
        if kind in {b"$", b"="} and number != b"-1":
            return line + await self.reader.readexactly(int(number) + 2)
        if kind in {b"*", b"%"}:
            count = int(number) * (2 if kind == b"%" else 1)
            return line + b"".join([await self._answer() for _ in range(count)])
        return line


def request_of(*words: str | bytes) -> bytes:
    """Return a request as bytes."""
    raw = [word.encode() if isinstance(word, str) else word for word in words]
    return b"".join((b"*%d\r\n" % len(raw), *(b"$%d\r\n%b\r\n" % (len(w), w) for w in raw)))
