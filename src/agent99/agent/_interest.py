"""What one instance listens to: its queue groups, its own subject, control, events."""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec

from agent99.agent._blueprint import Blueprint
from agent99.agent._link import Link, Local
from agent99.dispatch import DEFAULT_OPERATION, Dispatcher, Route
from agent99.envelope import QUEUE, Name, Pattern, decode_header, parse_name, sender_of
from agent99.errors import BadRequestError
from agent99.wire import ConnectionState, Message, Receive, Subscription


class Instance(Local, Protocol):
    """A running instance, as far as subscribing for it needs."""

    instance: str
    blueprint: Blueprint
    control: Dispatcher
    events: Dispatcher


class Interest:
    """The subscriptions of one instance, and its place among the instances of this process.

    Invariant: it is found within the process if and only if it is in the queue groups.
    """

    def __init__(
        self, instance: Instance, link: Link, listeners: list[tuple[Pattern | None, Route]]
    ) -> None:
        self._instance = instance
        self._link = link
        self._listeners = listeners
        self._has_joined = False
        self._queued: list[Subscription] = []
        self._direct: list[Subscription] = []
        self._events: list[Subscription] = []
        blueprint = instance.blueprint
        named = [("name", blueprint.name)] if blueprint.operations else []
        offered = [("capability", capability) for capability in blueprint.capabilities]
        self._targets: list[tuple[str, Name]] = [*offered, *named]

    def __repr__(self) -> str:
        return f"Interest(queued={len(self._queued)}, direct={len(self._direct)})"

    def listen(self) -> None:
        """Hear what is for this very instance, control, cancellations and events."""
        instance, subjects, wire = self._instance, self._link.subjects, self._link.wire
        name, blueprint = instance.blueprint.name, instance.blueprint
        own = parse_name("instance", instance.instance)
        by_subject = instance.dispatcher.receive_by_subject
        control = instance.control.receive_by_subject
        heard: dict[bytes, Receive] = {subjects.instance_listen(name, own): by_subject}
        heard.update(dict.fromkeys(subjects.control_listen(name, own), control))
        targets = (name, *blueprint.capabilities)
        heard.update(dict.fromkeys(map(subjects.cancel_listen, targets), self._receive_cancel))
        for subject, receive in heard.items():
            self._direct.append(wire.subscribe(subject, receive))
        for pattern, route in self._listeners:  # two methods may hear the same
            if pattern is not None:
                subject = subjects.event_listen(pattern)
                self._events.append(wire.subscribe(subject, instance.events.receiver(route)))

    def join(self) -> None:
        """Enter the queue groups, by one subscription per target and operation.

        Groups merge across overlapping patterns: a wider one would hand one operation's requests
        to another. Idempotent.
        """
        if self._has_joined:
            return
        self._has_joined = True
        subjects, dispatcher = self._link.subjects, self._instance.dispatcher
        operations = dict.fromkeys((*self._instance.blueprint.operations, DEFAULT_OPERATION))
        for kind, target in self._targets:
            listen = subjects.capability_listen if kind == "capability" else subjects.named_listen
            for operation in operations:
                route = dispatcher.routes.find(operation)
                receive = dispatcher.receiver(route) if route else dispatcher.receive_by_subject
                subject = listen(target, operation)
                self._queued.append(self._link.wire.subscribe(subject, receive, queue=QUEUE))
        self._link.add_local(self._keys, self._instance)

    async def leave(self) -> None:
        """Leave the queue groups; returns when what was under way to this instance has come.

        Raises:
            DeadlineExceededError, DisconnectedError: the server did not confirm; they are left.
        """
        self._withdraw()
        queued, self._queued = self._queued, []
        await self._drain(queued)

    async def leave_events(self) -> None:
        """Hear no more events; returns when those under way have come.

        Raises:
            DeadlineExceededError, DisconnectedError: the server did not confirm; they are left.
        """
        events, self._events = self._events, []
        await self._drain(events)

    async def _drain(self, subscriptions: list[Subscription]) -> None:
        if self._link.wire.state is ConnectionState.CONNECTED:
            await asyncio.gather(*(subscription.drain() for subscription in subscriptions))
        else:  # nothing is under way: there is nobody to wait for
            for subscription in subscriptions:
                subscription.unsubscribe()

    def end(self) -> None:
        """Hear nothing any more, at once."""
        self._withdraw()
        for subscription in (*self._queued, *self._direct, *self._events):
            subscription.unsubscribe()
        self._queued, self._direct, self._events = [], [], []

    def _withdraw(self) -> None:
        self._has_joined = False
        self._link.remove_local(self._keys, self._instance)

    @property
    def _keys(self) -> list[tuple[str, str]]:
        return [*self._targets, ("instance", self._instance.instance)]

    def _receive_cancel(self, message: Message) -> None:
        try:
            decode_header(message.payload)
            event_ids = _decode_cancel(message.payload).event_uuids
        except (BadRequestError, msgspec.MsgspecError):
            self._instance.control.counts.drop("bad_cancel")
            return
        self._instance.dispatcher.cancel(sender_of(message.subject), event_ids)


class _Cancel(msgspec.Struct):
    event_uuids: list[str]


_decode_cancel = msgspec.json.Decoder(_Cancel).decode
