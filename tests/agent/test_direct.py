"""Which of an agent's operations have a task of their own."""

from __future__ import annotations

import asyncio
from typing import Any

from agent99 import Agent, Mesh, operation
from agent99.dispatch import Context, Handler


class Counter(Agent):
    """Tells in what its operations run."""

    capabilities = ("counter",)

    @operation
    async def quick(self) -> bool:
        """Tell, without waiting."""
        return has_task()

    @operation
    async def slow(self) -> bool:
        """Tell, after a wait."""
        await asyncio.sleep(0)
        return has_task()


async def pass_on(context: Context, payload: Any, proceed: Handler) -> Any:
    """Be middleware that may wait."""
    return await proceed(context, payload)


class Guarded(Counter):
    """The same behind middleware."""

    capabilities = ("guarded",)
    middleware = (pass_on,)


def has_task() -> bool:
    """Tell whether the current task is one that still runs."""
    task = asyncio.current_task()
    assert task is not None
    return not task.done()


async def test_an_operation_without_an_await_runs_without_a_task(mesh: Mesh, client: Mesh) -> None:
    """From afar and from the same process; anything around it that may wait has a task."""
    await mesh.host(Counter(), Guarded())
    for asker in (mesh, client):
        await asker.wait_for("counter")
        await asker.wait_for("guarded")
        tasks = {
            (capability, name): await asker.request(capability, name, returns=bool)
            for capability in ("counter", "guarded")
            for name in ("quick", "slow")
        }
        assert tasks == {
            ("counter", "quick"): False,
            ("counter", "slow"): True,
            ("guarded", "quick"): True,
            ("guarded", "slow"): True,
        }
