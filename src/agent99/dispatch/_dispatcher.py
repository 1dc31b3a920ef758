"""The dispatcher of one instance: from a message to its handler, and the outcome back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from agent99.clock import Clock, Deadlines
from agent99.dispatch._admission import Admission
from agent99.dispatch._call import Call
from agent99.dispatch._context import Origin
from agent99.dispatch._counts import Counts, Statistics
from agent99.dispatch._direct import direct_runner
from agent99.dispatch._failed import answer_to, is_break, last_error
from agent99.dispatch._idle import Idle
from agent99.dispatch._options import DispatchOptions
from agent99.dispatch._reply import Replier
from agent99.dispatch._route import Route
from agent99.dispatch._routes import Routes
from agent99.dispatch._tasks import eager_starter
from agent99.dispatch._witness import Witness
from agent99.envelope import (
    WIRE_VERSION,
    Header,
    Outcome,
    is_inbox_of,
    operation_of,
    peek_header,
    sender_of,
    split_message,
    topic_of,
)
from agent99.errors import (
    DeadlineExceededError,
    HandlerError,
    OverloadedError,
    PausedError,
    RequestCancelledError,
    RequestError,
)
from agent99.wire import Message, Receive, Wire

NO_RESULT = "no result by the deadline; whether the operation ran, in part or whole, is unknown"


class Dispatcher:
    """Takes the messages of one instance. Created on the event loop that it works on.

    Invariant: every message ends in exactly one of: an answer, an error answer, a counted drop.
    """

    def __init__(
        self,
        witness: Witness,
        wire: Wire,
        *,
        clock: Clock,
        deadlines: Deadlines,
        options: DispatchOptions,
    ) -> None:
        self.instance = witness.instance
        self.kind = witness.kind
        """The kind of message that is taken here; events are answered by nobody."""
        self.counts = Counts(witness)
        self.refusal = ""
        """Why nothing is taken on at present: `paused`, `draining`; empty: all is well."""
        self.options = options
        self._clock = clock
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self._witness = witness
        self._hooks = witness.hooks
        self.routes = Routes(self.kind)
        """What is offered."""
        self._calls: set[Call] = set()
        self._first_steps: list[Call] = []
        """Of handlers that run just now, each within the one before."""
        self._admission: Admission[Call] = Admission(
            concurrency_max=options.concurrency_max, waiting_max=options.waiting_max
        )
        self._replier = Replier(self.instance, wire, clock, self.counts)
        self._pumping = False
        self._idle = Idle(self._admission, clock, deadlines)
        self._stale_us = int(options.stale_s * 1e6)
        self._start_task = eager_starter(self._loop, self._succeed, self._fail)
        self._run_through = direct_runner(self._loop, self._succeed, self._fail)

    def __repr__(self) -> str:
        return f"Dispatcher({self.instance!r}, {self._admission!r})"

    def receiver(self, route: Route) -> Receive:
        """Return what to subscribe with for the requests of one route."""
        return partial(self._receive, route)

    def receive_by_subject(self, message: Message) -> None:
        """Take a message whose subject names the operation: it is addressed to this instance."""
        operation = operation_of(message.subject)
        self._receive(self.routes.find(operation) or operation, message)

    def statistics(self) -> Statistics:
        """Return the counts so far."""
        tallies, limits = [route.tally for route in self.routes], self._admission
        return self.counts.statistics(tallies, in_flight=limits.in_flight, waiting=limits.waiting)

    def submit(
        self,
        route: Route,
        request: Header | Origin,
        body: bytes,
        *,
        sender: str,
        deadline_s: float,
        headers: Mapping[str, str] | bytes,
    ) -> Call:
        """Take a message from this process, or a stored one; its outcome may be there on return.

        Args:
            headers: The user's own; of a stored message, all of it.

        Raises:
            PausedError, OverloadedError: it was not taken on and will not run.
        """
        if self.refusal:
            raise self._refused()
        clock, instance = self._clock, self.instance
        header = request if isinstance(request, Header) else None
        origin = None if isinstance(request, Header) else request
        name: str = route.operation
        if header is not None and self.kind == "event":
            name = header.to_uuid  # its topic
        call = Call(
            *(name, sender, instance, deadline_s, clock, headers, header, origin, None, None),
            *(route, body, None),
        )
        self._take_on(call)
        return call

    async def wait(self, call: Call) -> None:
        """Wait for the outcome of a call that was submitted; to be cancelled gives the call up."""
        if call.outcome is not None:
            return
        call.waiter = self._loop.create_future()
        try:
            await call.waiter
        except asyncio.CancelledError:
            self.give_up(call)
            raise

    def give_up(self, call: Call) -> None:
        """End a call whose caller in this process does not wait for it any longer."""
        self._end(call, "cancelled", RequestCancelledError("the caller gave the request up"))

    def cancel(self, sender: bytes, event_ids: list[str]) -> None:
        """End the calls of that sender with those ids."""
        name, wanted = sender.decode("utf-8", "replace"), set(event_ids)
        for call in (*self._calls, *self._first_steps):
            if call.sender == name and call.event_id in wanted:
                self.give_up(call)

    async def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing is in flight; returns False when the time is up first."""
        return await self._idle.wait(timeout_s)

    def stop(self) -> None:
        """End what is still in flight, each with an error to its caller."""
        for call in (*self._calls, *self._first_steps):
            error = RequestCancelledError("the instance stopped before the operation finished")
            self._end(call, "stopped", error, is_answered=bool(call.reply))

    # --- arrival ----------------------------------------------------------------------------------

    def _receive(self, route: Route | str, message: Message) -> None:
        data, clock = message.payload, self._clock
        try:
            header, body = split_message(data)
            if (
                header.type != self.kind
                or header.wire != WIRE_VERSION
                or isinstance(route, str)
                or route.is_default
            ):
                route = self.routes.choose(route, header, body)
            if self.refusal:
                raise self._refused()
        except RequestError as error:
            self._refuse(message, error)
            return
        if header.deadline is not None and clock.wall_us() - header.deadline > self._stale_us:
            self.counts.drop("stale")
            return
        options, reply = self.options, message.reply
        if self.kind == "event":
            sender, operation = topic_of(message.subject)
            reply = b""
        else:
            sender, operation = sender_of(message.subject), route.operation
            if (options.verify_senders or not reply) and not self._may_answer(sender, reply):
                return
        ttl_s = options.timeout_s_max
        if header.ttl_us is not None:
            ttl_s = min(header.ttl_us * 1e-6, ttl_s)
        deadline_s = clock.monotonic_s() + ttl_s
        user, instance = sender.decode("utf-8", "replace"), self.instance
        call = Call(
            *(operation, user, instance, deadline_s, clock, data, header, None, None, None),
            *(route, body, reply),
        )
        try:
            self._take_on(call)
        except OverloadedError as error:
            self._refuse(message, error)

    def _may_answer(self, sender: bytes, reply: bytes) -> bool:
        if not reply:
            self.counts.drop("no_reply_subject")
            return False
        if self.options.verify_senders and not is_inbox_of(sender, reply):
            self.counts.drop("forged_reply")
            return False
        return True

    def _refuse(self, message: Message, error: RequestError) -> None:
        if self.kind == "event":
            self.counts.drop(error.code.lower())
        elif self._may_answer(sender_of(message.subject), message.reply):
            header = peek_header(message.payload)
            self._replier.refuse(message.reply, header, error)
            self._witness.refused(header, error)

    def _refused(self) -> PausedError:
        return PausedError(f"the instance is {self.refusal}", details={"state": self.refusal})

    # --- running ----------------------------------------------------------------------------------

    def _take_on(self, call: Call) -> None:
        """Start a call, or let it wait for a place.

        Raises:
            OverloadedError: too many wait.
        """
        has_place = self._admission.enter()
        if not has_place:
            self._put_off(call)
        if self._hooks.received is not None:
            self._witness.received(call)
        if has_place:
            self._start(call)

    def _put_off(self, call: Call) -> None:
        """Let a call wait for a place.

        Raises:
            OverloadedError: too many wait.
        """
        limits = self._admission
        if not limits.wait(call):
            raise OverloadedError(
                f"{limits.concurrency_max} requests run and {limits.waiting_max} wait already",
                details={"retry_after_s": self._mean_s()},
            )
        self._track(call)

    def _mean_s(self) -> float:
        so_far = self.statistics()
        return so_far.processing_ns / so_far.requests / 1e9 if so_far.requests else 0.1

    def _start(self, call: Call) -> None:
        """Take the handler's first step: most calls end in it."""
        route = call.route
        route.tally.requests += 1
        call.has_place = True
        call.began_s = self._clock.monotonic_s()
        try:
            payload = route.body.decode_body(call.body)
        except RequestError as error:
            self._finish(call, "error", error)
            return
        except Exception as error:  # noqa: BLE001 - a user's type may raise anything
            self._fail(call, error)
            return
        start, handle = self._start_task, route.handle
        if self._hooks.enter is not None:
            handle = self._witness.handle
        elif route.never_waits:
            start = self._run_through
        self._first_steps.append(call)
        try:
            task = start(handle, call, payload)
        except Exception as error:  # noqa: BLE001 - no stack is left for a task, or it was ours
            self._fail(call, error)
            return
        finally:
            self._first_steps.pop()
        if task is not None:
            call.task = task
            if call.ticket is None:
                self._track(call)
            task.add_done_callback(partial(self._end_unstarted, call))
            if call.ended:  # stopped, or given up, by its own first step
                task.cancel()

    def _track(self, call: Call) -> None:
        self._calls.add(call)
        call.ticket = self._deadlines.add(call.deadline_s, partial(self._expire, call))

    def _succeed(self, call: Call, result: Any) -> None:
        try:
            outcome, answer = call.route.answer.encode(result)
        except RequestError as error:
            self._finish(call, "error", error)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(call, error)
        else:
            self._finish(call, outcome, answer)

    def _fail(self, call: Call, error: BaseException) -> None:
        if not call.ended and is_break(error):
            self._witness.broke(call, error)
        self._finish(call, "error", answer_to(error))
        if isinstance(error, KeyboardInterrupt):
            raise error  # the caller knows; now the process is to end

    def _finish(self, call: Call, outcome: Outcome, answer: bytes | RequestError) -> None:
        if not call.has_place:
            return
        call.has_place = False
        tally, took_s = call.route.tally, self._clock.monotonic_s() - call.began_s
        tally.processing_ns += int(took_s * 1e9)
        if call.ticket is not None:
            self._untrack(call)
        call.task = None
        try:
            if not call.ended:  # else it is accounted for already: dropped, or its caller told
                call.ended = True
                error = self._replier.deliver(call, outcome, answer)
                if error is not None:
                    tally.errors += 1
                    tally.last_error = self.counts.last_error = last_error(error)
                if self._hooks.finished is not None:
                    self._witness.finished(call, took_s, error)
        finally:
            if self._admission.leave() or self._idle.waiters:
                self._use_place()

    def _untrack(self, call: Call) -> None:
        if call.ticket is not None:
            self._deadlines.remove(call.ticket)
            self._calls.discard(call)
            call.ticket = None

    def _use_place(self) -> None:
        """A place was given back: start who waits for one, tell who waits for the last."""
        if not self._pumping:  # a handler that ends in its first step comes back here
            self._pumping = True
            try:
                while (call := self._admission.next()) is not None:
                    self._start(call)
            finally:
                self._pumping = False
        self._idle.wake()

    # --- ends before the handler's own ------------------------------------------------------------

    def _expire(self, call: Call) -> None:
        self._end(call, "deadline", DeadlineExceededError(NO_RESULT))

    def _end(
        self, call: Call, reason: str, error: RequestError, *, is_answered: bool = False
    ) -> None:
        if call.ended:
            return
        call.ended = True
        if is_answered or call.reply is None:
            self._replier.deliver(call, "error", error)
            tally = call.route.tally
            tally.errors += 1
            tally.last_error = self.counts.last_error = last_error(error)
        else:
            self.counts.drop(reason, call)
        if self._hooks.finished is not None:
            took_s = self._clock.monotonic_s() - call.began_s if call.has_place else 0.0
            self._witness.finished(call, took_s, error)
        self._abort(call)

    def _abort(self, call: Call) -> None:
        if call.task is not None:
            call.task.cancel()
        elif self._admission.forget(call):  # it waited: its place in the queue is free
            self._untrack(call)

    def _end_unstarted(self, call: Call, task: asyncio.Task[None]) -> None:
        if call.task is task:  # cancelled before its first step, so that nobody finished it
            self._finish(call, "error", HandlerError("the operation was cancelled at its start"))
