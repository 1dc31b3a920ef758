"""Opening a mesh by one word, in async code and in scripts."""

from __future__ import annotations

from types import TracebackType

from agent99.agent._blocking import Blocking, LoopThread
from agent99.agent._mesh import Mesh


class connect:  # noqa: N801 - it reads as the verb that it is
    """Open the mesh: `async with connect() as mesh`; in scripts `with connect() as mesh`.

    Args:
        url: A NATS server's address; see `Mesh`.
        mesh: The namespace; see `Mesh`.
    """

    def __init__(self, url: str | None = None, *, mesh: str | None = None) -> None:
        self._url = url
        self._mesh = mesh
        self._opened: Mesh | None = None
        self._thread: LoopThread | None = None

    def __repr__(self) -> str:
        return f"connect(mesh={self._mesh!r})"

    async def __aenter__(self) -> Mesh:
        self._opened = Mesh(self._url, mesh=self._mesh)
        return await self._opened.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._opened is not None:
            await self._opened.aclose()

    def __enter__(self) -> Blocking:
        """Open the mesh on a thread of its own; every verb waits for its result."""
        self._thread = LoopThread()
        self._thread.start()
        try:
            return self._thread.run(self._enter_there())
        except BaseException:
            self._thread.stop()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._thread is not None and self._opened is not None:
            self._thread.run(self._opened.aclose())
            self._thread.stop()

    async def _enter_there(self) -> Blocking:
        return (await self.__aenter__()).blocking()
