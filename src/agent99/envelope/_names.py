"""The grammar of names and topics: text is checked once, and has a type of its own from then on."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NewType

from agent99.errors import InvalidNameError

Name = NewType("Name", str)
"""A name, capability, operation or instance that may become one token of a subject."""

Topic = NewType("Topic", str)
"""Names joined by dots, most significant first: `order.placed.eu`."""

Pattern = NewType("Pattern", str)
"""A topic in which `*` stands for one token and a final `>` for one or more."""

EVENT_ID_CHARACTERS_MAX = 128
TOPIC_TOKENS_MAX = 12
TOPIC_CHARACTERS_MAX = 200

_EVENT_ID = re.compile(r"[!-~]{1,128}")
_EVENT_ID_RULE = f"1 to {EVENT_ID_CHARACTERS_MAX} characters of printable ASCII, no spaces"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
_NAME_RULE = "1 to 63 letters a-z, digits, '-' and '_', beginning and ending with a letter or digit"


def parse_name(kind: str, text: str) -> Name:
    """Return `text` in lower case, as a name.

    Args:
        kind: What it is meant to be, for the error: `capability`, `operation`, …
        text: Any text; upper case is folded, as Agent99 compares without regard to case.

    Raises:
        InvalidNameError: it could not be a token of a subject.
    """
    if not isinstance(text, str):
        raise InvalidNameError(kind, repr(text), "it must be text")
    folded = text.lower() if text.isascii() else text
    if _NAME.fullmatch(folded) is None:
        raise InvalidNameError(kind, text, _NAME_RULE)
    return Name(folded)


def is_name(text: str) -> bool:
    """Tell whether text is a name as it stands: in lower case already."""
    return _NAME.fullmatch(text) is not None


def parse_event_id(text: str) -> str:
    """Return the id that somebody gave to an event.

    Raises:
        InvalidNameError: the server could not recognise an event by it.
    """
    if not isinstance(text, str):
        raise InvalidNameError("event id", repr(text), "it must be text")
    if _EVENT_ID.fullmatch(text) is None:
        raise InvalidNameError("event id", text, _EVENT_ID_RULE)
    return text


def parse_topic(text: str) -> Topic:
    """Return `text` in lower case, as a topic.

    Raises:
        InvalidNameError: a token is no name, or there are more than 12 of them or 200 characters.
    """
    if not isinstance(text, str):
        raise InvalidNameError("topic", repr(text), "it must be text")
    return _topic(text)


@lru_cache(1024)
def _topic(text: str) -> Topic:
    """Parse a topic; a programme has few, and each event is sent to one of them."""
    return Topic(".".join(_tokens("topic", text)))


def parse_pattern(text: str) -> Pattern:
    """Return `text` in lower case, as a pattern of topics.

    Raises:
        InvalidNameError: a token is neither a name nor `*`, or `>` is not the last one.
    """
    return Pattern(".".join(_tokens("topic pattern", text, wildcards=True)))


def _tokens(kind: str, text: str, *, wildcards: bool = False) -> list[str]:
    if not isinstance(text, str):
        raise InvalidNameError(kind, repr(text), "it must be text")
    if len(text) > TOPIC_CHARACTERS_MAX:
        raise InvalidNameError(kind, text, f"at most {TOPIC_CHARACTERS_MAX} characters")
    tokens = text.split(".")
    if len(tokens) > TOPIC_TOKENS_MAX:
        raise InvalidNameError(kind, text, f"at most {TOPIC_TOKENS_MAX} names joined by dots")
    parsed: list[str] = []
    for index, part in enumerate(tokens):
        is_last = index == len(tokens) - 1
        if wildcards and (part == "*" or (part == ">" and is_last)):
            parsed.append(part)
            continue
        folded = part.lower() if part.isascii() else part
        if _NAME.fullmatch(folded) is None:
            extra = ", '*' for one of them, a final '>' for the rest" if wildcards else ""
            raise InvalidNameError(
                kind, text, f"names joined by dots{extra}; each name is {_NAME_RULE}"
            )
        parsed.append(folded)
    return parsed
