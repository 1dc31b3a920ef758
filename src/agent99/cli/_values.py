"""Payloads from the command line: `name=value` words and JSON text."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import msgspec
import typer

from agent99.cli._exits import RefusalError

JsonPayload = Annotated[
    str | None,
    typer.Option(
        "--json-payload",
        metavar="JSON",
        help="The payload as a JSON object; '-' reads it from stdin.",
    ),
]

_decode = msgspec.json.Decoder().decode


def parse_words(words: Iterable[str]) -> dict[str, Any]:
    """Return what `name=value` words mean: the value is JSON where it is JSON, else text.

    `n=3` is a number, `name=Ada` text, `tags=["a"]` a list, `code="3"` (quoted in the shell once
    more) text that looks like a number, `empty=` the empty text.

    Raises:
        RefusalError: a word has no `=` or no name, or a name stands twice.
    """
    payload: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise RefusalError(f"{word!r} is no name=value, such as name=Ada, n=3 or tags='[1]'")
        if name in payload:
            raise RefusalError(f"{name!r} is given twice")
        payload[name] = parse_value(text, name)
    return payload


def parse_value(text: str, name: str) -> Any:
    """Return JSON's value where `text` is JSON, else `text` itself.

    Raises:
        RefusalError: it is not UTF-8.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError:  # the shell's bytes were no UTF-8
        raise RefusalError(f"the value of {name!r} is no UTF-8 text") from None
    try:
        return _decode(data)
    except (msgspec.DecodeError, RecursionError):
        return text


def read_payload(words: Sequence[str], json_text: str | None) -> dict[str, Any]:
    """Return the payload that a command was given; `-` stands for JSON on stdin.

    Raises:
        as `parse_payload`.
    """
    return parse_payload(words, sys.stdin.read() if json_text == "-" else json_text)


def parse_payload(words: Sequence[str], json_text: str | None) -> dict[str, Any]:
    """Return the payload of a request; words add to the JSON object, or replace its fields.

    Raises:
        RefusalError: the JSON is no object, a word is one, or as `parse_words`.
    """
    for word in words:
        if word.startswith("{") and isinstance(parse_value(word, word), dict):
            raise RefusalError(f"{word!r} is no name=value; a JSON object goes to --json-payload")
    payload: dict[str, Any] = {}
    if json_text is not None:
        try:
            found = _decode(json_text.encode(errors="surrogateescape"))
        except (msgspec.DecodeError, RecursionError) as error:
            raise RefusalError(f"--json-payload is no JSON: {error}") from None
        if not isinstance(found, dict):
            raise RefusalError('--json-payload must be an object, such as \'{"name": "Ada"}\'')
        payload.update(found)  # pyright: ignore[reportUnknownArgumentType] - JSON: text to anything
    return {**payload, **parse_words(words)}
