"""What one instance works off: the jobs for its capabilities, and the events that it follows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent99.agent._binding import Duty, Host
    from agent99.agent._blueprint import Blueprint, Method
    from agent99.agent._link import Link
    from agent99.dispatch import Dispatcher
    from agent99.store import Store
    from agent99.work import Advisories, Assignment, Relay, Task, Worker

RELAY_S = 2.0
"""How long a stopping instance goes on sending what waits in its outboxes."""


class Worked(Protocol):
    """A running instance, as far as its work needs it."""

    instance: str
    blueprint: Blueprint
    dispatcher: Dispatcher
    events: Dispatcher
    host: Host


class Duties:
    """The workers and relays of one instance, and what its bindings do."""

    def __init__(self, instance: Worked, link: Link) -> None:
        self._instance = instance
        self._link = link
        self.workers: list[Worker] = []
        """Those that work, or pause."""
        self._advisories: list[Advisories] = []
        self._relays: list[Relay] = []

    def __repr__(self) -> str:
        return f"Duties(workers={len(self.workers)}, relays={len(self._relays)})"

    def start(self) -> None:
        """Work from now on, or again. Idempotent."""
        blueprint = self._instance.blueprint
        if not self.workers and (blueprint.jobs or blueprint.followers):
            self._make_workers()
        for each in self._all():
            each.start()

    async def leave(self) -> None:
        """Take nothing new in hand; what is, goes on. Idempotent."""
        await asyncio.gather(*(each.leave() for each in self._all()))

    async def finish(self, timeout_s: float) -> bool:
        """Let what is in hand end; returns False when it did not in time, and comes again."""
        ending = [each.stop(timeout_s) for each in self._all()]
        self.workers, self._advisories = [], []
        return all(await asyncio.gather(*ending))

    def relay(self, store: Store) -> Relay:
        """Send a store's outbox from now on."""
        durable = self._link.durable
        relay = durable.relay(store, self._instance.instance)
        durable.relays.add(relay)
        self._relays.append(relay)
        relay.start()
        return relay

    async def end_relays(self) -> None:
        """Send what waits, for 2 s at most, then leave the outboxes to others."""
        relays, self._relays = self._relays, []
        await asyncio.gather(*(relay.stop(RELAY_S) for relay in relays))
        if relays:
            self._link.durable.relays.difference_update(relays)

    def _all(self) -> list[Duty]:
        return [*self.workers, *self._advisories, *self._instance.host.duties]

    # --- inside -----------------------------------------------------------------------------------

    def _make_workers(self) -> None:
        from agent99.work import Advisories, Worker  # noqa: PLC0415 - loaded when it is used

        durable, blueprint = self._link.durable, self._instance.blueprint
        places = {
            each: asyncio.Semaphore(each.options.concurrency_max)
            for each in (self._instance.dispatcher, self._instance.events)
        }
        for assignment, dispatcher in self._assignments():
            route = dispatcher.routes.find(assignment.task.operation)
            assert route is not None, "every job and every follower has its route"
            worker = Worker(assignment, dispatcher, route, durable.parts, places[dispatcher])
            self.workers.append(worker)
        posted = {*(blueprint.capabilities if blueprint.jobs else ())}
        if blueprint.followers:  # what is redriven comes by the agent's own name
            posted.add(blueprint.name)
        for capability in sorted(posted):
            self._advisories.append(Advisories(capability, durable.streams, durable.parts))

    def _assignments(self) -> Iterator[tuple[Assignment, Dispatcher]]:
        from agent99.work import events_for, jobs_for  # noqa: PLC0415 - loaded when it is used

        instance, subjects = self._instance, self._link.subjects
        blueprint, streams = instance.blueprint, self._link.durable.streams
        for method in blueprint.jobs:
            task = self._task(method)
            for capability in blueprint.capabilities:
                yield jobs_for(capability, task, streams, subjects), instance.dispatcher
        for method in blueprint.followers:
            task, pattern = self._task(method), method.mark.pattern
            assert pattern is not None, "who follows says what"
            yield events_for(blueprint.name, pattern, task, streams, subjects), instance.events
            # What is taken out of quarantine comes back as a job for this very method.
            yield jobs_for(blueprint.name, task, streams, subjects), instance.events

    def _task(self, method: Method) -> Task:
        from agent99.work import Task  # noqa: PLC0415 - loaded when it is used

        curve, options = method.mark.curve, self._instance.dispatcher.options
        assert curve is not None, "only jobs and followers have tasks"
        return Task(
            operation=method.mark.name,
            kind="event" if method.mark.role == "follower" else "request",
            curve=curve,
            prefetch_max=options.concurrency_max,
        )
