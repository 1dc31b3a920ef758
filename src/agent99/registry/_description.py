"""What an agent says of itself, and the JSON that it is kept as."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Kind = Literal["server", "client", "hybrid"]
State = Literal["starting", "ready", "degraded", "paused", "draining"]

STATES: tuple[State, ...] = ("starting", "ready", "degraded", "paused", "draining")
"""Every state of a running agent, in the order in which it usually passes through them."""

ROUTABLE: frozenset[State] = frozenset({"ready", "degraded"})
"""The states in which an agent takes requests."""


class OperationInfo(msgspec.Struct, frozen=True):
    """One thing that an agent can be asked to do."""

    name: str
    """The operation's token in a subject."""
    description: str = ""
    """For people: the first paragraph of its docstring."""
    request: dict[str, Any] = {}
    """JSON Schema of the payload."""
    answer: dict[str, Any] = {}
    """JSON Schema of the result."""
    idempotent: bool = False
    is_job: bool = False
    """Whether it takes posted work."""
    """Whether running it twice with the same payload does no harm."""


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """One running instance of an agent, as every process of the mesh sees it.

    Written when the agent starts and again when its state changes; never because time passes.
    """

    instance: str
    """The instance's UUID in its text form."""
    name: str
    """The agent's name; instances of the same agent share it."""
    kind: Kind = "server"
    """`server` has operations, `client` only uses others, `hybrid` does both."""
    version: str = "0.0.0"
    """The agent's own version."""
    description: str = ""
    """For people: the first paragraph of the class's docstring."""
    capabilities: tuple[str, ...] = ()
    """What it offers, in lower case."""
    operations: tuple[OperationInfo, ...] = ()
    """What it can be asked to do, with schemas."""
    uses: tuple[str, ...] = ()
    """The capabilities that it calls."""
    metadata: dict[str, str] = {}
    """Labels of the user's own, for `where`: region, zone, hardware."""
    state: State = "starting"
    """Where it stands in its life."""
    missing: tuple[str, ...] = ()
    """The capabilities that it uses and does not find: then it is degraded."""
    full: tuple[str, ...] = ()
    """The streams that refuse what it stores, since they, or their disk, are full: then, too."""
    sender: str = ""
    """Identity of the connection that it speaks over; the registry fills it in."""
    process: str = ""
    """The process whose lease keeps it alive; the registry fills it in."""
    started_us: int = 0
    """When it started, microseconds since the epoch, UTC."""
    host: str = ""
    """The machine that it runs on."""
    pid: int = 0
    """Its process there."""

    @property
    def is_routable(self) -> bool:
        """Whether it takes requests now."""
        return self.state in ROUTABLE

    def operation(self, name: str) -> OperationInfo | None:
        """Return the operation of that name, or None."""
        for operation in self.operations:
            if operation.name == name:
                return operation
        return None


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Description)


def encode_description(description: Description) -> bytes:
    """Return the description as JSON."""
    return _encoder.encode(description)


def decode_description(data: bytes) -> Description | None:
    """Return what `data` describes, or None when it is no description that this release can read.

    Unknown fields are ignored, so that a later release may add some.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):  # ValidationError is a DecodeError
        return None
