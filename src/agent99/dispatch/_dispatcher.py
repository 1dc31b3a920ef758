"""The dispatcher of one instance: from a message to its handler, and the outcome back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from agent99.clock import Clock, Deadlines
from agent99.dispatch._admission import Admission
from agent99.dispatch._call import Call
from agent99.dispatch._counts import Counts, Statistics
from agent99.dispatch._failed import answer_to, last_error
from agent99.dispatch._options import DispatchOptions
from agent99.dispatch._reply import Replier
from agent99.dispatch._route import Route
from agent99.dispatch._routes import WIRE_VERSION, Routes
from agent99.dispatch._tasks import eager_starter
from agent99.envelope import (
    Header,
    Kind,
    Outcome,
    is_inbox_of,
    operation_of,
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
        instance: str,
        wire: Wire,
        *,
        clock: Clock,
        deadlines: Deadlines,
        options: DispatchOptions,
        kind: Kind = "request",
    ) -> None:
        self.instance = instance
        self.kind = kind
        """The kind of message that is taken here; events are answered by nobody."""
        self.counts = Counts()
        self.refusal = ""
        """Why nothing is taken on at present: `paused`, `draining`; empty: all is well."""
        self.options = options
        self._clock = clock
        self._deadlines = deadlines
        self._loop = asyncio.get_running_loop()
        self.routes = Routes(kind)
        """What is offered."""
        self._calls: set[Call] = set()
        self._first_steps: list[Call] = []
        """Of handlers that run just now, each within the one before."""
        self._admission: Admission[Call] = Admission(
            concurrency_max=options.concurrency_max, waiting_max=options.waiting_max
        )
        self._replier = Replier(instance, wire, clock, self.counts)
        self._pumping = False
        self._idle_waiters: list[asyncio.Future[None]] = []
        self._stale_us = int(options.stale_s * 1e6)
        self._start_task = eager_starter(self._loop, self._succeed, self._fail)

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
        tallies = [route.tally for route in self.routes]
        return Statistics(
            requests=sum(tally.requests for tally in tallies),
            errors=sum(tally.errors for tally in tallies) + self.counts.refused,
            in_flight=self._admission.in_flight,
            waiting=self._admission.waiting,
            processing_ns=sum(tally.processing_ns for tally in tallies),
            dropped=dict(self.counts.dropped),
            last_error=self.counts.last_error,
        )

    def submit(
        self,
        route: Route,
        request: Callable[[], Header],
        body: bytes,
        *,
        sender: str,
        deadline_s: float,
        headers: Mapping[str, str],
    ) -> Call:
        """Take a request from this process; its `outcome` may be there when this returns.

        Raises:
            PausedError, OverloadedError: it was not taken on and will not run.
        """
        if self.refusal:
            raise self._refused()
        clock, name = self._clock, route.operation
        call = Call(
            name, sender, deadline_s, clock, headers, None, request, None, route, body, None
        )
        if self._admission.enter():
            self._start(call)
        else:
            self._put_off(call)
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
        if self._admission.in_flight == 0:
            return True
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._idle_waiters.append(waiter)
        deadline_s = self._clock.monotonic_s() + timeout_s
        ticket = self._deadlines.add(deadline_s, partial(_wake, waiter))
        try:
            await waiter
        finally:
            self._deadlines.remove(ticket)
            self._idle_waiters.remove(waiter)
        return self._admission.in_flight == 0

    def stop(self) -> None:
        """End what is still in flight, each with an error to its caller."""
        for call in (*self._calls, *self._first_steps):
            error = RequestCancelledError("the instance stopped before the operation finished")
            if call.reply and not call.ended:
                call.ended = True
                self._deliver(call, "error", error)
                self._abort(call)
            else:
                self._end(call, "stopped", error)

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
        user = sender.decode("utf-8", "replace")
        call = Call(
            operation, user, deadline_s, clock, data, header, None, None, route, body, reply
        )
        if self._admission.enter():
            self._start(call)
            return
        try:
            self._put_off(call)
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
            self._replier.refuse(message, error)

    def _refused(self) -> PausedError:
        return PausedError(f"the instance is {self.refusal}", details={"state": self.refusal})

    # --- running ----------------------------------------------------------------------------------

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
        self._first_steps.append(call)
        try:
            task = self._start_task(route.handle, call, payload)
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
        self._finish(call, "error", answer_to(call, error))
        if isinstance(error, KeyboardInterrupt):
            raise error  # the caller knows; now the process is to end

    def _finish(self, call: Call, outcome: Outcome, answer: bytes | RequestError) -> None:
        if not call.has_place:
            return
        call.has_place = False
        tally = call.route.tally
        tally.processing_ns += int((self._clock.monotonic_s() - call.began_s) * 1e9)
        if call.ticket is not None:
            self._untrack(call)
        call.task = None
        try:
            if not call.ended:  # else it is accounted for already: dropped, or its caller told
                call.ended = True
                if outcome == "error" and isinstance(answer, RequestError):
                    tally.errors += 1
                    tally.last_error = self.counts.last_error = last_error(answer)
                self._deliver(call, outcome, answer)
        finally:
            if self._admission.leave() or self._idle_waiters:
                self._use_place()

    def _deliver(self, call: Call, outcome: Outcome, answer: bytes | RequestError) -> None:
        """Bring an outcome to its caller; an event was asked by nobody."""
        if call.reply == b"":
            return
        outcome, body, user = self._replier.write(call, outcome, answer)
        if call.reply:
            self._replier.respond(call, outcome, body, user)
        else:
            call.outcome, call.answer = outcome, body
            if call.waiter is not None:
                _wake(call.waiter)

    def _untrack(self, call: Call) -> None:
        if call.ticket is not None:
            self._deadlines.remove(call.ticket)
            self._calls.discard(call)
            call.ticket = None

    def _use_place(self) -> None:
        """A place was given back: start who waits for one, tell who waits for the last."""
        if not self._pumping:
            self._pump()
        if self._admission.in_flight == 0:
            for waiter in self._idle_waiters:
                _wake(waiter)

    def _pump(self) -> None:
        self._pumping = True  # a handler that ends in its first step comes back here: no recursion
        try:
            while (call := self._admission.next()) is not None:
                self._start(call)
        finally:
            self._pumping = False

    # --- ends before the handler's own ------------------------------------------------------------

    def _expire(self, call: Call) -> None:
        self._end(call, "deadline", DeadlineExceededError(NO_RESULT))

    def _end(self, call: Call, reason: str, error: RequestError) -> None:
        if call.ended:
            return
        call.ended = True
        if call.reply is None:
            self._deliver(call, "error", error)
        else:
            self.counts.drop(reason)
        self._abort(call)

    def _abort(self, call: Call) -> None:
        if call.task is not None:
            call.task.cancel()
        elif self._admission.forget(call):  # it waited: its place in the queue is free
            self._untrack(call)

    def _end_unstarted(self, call: Call, task: asyncio.Task[None]) -> None:
        if call.task is task:  # cancelled before its first step, so that nobody finished it
            self._finish(call, "error", HandlerError("the operation was cancelled at its start"))


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
