"""What a node refused, in the words of the cache's users."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from agent99.errors import Failure, UsageError
from agent99.systems.cache._words import Outcome, Status


def checked(outcome: Outcome) -> Outcome:
    """Return what came of a change that was not refused.

    Raises:
        Failure: it cannot be made of what is there.
    """
    if outcome.status == Status.REFUSED:
        raise Failure(_WORDS.get(outcome.code, outcome.code), code=outcome.code)
    return outcome


@contextmanager
def asked_by_others() -> Generator[None]:
    """Refuse what cannot be asked for as whoever asked did wrong, not the agent that was asked.

    Raises:
        Failure: the block raised `UsageError`, as of a key or of a time to live; with its code.
    """
    try:
        yield
    except UsageError as error:
        raise Failure(str(error), code=error.code) from error


_WORDS = {
    "NOT_A_NUMBER": "the value is not a whole number of 64 bits",
    "OVERFLOW": "the sum does not fit into 64 bits",
    "VALUE_TOO_LARGE": "the value is larger than its node takes",
    "NOT_APPENDABLE": "only bytes and text can be appended to, and each to its own kind",
}
