"""Our bytes to the server: pure; refuses whatever could break the protocol."""

from __future__ import annotations

import re

from agent99.errors import LocalProtocolError

PING = b"PING\r\n"
PONG = b"PONG\r\n"
SUBJECT_BYTES_MAX = 1_900
"""Of a subject, and of a reply: together they fit the server's control line of 4,096."""

_QUEUE_BYTES_MAX = 128
_KNOWN_MAX = 4_096
_RANDOM_TOKEN_BYTES = 22  # 128 bits take so many letters and digits at least
_TOKEN = rb"[!-)+,\-/-=?-~]+"  # printable ASCII without space, dot, * and >
_is_token = re.compile(_TOKEN).fullmatch
_is_literal = re.compile(rb"%b(?:\.%b)*" % (_TOKEN, _TOKEN)).fullmatch
_is_pattern = re.compile(rb"(?:%b|\*)(?:\.(?:%b|\*))*(?:\.>)?|>" % (_TOKEN, _TOKEN)).fullmatch


class SubjectChecker:
    """Refuses subjects that nobody may publish to, cheaply: it remembers good ones.

    Invariant: `known` holds at most `_KNOWN_MAX` subjects, each of them good.
    """

    def __init__(self) -> None:
        self.known: set[bytes] = set()
        """Good subjects: one that is among them needs no `check`."""

    def __repr__(self) -> str:
        return f"SubjectChecker(known={len(self.known)})"

    def check(self, subject: bytes) -> None:
        """Refuse an empty token, a wildcard, and anything but printable ASCII.

        Raises:
            LocalProtocolError
        """
        known = self.known
        # An answer goes to a new subject each time: an inbox seen before and a fresh token.
        inbox, _, token = subject.rpartition(b".")
        if inbox in known and token.isalnum() and len(subject) <= SUBJECT_BYTES_MAX:
            return
        if len(subject) > SUBJECT_BYTES_MAX or _is_literal(subject) is None:
            raise _bad("subject to publish to", subject)
        if len(known) >= _KNOWN_MAX:
            known.clear()
        known.add(inbox if inbox and len(token) >= _RANDOM_TOKEN_BYTES else subject)


def check_sender(sender: bytes) -> None:
    """Refuse a connection's identity that is more than one plain token.

    Raises:
        LocalProtocolError
    """
    if len(sender) > _QUEUE_BYTES_MAX or _is_token(sender) is None:
        raise _bad("sender: one token", sender)


def check_pattern(pattern: bytes) -> None:
    """Refuse what nobody may subscribe to; `*` and a final `>` are allowed as whole tokens.

    Raises:
        LocalProtocolError
    """
    if len(pattern) > SUBJECT_BYTES_MAX or _is_pattern(pattern) is None:
        raise _bad("subject to subscribe to", pattern)


def check_queue(queue: bytes) -> None:
    """Refuse a queue group's name that is no plain word; empty stands for no group.

    Raises:
        LocalProtocolError
    """
    if queue and (len(queue) > _QUEUE_BYTES_MAX or _is_literal(queue) is None):
        raise _bad("queue group", queue)


def check_header_block(block: bytes) -> None:
    """Refuse a header block that `format_headers` did not make.

    Raises:
        LocalProtocolError
    """
    if not (block.startswith(b"NATS/1.0") and block.endswith(b"\r\n\r\n")):
        raise _bad("header block", block)


def encode_connect(fields: bytes) -> bytes:
    """Return CONNECT with its JSON object."""
    return b"CONNECT %b\r\n" % fields


def encode_sub(pattern: bytes, queue: bytes, sid: bytes) -> bytes:
    """Return SUB. The pattern and the queue group must have been checked."""
    if queue:
        return b"SUB %b %b %b\r\n" % (pattern, queue, sid)
    return b"SUB %b %b\r\n" % (pattern, sid)


def encode_unsub(sid: bytes) -> bytes:
    """Return UNSUB."""
    return b"UNSUB %b\r\n" % sid


def encode_pub(subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> bytes:
    """Return PUB, or HPUB when there are headers. The subjects must have been checked."""
    if headers:
        head, size = len(headers), len(headers) + len(payload)
        if reply:
            return b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject, reply, head, size, headers, payload)
        return b"HPUB %b %d %d\r\n%b%b\r\n" % (subject, head, size, headers, payload)
    if reply:
        return b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(payload), payload)
    return b"PUB %b %d\r\n%b\r\n" % (subject, len(payload), payload)


def _bad(what: str, value: bytes) -> LocalProtocolError:
    shown = repr(value[:80])[1:] + ("…" if len(value) > 80 else "")
    return LocalProtocolError(f"{shown} is no {what}")
