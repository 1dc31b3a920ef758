"""A load that is run by the thread that waits for its value."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

V = TypeVar("V")


class Handed(Generic[V]):
    """Runs a plain callable in the calling thread, when the event loop asks for it.

    A refresh in the background, for which no thread waits, runs in one of the loop's worker
    threads.

    Args:
        load: Computes the value; None: there is none.
        wait: Runs a coroutine on the loop, and returns its result.
    """

    def __init__(
        self, load: Callable[[], V | None], wait: Callable[[Coroutine[Any, Any, Any]], Any]
    ) -> None:
        self._load = load
        self._wait = wait
        self._call: asyncio.Task[V | None]
        self._asked: asyncio.Future[None]
        self._answer: asyncio.Future[V | None] | None = None

    def __repr__(self) -> str:
        return f"Handed({self._load!r})"

    async def load(self) -> V | None:
        """Have the load run; on the loop."""
        if self._call.done() or self._asked.done():
            return await asyncio.to_thread(self._load)
        self._answer = asyncio.get_running_loop().create_future()
        self._asked.set_result(None)
        return await self._answer

    def run(self, call: Coroutine[Any, Any, V | None]) -> V | None:
        """Return what a call returns that may ask for the load; in the thread that waits."""
        turn = self._begin(call)
        while self._wait(turn):
            try:
                value = self._load()
            except Exception as error:  # noqa: BLE001 - it is raised again where the call waits
                turn = self._go_on(None, error)
            except BaseException:
                self._wait(self._break_off())
                raise
            else:
                turn = self._go_on(value, None)
        found: V | None = self._wait(self._result())
        return found

    async def _begin(self, call: Coroutine[Any, Any, V | None]) -> bool:
        self._asked = asyncio.get_running_loop().create_future()
        self._call = asyncio.get_running_loop().create_task(call)
        return await self._is_asked()

    async def _go_on(self, value: V | None, error: Exception | None) -> bool:
        answer, self._answer = self._answer, None
        self._asked = asyncio.get_running_loop().create_future()
        if answer is not None and not answer.done():
            if error is None:
                answer.set_result(value)
            else:
                answer.set_exception(error)
        return await self._is_asked()

    async def _is_asked(self) -> bool:
        """Wait until the load is asked for, or the call has ended."""
        await asyncio.wait((self._call, self._asked), return_when=asyncio.FIRST_COMPLETED)
        return self._asked.done()

    async def _break_off(self) -> None:
        self._call.cancel()
        if self._answer is not None:
            self._answer.cancel()

    async def _result(self) -> V | None:
        return await self._call
