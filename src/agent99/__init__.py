"""Agents that find each other by what they can do.

Given:       classes that say what they can do.
Gives:       a mesh on which they find and ask each other.
May import:  errors settings registry dispatch agent
Never:       imports an optional dependency.
"""

from agent99.agent import (
    Agent,
    Answer,
    Blocking,
    Mesh,
    Named,
    Peer,
    Survey,
    Target,
    connect,
    control,
    follow,
    job,
    named,
    on,
    operation,
    pick,
)
from agent99.dispatch import Context, Handler, Middleware
from agent99.errors import (
    Agent99Error,
    DeadlineExceededError,
    Failure,
    NoAgentError,
    OverloadedError,
    RemoteError,
    RequestError,
    TransportError,
    UsageError,
)
from agent99.registry import Description, hash_of, least_loaded, sticky
from agent99.settings import Settings

__all__ = [
    "Agent",
    "Agent99Error",
    "Answer",
    "Blocking",
    "Context",
    "DeadlineExceededError",
    "Description",
    "Failure",
    "Handler",
    "Mesh",
    "Middleware",
    "Named",
    "NoAgentError",
    "OverloadedError",
    "Peer",
    "RemoteError",
    "RequestError",
    "Settings",
    "Survey",
    "Target",
    "TransportError",
    "UsageError",
    "connect",
    "control",
    "follow",
    "hash_of",
    "job",
    "least_loaded",
    "named",
    "on",
    "operation",
    "pick",
    "sticky",
]
