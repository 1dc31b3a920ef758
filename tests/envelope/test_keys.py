"""Any text is a key: one token, one partition, and nothing is mixed up."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.envelope import (
    PARTITIONS,
    Key,
    Subjects,
    key_text,
    parse_key,
    parse_log,
    parse_name,
    parse_pattern,
    parse_topic,
    parse_work,
    partition_of,
)
from agent99.errors import InvalidNameError
from agent99.journal import matches


def _fits(text: str) -> bool:
    try:
        return len(text.encode()) <= 128
    except UnicodeEncodeError:
        return False


_KEYS = st.text(min_size=1, max_size=32).filter(_fits)
SUBJECTS = Subjects("main", "alice")


@given(_KEYS)
def test_key_comes_back_as_it_was(text: str) -> None:
    """A key is one legal token of a subject, and says what it was made of."""
    key = parse_key(text)
    assert text == key_text(key)
    assert key.isascii()
    assert not set(key) & set(". *>\t\r\n")
    assert 0 <= partition_of(key) < PARTITIONS


@given(_KEYS, _KEYS)
def test_different_keys_stay_different(one: str, two: str) -> None:
    """Two texts share a token only if they are equal: case is not folded."""
    assert (one == two) == (parse_key(one) == parse_key(two))


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("order-42", "order-42"),
        ("x-ray", "x-f0mn4obp"),
        ("A", "x-84"),
        ("a", "a"),
        ("ä", "x-oei0"),
        ("a.b", "x-c4n64"),
    ],
)
def test_form_of_a_key_is_fixed(text: str, token: str) -> None:
    """What is stored today is found tomorrow: the form never changes."""
    assert token == parse_key(text)


def test_partition_of_a_key_is_fixed() -> None:
    """Positions are kept by partition: a key never moves to another."""
    assert [3, 30, 38] == [partition_of(parse_key(text)) for text in ("a", "order-42", "ä")]


def test_partitions_are_used_evenly() -> None:
    """Of 64,000 keys each partition has about a thousand."""
    counts = Counter(partition_of(parse_key(f"order-{number}")) for number in range(64_000))
    assert PARTITIONS == len(counts)
    assert 700 < min(counts.values()) <= max(counts.values()) < 1_300


@pytest.mark.parametrize("text", ["", "x" * 129, "ä" * 65, "\ud800", 7, None])
def test_what_is_no_key_is_refused(text: object) -> None:
    """Nothing, too much, and what is no text."""
    with pytest.raises(InvalidNameError, match="key"):
        parse_key(text)  # type: ignore[arg-type] - that is what is tried


@pytest.mark.parametrize("token", ["x-!", "x-8", "x-vvvv"])
def test_token_of_no_key_is_refused(token: str) -> None:
    """Somebody else wrote to the stream."""
    with pytest.raises(InvalidNameError, match="key"):
        key_text(Key(token))


def test_stored_event_says_its_parts() -> None:
    """Its subject tells partition, sender, key and topic; listeners hear every key, or one."""
    key = parse_key("Order 42")
    subject = SUBJECTS.log(parse_topic("order.placed.eu"), key)
    parts = parse_log(subject)
    assert (partition_of(key), "alice", key, "order.placed.eu", "") == parts
    assert "a99.main.log.*.*.*.order.>" == SUBJECTS.log_listen(parse_pattern("order.>"))
    assert "a99.main.log.*.*.*.>" == SUBJECTS.log_listen()
    one = f"a99.main.log.{partition_of(key)}.*.{key}."
    assert (f"{one}>", f"{one}order.*") == (
        SUBJECTS.log_listen_key(key), SUBJECTS.log_listen_key(key, parse_pattern("order.*"))
    )  # fmt: skip


def test_event_that_is_given_once_more_says_its_parts() -> None:
    """Its subject tells for which group; one pattern hears it and what all are given."""
    key, group = parse_key("k"), parse_name("group", "mails")
    subject = SUBJECTS.again(group, parse_topic("order.placed"), key)
    part = str(partition_of(key))
    assert (int(part), "", "k", "order.placed", "mails") == parse_log(subject)
    order = parse_pattern("order.*")
    heard = (
        SUBJECTS.again_listen(),
        SUBJECTS.again_listen("mails", part, order),
        SUBJECTS.group_listen(order, part),
    )
    assert [True] * 3 == [matches(pattern, subject) for pattern in heard]
    assert subject.startswith(SUBJECTS.again_root)
    assert matches(SUBJECTS.group_listen(order, part), SUBJECTS.log(parse_topic("order.x"), key))
    others = (
        SUBJECTS.again_listen("bills"),
        SUBJECTS.group_listen(parse_pattern("bill.*"), part),
        SUBJECTS.log_listen(),
    )
    assert [False] * 3 == [matches(pattern, subject) for pattern in others]


def test_stored_work_says_its_parts() -> None:
    """Capability and operation come back from a job's subject and from the quarantine's."""
    mail, send = parse_name("capability", "mail"), parse_name("operation", "send")
    assert "a99.main.job.mail.send.alice" == SUBJECTS.job(mail, send)
    assert ("a99.main.job.mail.send.*", "a99.main.job.mail.*.*") == (
        SUBJECTS.job_listen(mail, send), SUBJECTS.job_listen(mail)
    )  # fmt: skip
    assert ("a99.main.dead.mail.send", "a99.main.dead.*.*") == (
        SUBJECTS.dead(mail, send), SUBJECTS.dead_listen()
    )  # fmt: skip
    for subject in (SUBJECTS.job(mail, send), SUBJECTS.dead(mail, send)):
        assert (mail, send) == parse_work(subject)


@pytest.mark.parametrize(
    "subject", ["", "a99.main.job.mail", "a99.main.log.x.a.k.t", "b.main.job.a.b.c", "a99.m.dead.a"]
)
def test_foreign_subjects_are_refused(subject: str) -> None:
    """What is stored elsewhere is neither an event nor work."""
    for parse in (parse_log, parse_work):
        with pytest.raises(InvalidNameError, match="subject"):
            parse(subject)
