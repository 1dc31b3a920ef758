"""One client of the RESP listener: what is known of it, and the commands about itself."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from agent99.clock import Clock
from agent99.systems.cache._resp_port import Strings
from agent99.systems.cache._resp_replies import (
    DIALECTS,
    EMPTY,
    OK,
    SYNTAX,
    Dialect,
    RefusedError,
    bulk,
    integer,
    integer_of,
    simple,
)

REDIS_VERSION: Final = "7.0.0"
"""Whose dialect is spoken: client libraries look at it to know what they may ask."""
USER: Final = b"default"
"""The one user there is, by Redis's name."""


@dataclass(slots=True, kw_only=True)
class Figures:
    """What the listener counts."""

    started_s: float
    """On the clock's monotonic scale."""
    clients: int = 0
    """Connected now."""
    clients_max: int = 0
    port: int = 0
    connections: int = 0
    """Taken so far."""
    refused: int = 0
    """Connections over the bound, so far."""
    commands: int = 0
    """Answered so far, refusals too."""


@dataclass(slots=True)
class Session:
    """What is known of a client."""

    number: int
    """Starts at 1; no two clients of a listener have the same."""
    strings: Strings
    clock: Clock
    figures: Figures
    password: str = field(repr=False)
    """Empty: none is asked for."""
    is_trusted: bool = False
    """Whether it said the password, or none is asked for."""
    is_ending: bool = False
    """Whether it said that it goes."""
    dialect: Dialect = DIALECTS[2]
    name: bytes = b""


@dataclass(frozen=True, slots=True)
class Call:
    """A command with its arguments."""

    session: Session
    name: str
    """In small letters."""
    arguments: Sequence[bytes]
    """Without the name."""
    keys: Sequence[str] = ()
    """Those among the arguments that are keys."""


Run = Callable[[Call], bytes | Awaitable[bytes]]
"""Does what a call asks for; returns the answer, or what will give it. Raises RefusedError."""


def ping(call: Call) -> bytes:
    """Answer."""
    if len(call.arguments) > 1:
        raise RefusedError(wrong_number(call.name))
    return bulk(call.arguments[0]) if call.arguments else simple("PONG")


def echo(call: Call) -> bytes:
    """Answer with what was said."""
    return bulk(call.arguments[0])


def end(call: Call) -> bytes:
    """QUIT: answer, and close."""
    call.session.is_ending = True
    return OK


def select(call: Call) -> bytes:
    """SELECT: there is one database."""
    if integer_of(call.arguments[0]) != 0:
        raise RefusedError("ERR DB index is out of range")
    return OK


def auth(call: Call) -> bytes:
    """AUTH [user] password."""
    if len(call.arguments) > 2:
        raise RefusedError(SYNTAX)
    if len(call.arguments) == 1 and not call.session.password:
        raise RefusedError(
            "ERR AUTH <password> called without any password configured for the default user. "
            "Are you sure your configuration is correct?"
        )
    user, password = (USER, *call.arguments)[-2:]
    _admit(call.session, user, password)
    return OK


def hello(call: Call) -> bytes:
    """HELLO [version [AUTH user password] [SETNAME name]]: choose the dialect, say who is there."""
    session = call.session
    version = session.dialect.version
    if call.arguments:
        complaint = "ERR Protocol version is not an integer or out of range"
        version = integer_of(call.arguments[0], complaint)
        if version not in DIALECTS:
            raise RefusedError("NOPROTO unsupported protocol version")
    credential, name = _hello_options(call.arguments[1:])
    if credential is not None:
        _admit(session, *credential)
    if not session.is_trusted:
        raise RefusedError(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the "
            "HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and "
            "select the RESP protocol version at the same time"
        )
    if name is not None:
        session.name = name
    session.dialect = DIALECTS[version]
    return session.dialect.table(
        {
            "server": bulk(b"redis"),
            "version": bulk(REDIS_VERSION.encode()),
            "proto": integer(version),
            "id": integer(session.number),
            "mode": bulk(b"standalone"),
            "role": bulk(b"master"),
            "modules": EMPTY,
        }
    )


def client(call: Call) -> bytes:
    """CLIENT ID | GETNAME | SETNAME name | SETINFO field value."""
    asked, *arguments = call.arguments
    known = _CLIENT.get(asked.lower())
    if known is None:
        raise RefusedError(unknown_subcommand("CLIENT", asked))
    count, run = known
    if len(arguments) != count:
        raise RefusedError(wrong_number(f"client|{asked.lower().decode()}"))
    return run(call.session, arguments)


def wrong_number(name: str) -> str:
    """Say that a command wants another number of arguments."""
    return f"ERR wrong number of arguments for '{name}' command"


def unknown_subcommand(command: str, asked: bytes) -> bytes:
    """Say that a command has no such part."""
    return b"ERR unknown subcommand '%.128b'. Try %b HELP." % (asked, command.encode())


def _admit(session: Session, user: bytes, password: bytes) -> None:
    """Trust who knows the password, in a time that tells nothing about it."""
    is_known = hmac.compare_digest(password, session.password.encode())
    # As in Redis, the user without a password may say any.
    if user != USER or not (is_known or not session.password):
        raise RefusedError("WRONGPASS invalid username-password pair or user is disabled.")
    session.is_trusted = True


def _hello_options(options: Sequence[bytes]) -> tuple[tuple[bytes, bytes] | None, bytes | None]:
    """Return the user with his password, and the client's name, where they are said."""
    credential: tuple[bytes, bytes] | None = None
    name: bytes | None = None
    rest = list(options)
    while rest:
        option = rest.pop(0)
        if option.upper() == b"AUTH" and len(rest) >= 2:
            credential = rest.pop(0), rest.pop(0)
        elif option.upper() == b"SETNAME" and rest:
            name = _checked_name(rest.pop(0))
        else:
            raise RefusedError(b"ERR Syntax error in HELLO option '%b'" % option)
    return credential, name


def _checked_name(name: bytes) -> bytes:
    if not all(ord("!") <= letter <= ord("~") for letter in name):
        raise RefusedError(
            "ERR Client names cannot contain spaces, newlines or special characters."
        )
    return name


def _set_name(session: Session, arguments: Sequence[bytes]) -> bytes:
    session.name = _checked_name(arguments[0])
    return OK


def _set_info(_: Session, arguments: Sequence[bytes]) -> bytes:
    """Take what a client library says of itself; nobody asks for it here."""
    if arguments[0].lower() not in {b"lib-name", b"lib-ver"}:
        raise RefusedError(b"ERR Unrecognized option '%.128b'" % arguments[0])
    return OK


_CLIENT: Final[dict[bytes, tuple[int, Callable[[Session, Sequence[bytes]], bytes]]]] = {
    b"getname": (0, lambda session, _: session.dialect.value(session.name or None)),
    b"id": (0, lambda session, _: integer(session.number)),
    b"setinfo": (2, _set_info),
    b"setname": (1, _set_name),
}
