"""Processes that are a cache and its clients, for a campaign to kill, freeze and cut off."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from agent99 import Mesh
from agent99.systems.cache import Cache
from agent99.systems.cache._table import Table
from agent99.testing import ChaosProxy
from tests._wait import eventually
from tests.systems.cache._history import Histories, read_histories
from tests.systems.cache._member import NAMESPACE

ROOT: Final = Path(__file__).parents[3]
START_S: Final = 60.0
WHOLE_S: Final = 60.0
"""So long may a cache take until every key has its copies again."""
Role = Literal["node", "client", "writer", "reader"]


class Member:
    """One process."""

    def __init__(self, role: Role, process: Process, link: ChaosProxy | None) -> None:
        self.role = role
        self.instance = ""
        """Of a node: the agent's, by which the table knows it."""
        self.link = link
        """What stands between it and the server; None: nothing."""
        self._process = process

    def __repr__(self) -> str:
        return f"Member({self.role!r}, pid={self.pid}, is_alive={self.is_alive})"

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended; a frozen one has not."""
        return self._process.returncode is None

    async def wait_word(self) -> None:
        """Wait until it says that it works.

        Raises:
            AssertionError: it ended instead.
        """
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), START_S)
        assert line, f"a {self.role} ended by itself; see {self.pid}.log"
        self.instance = line.decode().split()[1]

    def freeze(self) -> None:
        """Let it do nothing at all (SIGSTOP)."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        self._process.send_signal(signal.SIGCONT)

    def cut(self) -> None:
        """Let nothing through between it and the server; only with a link."""
        assert self.link is not None
        self.link.stall()

    def heal(self) -> None:
        """Let everything through, and what was kept back first."""
        assert self.link is not None
        self.link.heal()

    async def kill(self) -> None:
        """End it as a crash would (SIGKILL), and reap it. Idempotent."""
        if self.is_alive:
            self._process.kill()
        await self._process.communicate()

    async def stop(self) -> None:
        """Let it end what it has under way (SIGTERM), and reap it."""
        if self.is_alive:
            self._process.terminate()
        await asyncio.wait_for(self._process.communicate(), START_S)


class Crew:
    """The processes of one mesh, and a look at its table; use it with `async with`.

    Invariant: none of them outlives it.
    """

    def __init__(self, url: str, mesh: str, folder: Path, seed: int) -> None:
        self.folder = folder
        """Where their histories and logs are."""
        self.members: list[Member] = []
        self.mesh = mesh
        """Its name."""
        self._url, self._seed = url, seed
        self._stack = AsyncExitStack()
        self._cache: Cache[Any]

    def __repr__(self) -> str:
        return f"Crew({self.mesh!r}, {self.members})"

    async def __aenter__(self) -> Self:
        """Join the mesh, to look on."""
        mesh = await self._stack.enter_async_context(Mesh(self._url, mesh=self.mesh))
        self._cache = await mesh.cache(NAMESPACE)
        return self

    async def __aexit__(self, *_: object) -> None:
        """End everything."""
        for member in self.members:
            await member.kill()
        await self._stack.aclose()

    # --- who is there -----------------------------------------------------------------------------

    async def start(self, role: Role, *, through_link: bool = False, more: str = "none") -> Member:
        """Start a process; returns when it works.

        Args:
            more: What else `_member` wants to be told.
            through_link: Whether it reaches the server by a link of its own, which can be cut.
        """
        link = await self._open_link() if through_link else None
        url = self._url if link is None else f"nats://127.0.0.1:{link.port}"
        seed = self._seed + len(self.members)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.systems.cache._member", url, self.mesh, str(self.folder), role),
            *(str(seed), more),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        member = Member(role, process, link)
        self.members.append(member)
        await member.wait_word()
        return member

    async def start_nodes(
        self, count: int, *, through_link: bool = False, more: str = "none"
    ) -> list[Member]:
        """Start nodes side by side; returns when all keys have their copies."""
        starts = (self.start("node", through_link=through_link, more=more) for _ in range(count))
        started = await asyncio.gather(*starts)
        await self.wait_whole()
        return list(started)

    def living(self, role: Role) -> list[Member]:
        """Return those that have not ended."""
        return [each for each in self.members if each.role == role and each.is_alive]

    # --- the cache --------------------------------------------------------------------------------

    @property
    def cache(self) -> Cache[Any]:
        """What the clients use, from this process."""
        return self._cache

    @property
    def table(self) -> Table:
        """Who owns what, as this process knows it."""
        return self._cache.table

    async def wait_whole(self, timeout_s: float = WHOLE_S) -> None:
        """Wait until the living nodes, and no others, have every partition as it is to be.

        Raises:
            AssertionError: they have not, in time.
        """
        instances = {each.instance for each in self.living("node")}
        await eventually(lambda: is_whole(self.table, instances), timeout_s=timeout_s)

    async def stop_clients(self) -> Histories:
        """Let all clients end what they have under way; returns what all have written down."""
        clients = [each for each in self.members if each.role != "node" and each.is_alive]
        await asyncio.gather(*(each.stop() for each in clients))
        return read_histories(self.folder)

    async def _open_link(self) -> ChaosProxy:
        port = urlsplit(self._url).port
        assert port is not None
        return await self._stack.enter_async_context(ChaosProxy(port))


def is_whole(table: Table, instances: AbstractSet[str]) -> bool:
    """Tell whether these nodes, and no others, have each partition as it is to be."""
    copies = min(table.replicas, len(instances) - 1)
    return {node.instance for node in table.nodes} == instances and all(
        part.owner and part.goal == (part.owner, *part.replicas) and len(part.replicas) == copies
        for part in table.parts
    )
