"""What is larger than the rules allow, each with its size and the reason. It only gets shorter."""

from __future__ import annotations

from typing import NamedTuple


class Exemption(NamedTuple):
    """A size that may be kept, but not exceeded."""

    size: int
    reason: str


_VERB = "the verb of the house; each option stands alone, and a struct would cost every request"
_PARTS = "the parts come in through the constructor, each by its name"

RATCHET: dict[tuple[str, str], Exemption] = {
    ("src/agent99/errors.py", "lines"): Exemption(
        620, "one tree, one file: the drawing, the classes and the code table are read together"
    ),
    ("src/agent99/agent/_agent.py", "Agent.request: parameters"): Exemption(7, _VERB),
    ("src/agent99/agent/_blocking.py", "Blocking.request: parameters"): Exemption(7, _VERB),
    ("src/agent99/agent/_caller.py", "Caller.request: parameters"): Exemption(7, _VERB),
    ("src/agent99/agent/_gather.py", "survey: parameters"): Exemption(8, _VERB),
    ("src/agent99/agent/_operations.py", "job: parameters"): Exemption(
        7, "a decorator's options, each of which stands alone and has a default"
    ),
    ("src/agent99/agent/_stored.py", "post: parameters"): Exemption(7, _VERB),
    (
        "src/agent99/systems/cache/_blocking.py",
        "BlockingCache.get_or_compute: parameters",
    ): Exemption(9, _VERB),
    ("src/agent99/systems/cache/_cache.py", "Cache.get_or_compute: parameters"): Exemption(
        9, _VERB
    ),
    ("src/agent99/saga/_handle.py", "Saga.step: parameters"): Exemption(7, _VERB),
    ("src/agent99/schedules/_schedules.py", "Schedules.cron: parameters"): Exemption(7, _VERB),
    ("src/agent99/schedules/_schedules.py", "Schedules.every: parameters"): Exemption(7, _VERB),
    ("src/agent99/agent/_link.py", "Link.__init__: parameters"): Exemption(8, _PARTS),
    ("src/agent99/agent/_mesh.py", "Mesh.__init__: parameters"): Exemption(7, _PARTS),
    ("src/agent99/agent/_mesh.py", "Mesh.request: parameters"): Exemption(7, _VERB),
}
"""By path and what: `("src/agent99/x/_y.py", "Class.method: parameters")`, `(…, "lines")`."""
