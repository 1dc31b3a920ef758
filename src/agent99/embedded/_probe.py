"""Ask a nats-server, with our credential, whether it is ours and whether JetStream is ready."""

from __future__ import annotations

import json
import socket
from typing import NamedTuple

from agent99.embedded._state import HOST, Record

_INBOX = "_INBOX.agent99-probe"
_READ_BYTES = 65_536
_ANSWER_BYTES_MAX = 1_048_576


class Answer(NamedTuple):
    """What the server said of itself."""

    version: str
    name: str
    is_ready: bool
    """Whether JetStream takes requests."""
    store_bytes: int
    """Bytes on disk that its streams take."""
    streams: int
    """How many streams it has."""


def probe(record: Record, *, timeout_s: float) -> Answer | None:
    """Return the server's answer; None where nobody answers, or somebody who is not ours.

    Args:
        record: Where it should be, what it should be called, and the credential.
        timeout_s: For each step: connecting and every read.
    """
    try:
        with socket.create_connection((HOST, record.port), timeout_s) as link:
            return _converse(link, record)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _converse(link: socket.socket, record: Record) -> Answer | None:
    greeting, _, rest = _read_until(link, b"", b"\r\n").partition(b"\r\n")
    info = json.loads(greeting.removeprefix(b"INFO "))
    if info["server_name"] != record.name:
        return None  # before the credential is shown: a stranger took the port
    hello = {
        "verbose": False,
        "pedantic": False,
        "user": record.user,
        "pass": record.password,
        "name": "agent99-probe",
        "lang": "python",
        "version": "0",
        "protocol": 1,
        "headers": True,
        "no_responders": True,
    }
    link.sendall(
        f"CONNECT {json.dumps(hello)}\r\nSUB {_INBOX} 1\r\n"
        f"PUB $JS.API.INFO {_INBOX} 0\r\n\r\n".encode()
    )
    body = _answer_body(link, rest)
    version, name = str(info["version"]), str(info["server_name"])
    if body is None:
        return Answer(version, name, is_ready=False, store_bytes=0, streams=0)
    account = json.loads(body)
    return Answer(
        version,
        name,
        is_ready="error" not in account,
        store_bytes=int(account.get("storage", 0)),
        streams=int(account.get("streams", 0)),
    )


def _answer_body(link: socket.socket, text: bytes) -> bytes | None:
    """Return the body of the one message; None for "no responders": JetStream is not up yet."""
    text = _read_until(link, text, b"MSG ", b"-ERR")
    if b"-ERR" in text:
        raise PermissionError("the server refused the credential")
    if b"HMSG " in text:
        return None
    text = _read_until(link, text[text.index(b"MSG ") :], b"\r\n")
    head, _, body = text.partition(b"\r\n")
    size = int(head.split()[-1])
    while len(body) < min(size, _ANSWER_BYTES_MAX):
        chunk = link.recv(_READ_BYTES)
        if not chunk:
            return None
        body += chunk
    return body[:size]


def _read_until(link: socket.socket, text: bytes, *ends: bytes) -> bytes:
    while not any(end in text for end in ends):
        chunk = link.recv(_READ_BYTES)
        if not chunk or len(text) > _ANSWER_BYTES_MAX:
            raise ConnectionError("the server hung up, or says too much")
        text += chunk
    return text
