"""A task that stands ready for work whose first step is taken before the task's own; for 3.11."""

from __future__ import annotations

import asyncio
import sys
import weakref
from asyncio import AbstractEventLoop, Task, tasks
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextvars import Context
from typing import Any, cast

Work = Coroutine[Any, Any, Any]
Ended = Callable[[Any], None]
"""Takes the result of work."""
Failed = Callable[[BaseException], None]
"""Takes what work raised; raises again what is not for it."""

# What asyncio gives to other implementations of tasks; typeshed knows it from 3.12 on.
_asyncio_tasks = cast("Any", tasks)
enter_task: Callable[[AbstractEventLoop, Task[Any]], None] = _asyncio_tasks._enter_task  # noqa: SLF001
leave_task: Callable[[AbstractEventLoop, Task[Any]], None] = _asyncio_tasks._leave_task  # noqa: SLF001
current_tasks: Mapping[AbstractEventLoop, Task[Any]] = _asyncio_tasks._current_tasks  # noqa: SLF001
_register_task: Callable[[Task[Any]], None] = _asyncio_tasks._register_task  # noqa: SLF001
_unregister_task: Callable[[Task[Any]], None] = _asyncio_tasks._unregister_task  # noqa: SLF001


class SpareTask:
    """A task that has not begun, kept out of `asyncio.all_tasks` until it does.

    Invariant: its own first step is taken at most once, by `go_on_with` or by `end`.
    """

    __slots__ = ("_as_new", "_bare", "_rest", "_step", "task")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._rest = _Rest()
        self.task: Task[None]
        self._step: Callable[[], None]
        self._make(loop)
        self._bare: Any = self.task
        """The same, with what only asyncio's own code asks of it."""
        self._bare._log_destroy_pending = False  # noqa: SLF001 - as asyncio.gather does
        _unregister_task(self.task)
        references = sys.getrefcount(self._bare) + 1  # as counted in `is_like_new`
        weak_references = weakref.getweakrefcount(self._bare)
        self._as_new = references, weak_references, False, None, self.task.get_name()

    def __repr__(self) -> str:
        return f"SpareTask({self.task!r})"

    def is_like_new(self) -> bool:
        """Return whether nobody keeps or changed the task: then none can tell it from a new one."""
        task = self._bare
        return self._as_new == (
            sys.getrefcount(task),
            weakref.getweakrefcount(task),
            task._must_cancel,  # noqa: SLF001 - as asyncio.tasks has it
            task._callbacks,  # noqa: SLF001 - as above
            task.get_name(),
        )

    def go_on_with(
        self, work: Work, context: Context, waits_for: Any, ended: Ended, failed: Failed
    ) -> None:
        """Let the task run the rest of `work`, which waits for something now.

        No other task may be the current one.
        """
        self._rest.take(work, context, ended, failed, waits_for)
        self._begin()

    def end(self) -> None:
        """Let the task end, soon, so that whoever has kept it sees that its work is done."""
        self._rest.take(_nothing(), Context(), _ignore, _raise)
        _register_task(self.task)
        asyncio.get_running_loop().call_soon(self._step, context=Context())

    def _begin(self) -> None:
        _register_task(self.task)
        self._bare._log_destroy_pending = True  # noqa: SLF001 - as above
        Context().run(self._step)  # what it runs has a context of its own

    def _make(self, loop: AbstractEventLoop) -> None:
        """Make the task, and keep its first step from the loop's queue."""
        held: list[tuple[Callable[..., Any], tuple[Any, ...], Context | None]] = []

        def hold(callback: Callable[..., Any], *args: Any, context: Context | None = None) -> None:
            held.append((callback, args, context))

        vars(loop)["call_soon"] = hold
        try:
            self.task = Task(cast("Work", self._rest), loop=loop)
        finally:
            del vars(loop)["call_soon"]
        for callback, args, context in held:
            if getattr(callback, "__self__", None) is self.task:
                self._step = callback
            else:  # of something that the garbage collector ended just then
                loop.call_soon(callback, *args, context=context)


class _Rest:
    """What the task runs: the rest of its work, in the work's own context. It is a coroutine to it.

    Invariant: nothing is sent or thrown before `take`.
    """

    __slots__ = ("_begun", "_context", "_ended", "_failed", "_work")

    def __init__(self) -> None:
        self._begun: tuple[Any, ...] = ()
        self._context: Context
        self._work: Work
        self._ended: Ended
        self._failed: Failed

    def __repr__(self) -> str:
        return f"_Rest({getattr(self, '_work', None)!r})"

    def __getattr__(self, name: str) -> Any:
        """Return the work's own attribute: its name and frame, for those who show tasks."""
        if name in _Rest.__slots__:
            raise AttributeError(name)
        return getattr(self._work, name)

    def __await__(self) -> Generator[Any, Any, None]:
        """Wait for the rest of the work."""
        yield from self._work.__await__()

    def take(self, work: Work, context: Context, ended: Ended, failed: Failed, *begun: Any) -> None:
        """Take work that has not begun, or has, and waits for the thing in `begun`."""
        self._work, self._context, self._begun = work, context, begun
        self._ended, self._failed = ended, failed

    def send(self, value: Any, /) -> Any:
        """Go on."""
        if self._begun:
            [waits_for], self._begun = self._begun, ()
            return waits_for
        return self._go_on(self._work.send, value)

    def throw(self, error: BaseException, /) -> Any:
        """Go on with an error: that of a task that is cancelled, or of what it waits for."""
        if (
            self._begun
        ):  # it cancelled itself in its first step: then what it waits for is cancelled
            [waits_for], self._begun = self._begun, ()
            if isinstance(waits_for, asyncio.Future) and waits_for.cancel():
                return cast("Any", waits_for)
        return self._go_on(self._work.throw, error)

    def _go_on(self, step: Callable[[Any], Any], value: Any) -> Any:
        try:
            return self._context.run(step, value)
        except StopIteration as end:
            self._ended(end.value)
        except BaseException as error:  # noqa: BLE001 - `failed` raises again what is not for it
            self._failed(error)
        raise StopIteration

    def close(self) -> None:
        """Leave the rest undone."""
        self._work.close()


async def _nothing() -> None:
    """Be what is left of work that has ended."""


def _ignore(_result: object) -> None:
    pass


def _raise(error: BaseException) -> None:
    raise error
