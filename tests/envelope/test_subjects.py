"""Subjects are built and read in one place, and mean one thing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent99.envelope import (
    ALL,
    Subjects,
    is_inbox_of,
    operation_of,
    parse_name,
    parse_pattern,
    parse_topic,
    sender_of,
    topic_of,
)

SUBJECTS = Subjects("main", "s1")
names = st.from_regex(r"[a-z0-9]([a-z0-9_-]{0,20}[a-z0-9])?", fullmatch=True)


def name(text: str) -> str:
    """Return a parsed name."""
    return parse_name("name", text)


def test_the_table_of_subjects() -> None:
    """The subjects are those of the wire's documentation, letter by letter."""
    cap, op = parse_name("capability", "inventory"), parse_name("operation", "reserve")
    instance = parse_name("instance", "i1")
    assert SUBJECTS.capability(cap, op) == b"a99.main.cap.inventory.reserve.s1"
    assert SUBJECTS.capability_listen(cap, op) == b"a99.main.cap.inventory.reserve.*"
    assert SUBJECTS.named(cap, op) == b"a99.main.name.inventory.reserve.s1"
    assert SUBJECTS.named_listen(cap, op) == b"a99.main.name.inventory.reserve.*"
    assert SUBJECTS.instance(cap, instance, op) == b"a99.main.one.inventory.i1.reserve.s1"
    assert SUBJECTS.instance_listen(cap, instance) == b"a99.main.one.inventory.i1.*.*"
    assert SUBJECTS.control(cap, instance, op) == b"a99.main.ctl.inventory.i1.reserve.s1"
    assert SUBJECTS.control_listen(cap, instance) == (
        b"a99.main.ctl.inventory.i1.*.*",
        b"a99.main.ctl.inventory._all.*.*",
        b"a99.main.ctl._all._all.*.*",
    )
    assert SUBJECTS.cancel(cap) == b"a99.main.cancel.inventory.s1"
    assert SUBJECTS.cancel_listen(cap) == b"a99.main.cancel.inventory.*"
    assert SUBJECTS.near(cap) == b"a99.main.near.inventory.s1"
    assert SUBJECTS.near_listen(cap) == b"a99.main.near.inventory.*"
    assert SUBJECTS.event(parse_topic("order.placed")) == b"a99.main.evt.s1.order.placed"
    assert SUBJECTS.event_listen(parse_pattern("order.*")) == b"a99.main.evt.*.order.*"


def matches(pattern: bytes, subject: bytes) -> bool:
    """Say whether a subject matches, as the server's rules have it."""
    wanted, given_ = pattern.split(b"."), subject.split(b".")
    for index, token in enumerate(wanted):
        if token == b">":
            return len(given_) > index
        if index >= len(given_) or (token not in (b"*", given_[index])):
            return False
    return len(wanted) == len(given_)


@given(names, names, names, names)
def test_who_asks_and_what_can_be_read_back(sender: str, target: str, op: str, other: str) -> None:
    """A request's subject tells its sender and operation, and only its listener hears it."""
    subjects = Subjects("m", sender)
    cap, verb = parse_name("capability", target), parse_name("operation", op)
    subject = subjects.capability(cap, verb)
    assert sender_of(subject) == sender.encode()
    assert operation_of(subject) == op
    assert matches(subjects.capability_listen(cap, verb), subject)
    assert not matches(subjects.named_listen(cap, verb), subject)
    other_listener = subjects.capability_listen(parse_name("capability", other), verb)
    assert matches(other_listener, subject) == (other == target)


@given(names, st.lists(names, min_size=1, max_size=4))
def test_an_event_tells_its_sender_and_topic(sender: str, tokens: list[str]) -> None:
    """The sender of an event stands before its topic, so that the topic may have any length."""
    topic = ".".join(tokens)
    subject = Subjects("m", sender).event(parse_topic(topic))
    assert topic_of(subject) == (sender.encode(), topic)


def test_all_is_no_name_that_an_agent_could_have() -> None:
    """The word for all agents cannot be taken by one."""
    assert ALL == "_all"


def test_an_answer_goes_only_to_the_senders_own_inbox() -> None:
    """A reply subject is the sender's inbox, or it is somebody else's subject."""
    assert is_inbox_of(b"alice", b"_INBOX.alice.c1.token")
    assert not is_inbox_of(b"alice", b"_INBOX.alicex.c1.token")
    assert not is_inbox_of(b"alice", b"_INBOX.bob.c1.token")
    assert not is_inbox_of(b"alice", b"$JS.API.STREAM.DELETE.S")


def test_subjects_are_readable() -> None:
    """Its representation says mesh and sender."""
    assert repr(SUBJECTS) == "Subjects(mesh='main', sender='s1')"
