"""Bring a message to the handler that takes it, within its bounds, and its outcome back.

Given:       messages of one instance, and the routes that it offers.
Gives:       for every message exactly one of: a reply, an error reply, a drop counted by reason.
May import:  errors clock observe wire envelope; msgspec uvloop
Never:       knows what an agent or a mesh is, decides where a request should go.
"""

from agent99.dispatch._admission import Admission
from agent99.dispatch._call import Call
from agent99.dispatch._context import Context, current_context, find_context, use_context
from agent99.dispatch._counts import Counts, Statistics
from agent99.dispatch._direct import direct_runner, never_waits
from agent99.dispatch._dispatcher import Dispatcher
from agent99.dispatch._lifecycle import Lifecycle, LifecycleEvent, State
from agent99.dispatch._options import DispatchOptions
from agent99.dispatch._route import DEFAULT_OPERATION, Handler, Middleware, Route, fold
from agent99.dispatch._routes import Routes
from agent99.dispatch._tally import Tally
from agent99.dispatch._tasks import eager_starter, new_event_loop
from agent99.dispatch._witness import Witness

__all__ = [
    "DEFAULT_OPERATION",
    "Admission",
    "Call",
    "Context",
    "Counts",
    "DispatchOptions",
    "Dispatcher",
    "Handler",
    "Lifecycle",
    "LifecycleEvent",
    "Middleware",
    "Route",
    "Routes",
    "State",
    "Statistics",
    "Tally",
    "Witness",
    "current_context",
    "direct_runner",
    "eager_starter",
    "find_context",
    "fold",
    "never_waits",
    "new_event_loop",
    "use_context",
]
