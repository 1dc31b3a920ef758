"""The commands there are: how each is called, what it does, and to which of its arguments.

Answers are Redis 7's own, to the byte, but for this:

- Keys are UTF-8 text of 1 to 1,024 bytes; `?` in a pattern is a letter, not a byte.
- There is one database; one user, `default`; no transaction, and no data but strings.
- Times end in the year 294247, for they are 64 bits of microseconds. EXPIRE has no conditions (NX,
  XX, GT, LT). GETEX and PERSIST are two steps: another client may come between them.
- KEYS answers with a bounded number of keys. SCAN finds each key that stays, as Redis's does.
- COMMAND has no DOCS and no LIST. CLIENT SETINFO, of Redis 7.2, is taken and not kept.
- What the cluster has to say is `ERR CODE: …`, or `TRYAGAIN CODE: …` where asking again may help.
- A command that broke half-way at a lost link may have been done, as in any cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from agent99.systems.cache import _resp_keys as on_keys
from agent99.systems.cache import _resp_session as on_session
from agent99.systems.cache import _resp_strings as on_strings
from agent99.systems.cache._resp_replies import (
    EMPTY,
    Dialect,
    RefusedError,
    array,
    bulk,
    integer,
    simple,
)
from agent99.systems.cache._resp_session import Call, Run, Session

Effect = Literal["none", "read", "write", "alone"]
"""What a command does to its keys; `alone` is one that may see or change more than its keys."""
_UNKNOWN_BYTES_MAX: Final = 128
"""How much of a name that nobody knows, and of its arguments, is told back."""
_SECOND_US: Final = 1_000_000
_MILLISECOND_US: Final = 1_000


class KeyRange(NamedTuple):
    """Which arguments are keys; the name is argument 0."""

    first: int
    last: int
    """Counted from the end where it is below 0."""
    step: int

    def of(self, request: Sequence[bytes]) -> list[str]:
        """Return the keys of a request.

        Raises:
            RefusedError: one is no text.
        """
        if not self.step:
            return []
        last = self.last if self.last >= 0 else len(request) + self.last
        try:
            return [key.decode() for key in request[self.first : last + 1 : self.step]]
        except UnicodeDecodeError:
            raise RefusedError("ERR key is not UTF-8 text") from None


_NO_KEY: Final = KeyRange(0, 0, 0)
_ONE: Final = KeyRange(1, 1, 1)
_ALL: Final = KeyRange(1, -1, 1)
_PAIRS: Final = KeyRange(1, -1, 2)


@dataclass(frozen=True, slots=True)
class Command:
    """A command."""

    name: str
    """In small letters."""
    arity: int
    """How many arguments it takes, its name included; at least so many where it is below 0."""
    effect: Effect
    keys: KeyRange
    run: Run | None = None
    fold: Callable[[Dialect, Sequence[bytes | None]], bytes] | None = None
    """Makes the answer from its keys' values; several such commands are read at once."""
    items: Callable[[Call], Mapping[str, bytes] | None] | None = None
    """Returns what it writes, if that is all it does; several such commands are written at once."""


def find(request: Sequence[bytes]) -> Command:
    """Return the command that a request names.

    Raises:
        RefusedError: it is unknown, or comes with another number of arguments.
    """
    command = _BY_NAME.get(request[0]) or _BY_NAME.get(request[0].lower())
    if command is None:
        raise RefusedError(_unknown(request))
    count = len(request)
    if count != command.arity and (command.arity >= 0 or count < -command.arity):
        raise RefusedError(on_session.wrong_number(command.name))
    return command


def prepare(session: Session, request: Sequence[bytes]) -> tuple[Command, Call]:
    """Return the command that a request names, and the call to make.

    Raises:
        RefusedError: there is none, or the client may not make it.
    """
    command = find(request)
    if not session.is_trusted and command.name not in _WITHOUT_PASSWORD:
        raise RefusedError("NOAUTH Authentication required.")
    if command.keys is _PAIRS and len(request) % 2 == 0:  # the last key has no value
        raise RefusedError(on_session.wrong_number(command.name))
    keys = command.keys.of(request)
    return command, Call(session, command.name, request[1:], keys)


def describe(call: Call) -> bytes:
    """COMMAND [COUNT | INFO [name …]]: what there is, by Redis's description.

    Who asks for DOCS is told that there are none: redis-cli then shows those that it brings.
    """
    if not call.arguments:
        return array([_description(command) for command in COMMANDS])
    asked, *names = call.arguments
    part = asked.lower()
    if part == b"count" and names:
        raise RefusedError(on_session.wrong_number("command|count"))
    if part == b"count":
        return integer(len(COMMANDS))
    if part == b"info":
        found = [_BY_NAME.get(name.lower()) for name in names] if names else COMMANDS
        return array([_description(one) if one else call.session.dialect.null for one in found])
    raise RefusedError(on_session.unknown_subcommand("COMMAND", asked))


def _description(command: Command) -> bytes:
    flags = {"read": ["readonly"], "write": ["write"]}.get(command.effect, [])
    return array(
        (
            bulk(command.name.encode()),
            integer(command.arity),
            array([simple(flag) for flag in flags]),
            *(integer(place) for place in command.keys),
            *(EMPTY for _ in ("categories", "hints", "key specifications", "subcommands")),
        )
    )


def _unknown(request: Sequence[bytes]) -> bytes:
    """Say that there is no such command, in Redis's words to the letter."""
    name, *arguments = request
    told = b""
    for argument in arguments:
        if len(told) >= _UNKNOWN_BYTES_MAX:
            break
        told += b"'%b' " % argument[: _UNKNOWN_BYTES_MAX - len(told)]
    name = name[:_UNKNOWN_BYTES_MAX]
    return b"ERR unknown command '%b', with args beginning with: %b" % (name, told)


_WITHOUT_PASSWORD: Final = frozenset({"auth", "hello", "quit"})

COMMANDS: Final = (
    Command("append", 3, "write", _ONE, on_strings.append),
    Command("auth", -2, "alone", _NO_KEY, on_session.auth),
    Command("client", -2, "none", _NO_KEY, on_session.client),
    Command("command", -1, "none", _NO_KEY, describe),
    Command("dbsize", 1, "alone", _NO_KEY, on_keys.count),
    Command("decr", 2, "write", _ONE, on_strings.decrease),
    Command("decrby", 3, "write", _ONE, on_strings.decrease),
    Command("del", -2, "write", _ALL, on_strings.delete),
    Command("echo", 2, "none", _NO_KEY, on_session.echo),
    Command("exists", -2, "read", _ALL, on_strings.exists),
    Command("expire", -3, "write", _ONE, on_strings.expire(_SECOND_US, is_moment=False)),
    Command("expireat", -3, "write", _ONE, on_strings.expire(_SECOND_US, is_moment=True)),
    Command("flushall", -1, "alone", _NO_KEY, on_keys.flush),
    Command("flushdb", -1, "alone", _NO_KEY, on_keys.flush),
    Command("get", 2, "read", _ONE, fold=on_strings.one_value),
    Command("getdel", 2, "write", _ONE, on_strings.take),
    Command("getex", -2, "write", _ONE, on_strings.get_and_touch),
    Command("getset", 3, "write", _ONE, on_strings.swap),
    Command("hello", -1, "alone", _NO_KEY, on_session.hello),
    Command("incr", 2, "write", _ONE, on_strings.increase),
    Command("incrby", 3, "write", _ONE, on_strings.increase),
    Command("info", -1, "alone", _NO_KEY, on_keys.info),
    Command("keys", 2, "alone", _NO_KEY, on_keys.keys),
    Command("mget", -2, "read", _ALL, fold=on_strings.all_values),
    Command("mset", -3, "write", _PAIRS, items=on_strings.plain_items),
    Command("persist", 2, "write", _ONE, on_strings.persist),
    Command("pexpire", -3, "write", _ONE, on_strings.expire(_MILLISECOND_US, is_moment=False)),
    Command("pexpireat", -3, "write", _ONE, on_strings.expire(_MILLISECOND_US, is_moment=True)),
    Command("ping", -1, "none", _NO_KEY, on_session.ping),
    Command("psetex", 4, "write", _ONE, on_strings.set_for(_MILLISECOND_US)),
    Command("pttl", 2, "read", _ONE, on_strings.time_left(_MILLISECOND_US)),
    Command("quit", -1, "alone", _NO_KEY, on_session.end),
    Command("scan", -2, "alone", _NO_KEY, on_keys.scan),
    Command("select", 2, "alone", _NO_KEY, on_session.select),
    Command("set", -3, "write", _ONE, on_strings.set_with, items=on_strings.plain_items),
    Command("setex", 4, "write", _ONE, on_strings.set_for(_SECOND_US)),
    Command("setnx", 3, "write", _ONE, on_strings.set_new),
    Command("strlen", 2, "read", _ONE, fold=on_strings.length),
    Command("touch", -2, "read", _ALL, on_strings.exists),
    Command("ttl", 2, "read", _ONE, on_strings.time_left(_SECOND_US)),
    Command("type", 2, "read", _ONE, on_strings.type_of),
    Command("unlink", -2, "write", _ALL, on_strings.delete),
)
"""Every command, by name."""
_BY_NAME: Final = {
    spelling: command
    for command in COMMANDS
    for spelling in (command.name.encode(), command.name.upper().encode())
}
