"""Which saga a word of the command line means: a whole id, or the beginning of one."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from agent99.cli._exits import Exit, RefusalError
from agent99.cli._find import NEAR_MAX, PREFIX_CHARACTERS_MIN

if TYPE_CHECKING:
    from agent99.saga import Desk, SagaView

ID_HELP = f"Of a saga; of an open one {PREFIX_CHARACTERS_MIN} characters of its beginning do."
_WHOLE_CHARACTERS_MIN = 32
_LISTED_MAX = 5
_NEARNESS = 0.75
_UUID_CHARACTERS = frozenset("0123456789abcdef-")


async def find_saga(desk: Desk, word: str) -> SagaView:
    """Return the saga that a word means.

    Raises:
        RefusalError: there is none, or several begin so.
        JournalError: it cannot be read.
    """
    word = word.lower()
    _check(word)
    if len(word) >= _WHOLE_CHARACTERS_MIN:
        view = await desk.find(word)
        if view is None:
            raise _unknown(f"there is no saga {word!r}", word, await desk.open_ids())
        return view
    ids = await desk.open_ids(word)
    if len(ids) > 1:
        several = ", ".join(ids[:_LISTED_MAX]) + (", …" if len(ids) > _LISTED_MAX else "")
        message = f"{word!r} begins {len(ids)} open sagas: {several}"
        raise RefusalError(message, Exit.NOBODY, code="AMBIGUOUS")
    view = await desk.find(ids[0]) if ids else None
    if view is None:
        what = f"no open saga begins with {word!r} (of one that has ended, give the whole id)"
        raise _unknown(what, word, await desk.open_ids())
    return view


async def find_sagas(desk: Desk, words: Sequence[str]) -> list[SagaView]:
    """Return the sagas that words mean, each once.

    Raises:
        as `find_saga`.
    """
    found = [await find_saga(desk, word) for word in dict.fromkeys(words)]
    return list({view.saga_id: view for view in found}.values())


def _check(word: str) -> None:
    if len(word) < PREFIX_CHARACTERS_MIN or not set(word) <= _UUID_CHARACTERS:
        raise RefusalError(
            f"{word!r} is no saga's id, nor {PREFIX_CHARACTERS_MIN} characters or more of its"
            " beginning; `agent99 saga list` shows them"
        )


def _unknown(what: str, word: str, ids: Sequence[str]) -> RefusalError:
    """Return the error for a word that means no saga, with what may have been meant."""
    whole = {saga_id[: len(word)]: saga_id for saga_id in ids}
    near = get_close_matches(word, whole, n=NEAR_MAX, cutoff=_NEARNESS)
    if near:
        hint = f"did you mean {' or '.join(whole[beginning] for beginning in near)}?"
    else:
        hint = "`agent99 saga list` shows what is open" if ids else "no saga is open"
    return RefusalError(f"{what}; {hint}", Exit.NOBODY, code="NO_SAGA")
