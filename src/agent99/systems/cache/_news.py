"""What owners tell clients of keys that those hold near: that they have changed since."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from functools import lru_cache
from typing import TypeAlias

import msgspec

from agent99.envelope import Name, Subjects, parse_name
from agent99.errors import Agent99Error, InvalidNameError
from agent99.wire import ConnectionState, Wire

KEYS_MAX = 1_000
"""Told in one message."""
CHARACTERS_MAX = 64 * 1024
"""Of keys in one message, about: as JSON a character may take six bytes."""

TOLD_MAX = 1_024
ANYTHING = b"null"

News: TypeAlias = tuple[tuple[str, int], ...]
"""Keys, without their namespace, and versions: what was before those is outdated."""

_log = logging.getLogger("agent99.systems.cache")
_decode = msgspec.json.Decoder(News).decode
encode_news = msgspec.json.Encoder().encode


def decode_news(payload: bytes) -> News | None:
    """Return what was told, or None: of whatever key; what makes no sense may mean that, too."""
    try:
        return _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class Teller:
    """Tells of a node's changes: for each namespace one message in a turn of the loop, mostly.

    Delivery: at most once. What was on its way when the link was cut may be lost; so when it is
    back (`on_state`), those who were told of anything are told that anything may have changed.
    """

    def __init__(self, wire: Wire, subjects: Subjects) -> None:
        self._wire = wire
        self._subjects = subjects
        self._waiting: dict[str, int] = {}
        self._told: set[bytes] = set()
        """The subjects on which something was told, up to `TOLD_MAX`."""

    def __repr__(self) -> str:
        return f"Teller(waiting={len(self._waiting)})"

    def outdated(self, key: str, version: int) -> None:
        """Tell, before this turn of the loop is over, that a full key has changed."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting[key] = version

    def flush(self) -> None:
        """Tell now: before those are answered who made the changes."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, {}
        by_namespace: dict[str, list[tuple[str, int]]] = {}
        for full, version in waiting.items():
            namespace, _, key = full.partition(":")
            by_namespace.setdefault(namespace, []).append((key, version))
        for namespace, news in by_namespace.items():
            name = _name(namespace)
            if name is not None:
                self._tell(self._subjects.near(name), news)

    def on_state(self, state: ConnectionState) -> None:
        """The link is cut, or is back."""
        if state is ConnectionState.CONNECTED:
            for subject in self._told:
                self._publish(subject, ANYTHING)

    # --- inside -----------------------------------------------------------------------------------

    def _tell(self, subject: bytes, news: list[tuple[str, int]]) -> None:
        if len(self._told) < TOLD_MAX:
            self._told.add(subject)
        for some in _portions(news):
            self._publish(subject, encode_news(some))

    def _publish(self, subject: bytes, payload: bytes) -> None:
        try:
            self._wire.publish(subject, payload)
        except Agent99Error as error:
            _log.info("changed keys could not be told: %s", error)


def _portions(news: list[tuple[str, int]]) -> Iterable[list[tuple[str, int]]]:
    some: list[tuple[str, int]] = []
    characters = 0
    for key, version in news:
        if some and (len(some) >= KEYS_MAX or characters + len(key) > CHARACTERS_MAX):
            yield some
            some, characters = [], 0
        some.append((key, version))
        characters += len(key)
    if some:
        yield some


@lru_cache(1_024)
def _name(namespace: str) -> Name | None:
    """Return a namespace as part of a subject; None: nobody can have opened it."""
    try:
        return parse_name("namespace", namespace)
    except InvalidNameError:
        return None
