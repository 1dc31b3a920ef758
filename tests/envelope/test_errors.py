"""The body of an error answer: what a caller is told, whatever the error is made of."""

from __future__ import annotations

from typing import Any

import pytest

from agent99.envelope import DEPTH_MAX, decode_error, encode_error
from agent99.errors import BadAnswerError, Failure, OverloadedError, RemoteError, RequestError

BYTES_MAX = 64 * 1024


def travel(error: RequestError) -> RequestError:
    """Return what arrives of an error."""
    body = encode_error(error, bytes_max=BYTES_MAX)
    assert len(body) <= BYTES_MAX
    return decode_error(body)


def test_errors_travel_by_their_code() -> None:
    """An error of ours arrives as the same class; a user's own code arrives as `RemoteError`."""
    ours = travel(OverloadedError("full", details={"retry_after_s": 1}))
    assert isinstance(ours, OverloadedError)
    assert (ours.message, ours.details, ours.retryable) == ("full", {"retry_after_s": 1}, True)
    theirs = travel(Failure("no", code="INVENTORY_ERROR", details={"a": 1}))
    assert isinstance(theirs, RemoteError)
    assert isinstance(theirs, Failure)
    assert (theirs.code, theirs.details, theirs.retryable) == ("INVENTORY_ERROR", {"a": 1}, False)


class Unreadable:
    """What nothing can be learnt from."""

    def __str__(self) -> str:
        """Raise, as `__repr__` does."""
        raise RuntimeError("no text")

    __repr__ = __str__


DEEP: Any = []
for _ in range(DEPTH_MAX):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("details", "trouble"),
    [
        ({"a": object()}, "could not be written"),
        ({"a": Unreadable()}, "could not be written"),
        ({"a": "\ud800"}, "could not be written"),
        ({"a": DEEP}, "could not be written"),
        ({"a": "x" * BYTES_MAX}, "were over the limit of 65,536 bytes"),
    ],
)
def test_details_that_cannot_travel_do_not_hide_the_error(
    details: dict[str, Any], trouble: str
) -> None:
    """A note takes their place; message and code arrive."""
    error = travel(Failure("no\ud800", code="X", details=details, retryable=True))
    assert (error.code, error.message, error.retryable) == ("X", "no?", True)
    assert error.details == {"unreadable": f"the details of X {trouble}"} or trouble.endswith(
        "written"
    )
    assert trouble in error.details["unreadable"]


@pytest.mark.parametrize("character", ["x", "\x00", "€", "\U0001f600"])
def test_texts_that_are_too_long_are_cut(character: str) -> None:
    """Message and code are cut, and say how long they were."""
    error = travel(Failure(character * 1_000_000, code=character * 1_000))
    assert error.message == f"{character * 4096}… (1,000,000 characters)"
    assert error.code == f"{character * 128}… (1,000 characters)"


def test_an_unreadable_error_answer_is_a_bad_answer() -> None:
    """Nonsense in place of an error is named as such."""
    assert isinstance(decode_error(b'{"error":3}'), BadAnswerError)
