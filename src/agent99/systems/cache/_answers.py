"""What a client believes of a node's answer: it fits to what was asked. Pure."""

from __future__ import annotations

from agent99.errors import BadAnswerError
from agent99.systems.cache._words import Found, Status, Written

_STATUS_MAX = max(Status)


def check_found(found: Found, asked: int) -> Found:
    """Return an answer to a read of so many keys.

    Raises:
        BadAnswerError: it tells of none of them, of more, or of others.
    """
    if not 0 < len(found.hits) <= asked:
        raise _not_as_many(len(found.hits), asked)
    if found.moved and not (min(found.moved) >= 0 and max(found.moved) < len(found.hits)):
        raise BadAnswerError(f"a node disowns keys it was not asked for: {found.moved[:10]}")
    return found


def check_written(written: Written, asked: int) -> Written:
    """Return an answer to so many changes.

    Raises:
        BadAnswerError: it tells of more, or of outcomes that there are not.
    """
    if len(written.outcomes) > asked:
        raise _not_as_many(len(written.outcomes), asked)
    for outcome in written.outcomes:
        if not 0 <= outcome.status <= _STATUS_MAX:
            raise BadAnswerError(f"a node tells of an outcome that there is not: {outcome.status}")
    return written


def _not_as_many(answers: int, asked: int) -> BadAnswerError:
    return BadAnswerError(f"a node has answered {answers} times to {asked}")
