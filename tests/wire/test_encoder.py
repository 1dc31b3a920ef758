"""The encoder: what may stand on a line, and the lines."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent99.errors import LocalProtocolError
from agent99.wire._encoder import (
    SUBJECT_BYTES_MAX,
    SubjectChecker,
    check_pattern,
    check_queue,
    check_sender,
    encode_connect,
    encode_pub,
    encode_sub,
    encode_unsub,
)

_text = st.lists(
    st.sampled_from(
        [b".", b"*", b">", b" ", b"\r\n", b"\x00", b"\x7f", b"a", b"B-", b"_9", b"\xc3"]
    )
    | st.binary(max_size=3),
    max_size=8,
).map(b"".join)


def _naive(subject: bytes) -> bool:
    tokens = subject.split(b".")
    return all(re.fullmatch(rb"[!-~]+", token) for token in tokens) and not set(b"*>") & set(
        subject
    )


def _accepted(checker: SubjectChecker, subject: bytes) -> bool:
    try:
        checker.check(subject)
    except LocalProtocolError:
        return False
    return True


@settings(deadline=None)
@given(st.lists(_text, max_size=6))
def test_subject(subjects: list[bytes]) -> None:
    """A checker with a memory says the same as a naive one, time and again."""
    checker = SubjectChecker()
    for subject in [*subjects, *subjects]:
        assert _naive(subject) == _accepted(checker, subject)
        answer = subject + b"." + b"0f" * 16
        assert _naive(answer) == _accepted(checker, answer)
        assert not _accepted(checker, answer + b"\r\n")


@pytest.mark.parametrize("byte", sorted(set(range(0x21, 0x7F)) - set(b".*>")))
def test_every_printable_byte(byte: int) -> None:
    """Every printable byte but the dot and the wildcards may stand in a token."""
    token = bytes([byte])
    SubjectChecker().check(token)
    check_pattern(token + b".*." + token)
    check_sender(token)


def test_subject_memory_is_bounded() -> None:
    """The checker remembers no more than its bound."""
    checker = SubjectChecker()
    for number in range(10_000):
        checker.check(b"s.%d" % number)
    assert 4_096 >= len(checker.known)
    assert repr(checker).startswith("SubjectChecker(known=")


def test_subject_length() -> None:
    """A subject has a bound, with an inbox seen before as well."""
    checker = SubjectChecker()
    checker.check(b"a." + b"b" * 32)
    checker.check(b"a" * SUBJECT_BYTES_MAX)
    for long in (b"a" * (SUBJECT_BYTES_MAX + 1), b"a." + b"b" * SUBJECT_BYTES_MAX):
        with pytest.raises(LocalProtocolError):
            checker.check(long)


@pytest.mark.parametrize("pattern", [b"a", b"*", b">", b"a.*", b"a.>", b"*.b.>", b"a-b._9.*.c"])
def test_pattern(pattern: bytes) -> None:
    """Wildcards are whole tokens, and `>` is the last."""
    check_pattern(pattern)


@pytest.mark.parametrize("pattern", [b"", b"a*", b"a.>.b", b">.a", b"a..b", b"a b", b".", b"a.*b"])
def test_bad_pattern(pattern: bytes) -> None:
    """Everything else is refused."""
    with pytest.raises(LocalProtocolError):
        check_pattern(pattern)


def test_queue_and_sender() -> None:
    """A queue group may be empty or have dots, a sender is one token."""
    for queue in (b"", b"q", b"a.b"):
        check_queue(queue)
    check_sender(b"abc-9_x")
    for bad in (b"", b"a.b", b"*", b"a b", b"a" * 129, b"\xc3\xa4"):
        with pytest.raises(LocalProtocolError):
            check_sender(bad)


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        (b"PUB a 1\r\nx\r\n", encode_pub(b"a", b"", b"", b"x")),
        (b"PUB a r 0\r\n\r\n", encode_pub(b"a", b"r", b"", b"")),
        (b"HPUB a 2 3\r\nhhx\r\n", encode_pub(b"a", b"", b"hh", b"x")),
        (b"HPUB a r 2 3\r\nhhx\r\n", encode_pub(b"a", b"r", b"hh", b"x")),
        (b"SUB a.* 7\r\n", encode_sub(b"a.*", b"", b"7")),
        (b"SUB a.* q 7\r\n", encode_sub(b"a.*", b"q", b"7")),
        (b"UNSUB 7\r\n", encode_unsub(b"7")),
        (b"CONNECT {}\r\n", encode_connect(b"{}")),
    ],
)
def test_lines(expected: bytes, actual: bytes) -> None:
    """Each line is as the protocol has it."""
    assert expected == actual
