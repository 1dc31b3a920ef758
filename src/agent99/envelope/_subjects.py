"""Every subject is built and parsed here, and nowhere else.

The last token of what a connection publishes is its identity (`sender`), so that the server's
publish permissions can prove who asks, at no cost per message. The table is in
`docs/concepts/wire.md`.
"""

from __future__ import annotations

from agent99.envelope._names import Name, Pattern, Topic, parse_name

QUEUE = b"q"
"""The queue group of every capability and name: one instance takes each request."""

ALL = Name("_all")
"""In a control subject: every agent, or every instance. Not a name that the grammar allows."""


class Subjects:
    """The subjects of one mesh, as one connection writes them.

    Methods that end in `_listen` give what to subscribe to; the others what to publish to.
    """

    def __init__(self, mesh: str, sender: str) -> None:
        self.mesh = parse_name("mesh", mesh)
        self.sender = parse_name("sender", sender)
        self._root = f"a99.{self.mesh}."

    def __repr__(self) -> str:
        return f"Subjects(mesh={self.mesh!r}, sender={self.sender!r})"

    def capability(self, capability: Name, operation: Name) -> bytes:
        """Any one instance that offers the capability."""
        return self._sent(f"cap.{capability}.{operation}")

    def capability_listen(self, capability: Name, operation: Name) -> bytes:
        """Requests of anybody for a capability."""
        return self._heard(f"cap.{capability}.{operation}")

    def named(self, agent: Name, operation: Name) -> bytes:
        """Any one instance of the agent of that name."""
        return self._sent(f"name.{agent}.{operation}")

    def named_listen(self, agent: Name, operation: Name) -> bytes:
        """Requests of anybody for an agent by its name."""
        return self._heard(f"name.{agent}.{operation}")

    def instance(self, agent: Name, instance: Name, operation: Name) -> bytes:
        """One instance."""
        return self._sent(f"one.{agent}.{instance}.{operation}")

    def instance_listen(self, agent: Name, instance: Name) -> bytes:
        """Requests of anybody for one instance, all operations: `operation_of` tells which."""
        return self._heard(f"one.{agent}.{instance}.*")

    def control(self, agent: Name, instance: Name, action: Name) -> bytes:
        """A control action for an instance, for all of an agent (`ALL`), or for all agents."""
        return self._sent(f"ctl.{agent}.{instance}.{action}")

    def control_listen(self, agent: Name, instance: Name) -> tuple[bytes, ...]:
        """The three subjects on which an instance hears control actions."""
        return (
            self._heard(f"ctl.{agent}.{instance}.*"),
            self._heard(f"ctl.{agent}.{ALL}.*"),
            self._heard(f"ctl.{ALL}.{ALL}.*"),
        )

    def cancel(self, target: Name) -> bytes:
        """Every instance of a capability or agent: stop the requests that the message names."""
        return self._sent(f"cancel.{target}")

    def cancel_listen(self, target: Name) -> bytes:
        """Cancellations of anybody for a capability or agent."""
        return self._heard(f"cancel.{target}")

    def event(self, topic: Topic) -> bytes:
        """An event that is never stored."""
        return f"{self._root}evt.{self.sender}.{topic}".encode("ascii")

    def event_listen(self, pattern: Pattern) -> bytes:
        """Events of anybody whose topic matches."""
        return f"{self._root}evt.*.{pattern}".encode("ascii")

    def _sent(self, rest: str) -> bytes:
        return f"{self._root}{rest}.{self.sender}".encode("ascii")

    def _heard(self, rest: str) -> bytes:
        return f"{self._root}{rest}.*".encode("ascii")


def sender_of(subject: bytes) -> bytes:
    """Return who sent a message, by the last token of its subject; for events see `topic_of`."""
    return subject[subject.rfind(b".") + 1 :]


def operation_of(subject: bytes) -> str:
    """Return the operation or action of a request or control subject: the last token but one."""
    end = subject.rfind(b".")
    return subject[subject.rfind(b".", 0, end) + 1 : end].decode("ascii", "replace")


def topic_of(subject: bytes) -> tuple[bytes, str]:
    """Return sender and topic of an event's subject."""
    _, _, _, sender, topic = subject.split(b".", 4)
    return sender, topic.decode("ascii", "replace")


def is_inbox_of(sender: bytes, reply: bytes) -> bool:
    """Return whether `reply` is an inbox of that sender."""
    return reply.startswith(b"_INBOX." + sender + b".")
