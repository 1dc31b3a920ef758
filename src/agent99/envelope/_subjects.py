"""Every subject is built and parsed here, and nowhere else.

The last token of what a connection publishes is its identity (`sender`), so that the server's
publish permissions can prove who asks, at no cost per message. The table is in
`docs/concepts/wire.md`.
"""

from __future__ import annotations

from typing import NamedTuple

from agent99.envelope._keys import Key, partition_of
from agent99.envelope._names import Name, Pattern, Topic, parse_name
from agent99.errors import InvalidNameError

QUEUE = b"q"
"""The queue group of every capability and name: one instance takes each request."""

ALL = Name("_all")
"""In a control subject: every agent, or every instance. Not a name that the grammar allows."""

_EVERYTHING = Pattern(">")


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

    def log(self, topic: Topic, key: Key) -> str:
        """An event that is stored, in the order of its key."""
        return f"{self._root}log.{partition_of(key)}.{self.sender}.{key}.{topic}"

    def log_listen(self, pattern: Pattern = _EVERYTHING) -> str:
        """Stored events of anybody whose topic matches, of every key."""
        return f"{self._root}log.*.*.*.{pattern}"

    def anchors(self) -> str:
        """What the audit log's ends were, and when: written down where they stay."""
        return f"{self._root}audit.anchors"

    def log_listen_key(self, key: Key, pattern: Pattern = _EVERYTHING) -> str:
        """Stored events of anybody whose topic matches, of one key."""
        return f"{self._root}log.{partition_of(key)}.*.{key}.{pattern}"

    def log_listen_partition(self, partition: int, pattern: Pattern = _EVERYTHING) -> str:
        """Stored events of anybody whose topic matches, of the keys of one partition."""
        return f"{self._root}log.{partition}.*.*.{pattern}"

    def again(self, group: Name, topic: Topic, key: Key) -> str:
        """An event of the log that one group alone is given once more, in the order of its key."""
        return f"{self.again_root}{partition_of(key)}.{group}.{key}.{topic}"

    @property
    def again_root(self) -> str:
        """What the subjects of all events begin with that are given once more."""
        return f"{self._root}again."

    def again_listen(
        self, group: str = "*", partition: str = "*", pattern: Pattern = _EVERYTHING
    ) -> str:
        """Events that are given once more: to one group, or to all."""
        return f"{self.again_root}{partition}.{group}.*.{pattern}"

    def group_listen(self, pattern: Pattern, partition: str = "*") -> str:
        """Stored events whose topic matches, and those of them that any group is given once more.

        One pattern for both: a server takes a tenth of the time with it that it takes with two.
        """
        return f"{self._root}*.{partition}.*.*.{pattern}"

    def job(self, capability: Name, operation: Name) -> str:
        """Work that is stored until somebody has done it."""
        return f"{self._root}job.{capability}.{operation}.{self.sender}"

    def job_listen(self, capability: Name, operation: str = "*") -> str:
        """Stored work of anybody for a capability: for one operation, or for all."""
        return f"{self._root}job.{capability}.{operation}.*"

    def dead(self, capability: Name, operation: Name) -> str:
        """Work, and events, that nobody could do: the quarantine."""
        return f"{self._root}dead.{capability}.{operation}"

    def dead_listen(self, capability: str = "*", operation: str = "*") -> str:
        """What is in quarantine: of one capability or operation, or of all."""
        return f"{self._root}dead.{capability}.{operation}"

    def saga(self, agent: Name, saga_id: str) -> str:
        """The journal of one saga; without a sender: its last sequence is the fence of owners."""
        return f"{self._root}saga.{agent}.{saga_id}"

    def saga_listen(self, agent: str = "*") -> str:
        """The journals of all sagas: of one agent, or of all."""
        return f"{self._root}saga.{agent}.*"

    def near(self, namespace: Name) -> bytes:
        """Keys of a namespace of the cache have changed that somebody holds near."""
        return self._sent(f"near.{namespace}")

    def near_listen(self, namespace: Name) -> bytes:
        """What anybody tells of changed keys of a namespace of the cache."""
        return self._heard(f"near.{namespace}")

    def _sent(self, rest: str) -> bytes:
        return f"{self._root}{rest}.{self.sender}".encode("ascii")

    def _heard(self, rest: str) -> bytes:
        return f"{self._root}{rest}.*".encode("ascii")


class LogSubject(NamedTuple):
    """What the subject of a stored event says."""

    partition: int
    sender: str
    """Empty for what is given once more."""
    key: Key
    topic: Topic
    group: str = ""
    """That alone is given it once more; empty for what all are given."""


def parse_log(subject: str) -> LogSubject:
    """Return what the subject of a stored event says, also of one that is given once more.

    Raises:
        InvalidNameError: it is none.
    """
    tokens = subject.split(".", 6)
    if len(tokens) == 7 and tokens[0] == "a99" and tokens[3].isdecimal():
        partition, key, topic = int(tokens[3]), Key(tokens[5]), Topic(tokens[6])
        if tokens[2] == "log":
            return LogSubject(partition, tokens[4], key, topic)
        if tokens[2] == "again":
            return LogSubject(partition, "", key, topic, tokens[4])
    raise InvalidNameError("subject", subject, "that of a stored event")


class WorkSubject(NamedTuple):
    """What the subject of stored work, or of what is in quarantine, says."""

    capability: Name
    operation: Name


def parse_work(subject: str) -> WorkSubject:
    """Return what the subject of stored work, or of the quarantine, says.

    Raises:
        InvalidNameError: it is none.
    """
    tokens = subject.split(".")
    sizes = {"job": 6, "dead": 5}
    if len(tokens) < 5 or tokens[0] != "a99" or sizes.get(tokens[2]) != len(tokens):
        raise InvalidNameError("subject", subject, "that of stored work")
    return WorkSubject(Name(tokens[3]), Name(tokens[4]))


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
