"""Whom a word of the command line means: everybody, a name, an instance. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from agent99.agent import Peer
from agent99.cli._exits import Exit, RefusalError

PREFIX_CHARACTERS_MIN = 4
"""So many characters of an instance's UUID are enough, if only one begins so."""
NEAR_MAX = 3
_UUID_CHARACTERS = frozenset("0123456789abcdef-")


def find_instance(peers: Sequence[Peer], word: str) -> Peer | None:
    """Return the instance whose UUID is, or begins with, the word; None when there is none.

    Raises:
        RefusalError: several begin so.
    """
    word = word.lower()
    if len(word) < PREFIX_CHARACTERS_MIN or not set(word) <= _UUID_CHARACTERS:
        return None
    found = [peer for peer in peers if peer.instance.startswith(word)]
    if len(found) > 1:
        several = ", ".join(f"{peer.name} {peer.instance}" for peer in found)
        raise RefusalError(f"{word!r} begins several instances: {several}")
    return found[0] if found else None


def find_named(peers: Sequence[Peer], word: str) -> list[Peer]:
    """Return the instances of an agent's name, in whatever state."""
    return [peer for peer in peers if peer.name == word.lower()]


def find_capable(peers: Sequence[Peer], word: str) -> list[Peer]:
    """Return the instances that offer a capability, in whatever state."""
    return [peer for peer in peers if word.lower() in peer.capabilities]


def unavailable(capable: Sequence[Peer], word: str) -> RefusalError:
    """Return the error for a capability that is there, of which no instance takes requests."""
    states = ", ".join(sorted({peer.description.state for peer in capable}))
    paused = sorted({peer.name for peer in capable if peer.description.state == "paused"})
    hint = "".join(f"; agent99 ctl resume {name}" for name in paused)
    message = f"of {len(capable)} that offer {word!r} none takes requests now ({states}){hint}"
    return RefusalError(message, Exit.NOBODY, code="NO_AGENT")


def nobody(peers: Sequence[Peer], word: str, *, capabilities: bool) -> RefusalError:
    """Return the error for a word that means nobody, with what may have been meant."""
    names = sorted({peer.name for peer in peers})
    offered = sorted({capability for peer in peers for capability in peer.capabilities})
    words = list(dict.fromkeys([*names, *offered])) if capabilities else names
    near = get_close_matches(word.lower(), words, n=NEAR_MAX, cutoff=0.6)
    if near:
        hint = f"; did you mean {' or '.join(map(repr, near))}?"
    elif not peers:
        hint = "; there is no agent on this mesh"
    else:
        hint = f"; there are: {', '.join(words[:20])}{', …' if len(words) > 20 else ''}"
    what = "agent, instance or capability" if capabilities else "agent or instance"
    if not capabilities and (capable := find_capable(peers, word)):
        names = sorted({peer.name for peer in capable})
        hint = f"; it is a capability of {', '.join(names)}"
    return RefusalError(f"there is no {what} {word!r}{hint}", Exit.NOBODY, code="NO_AGENT")
