"""The verbs in blocking form: for plain `def` operations, scripts and notebooks."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from agent99.agent._facilities import blocking_cache, open_cache
from agent99.agent._gather import Survey, control, survey
from agent99.agent._stored import Label, append, post
from agent99.agent._targets import Peer, Target
from agent99.dispatch import DEFAULT_OPERATION, Context, find_context, new_event_loop, use_context
from agent99.errors import ClosedError, UsageError

if TYPE_CHECKING:
    from agent99.agent._caller import Caller
    from agent99.agent._link import Link
    from agent99.systems.cache import BlockingCache, Cache, Reads

T = TypeVar("T")


class Blocking:
    """Each method waits for its result; call it from a thread that is not the event loop's.

    The promises and errors are those of the methods of the same name of `Mesh`.
    """

    def __init__(self, caller: Caller, link: Link, loop: asyncio.AbstractEventLoop) -> None:
        self._caller = caller
        self._link = link
        self._loop = loop

    def __repr__(self) -> str:
        return f"Blocking({self._caller!r})"

    def discover(self, *capabilities: str) -> list[Peer]:
        """Return who offers all of the capabilities now; see `Mesh.discover`."""

        async def look() -> list[Peer]:
            return self._caller.discover(capabilities)

        return self._wait(look())

    @overload
    def request(
        self,
        target: Target,
        operation: str = DEFAULT_OPERATION,
        payload: Any = None,
        *,
        returns: type[T],
        timeout_s: float = 5.0,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> T: ...

    @overload
    def request(
        self,
        target: Target,
        operation: str = DEFAULT_OPERATION,
        payload: Any = None,
        *,
        timeout_s: float = 5.0,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Any: ...

    def request(
        self,
        target: Target,
        operation: str = DEFAULT_OPERATION,
        payload: Any = None,
        *,
        returns: Any = Any,
        timeout_s: float = 5.0,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Any:
        """Ask, wait, and return the typed result; see `Mesh.request`."""

        async def ask() -> Any:
            return await self._caller.request(
                target,
                operation,
                payload,
                returns=returns,
                timeout_s=timeout_s,
                headers=headers,
                idempotency_key=idempotency_key,
            )

        return self._wait(ask())

    def survey(
        self,
        capability: str,
        operation: str = DEFAULT_OPERATION,
        payload: Any = None,
        *,
        returns: Any = Any,
        timeout_s: float = 5.0,
        wanted: int | None = None,
    ) -> Survey:
        """Ask every instance of a capability; see `Mesh.survey`."""
        return self._wait(
            survey(
                self._caller,
                self._link,
                capability,
                operation,
                payload,
                returns=returns,
                timeout_s=timeout_s,
                wanted=wanted,
            )
        )

    def cache(
        self,
        namespace: str = "default",
        of: Any = Any,
        *,
        compress: bool = False,
        near_s: float | None = None,
        reads: Reads = "owner",
    ) -> BlockingCache[Any]:
        """Return a namespace of the distributed cache, in blocking form; see `Mesh.cache`."""

        async def find() -> Cache[Any]:
            return open_cache(
                self._link, namespace, of, compress=compress, near_s=near_s, reads=reads
            )

        return blocking_cache(self._wait(find()), self._wait)

    def control(
        self,
        target: Target | None,
        action: str,
        payload: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = 5.0,
    ) -> Survey:
        """Send a control action and gather the answers; see `Mesh.control`."""
        return self._wait(
            control(self._caller, self._link, target, action, payload, timeout_s=timeout_s)
        )

    def publish(self, topic: str, event: Any, *, headers: Mapping[str, str] | None = None) -> None:
        """Tell whoever listens now; see `Mesh.publish`."""

        async def send() -> None:
            await self._link.wire.wait_writable()
            self._caller.publish(topic, event, headers)

        self._wait(send())

    def append(
        self,
        topic: str,
        event: Any,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        event_id: str | None = None,
    ) -> str:
        """Store an event for those who follow its topic; see `Mesh.append`."""
        label = Label(key, headers, event_id)
        return self._wait(append(self._caller, self._link, topic, event, label))

    def post(
        self,
        capability: str,
        operation: str,
        payload: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        """Store work for whoever offers a capability, now or later; see `Mesh.post`."""
        how: dict[str, Any] = {"headers": headers, "idempotency_key": idempotency_key}
        return self._wait(post(self._caller, self._link, capability, operation, payload, **how))

    def run(self, work: Callable[[Caller], Coroutine[Any, Any, T]]) -> T:
        """Run on the event loop what a system does there, and return its result.

        Args:
            work: Is given what makes requests as this does, and returns what is to be awaited.

        Raises:
            UsageError: this is the event loop's own thread.
            ClosedError
            what it raises.
        """

        async def begin() -> T:
            return await work(self._caller)

        return self._wait(begin())

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop.is_closed() or not self._loop.is_running():
            work.close()
            raise ClosedError("mesh")
        if _running_loop() is not None:
            work.close()
            raise UsageError(
                "a blocking verb was called in an event loop, which would stand still; in an async"
                " method use `await self.request(...)` and its like"
            )
        future = asyncio.run_coroutine_threadsafe(_within(find_context(), work), self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:  # the loop was ended while this waited
            raise ClosedError("mesh") from None
        except BaseException:
            future.cancel()  # Ctrl-C while it waits
            raise


async def _within(context: Context | None, work: Coroutine[Any, Any, T]) -> T:
    """Carry the request in hand from the thread to the loop: deadlines shrink, traces go on."""
    if context is not None:
        use_context(context)
    return await work


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class LoopThread:
    """An event loop on a thread of its own.

    Invariant: the thread lives from `start` to `stop`.
    """

    def __init__(self) -> None:
        self._loop = new_event_loop()
        self._thread = threading.Thread(target=self._run, name="agent99-loop", daemon=True)

    def __repr__(self) -> str:
        return f"LoopThread(alive={self._thread.is_alive()})"

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` there and return its result."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop."""
        return self._loop

    def stop(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._end_tasks())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())

    async def _end_tasks(self) -> None:
        """End what other threads wait for: they would wait for ever."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
