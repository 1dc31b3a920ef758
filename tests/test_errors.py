"""Errors: the drawing is the tree, codes are stable and unique, what travels comes back."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99 import errors
from agent99.errors import Agent99Error, Failure, RemoteError, RequestError, request_error


def _classes() -> dict[str, type[Agent99Error]]:
    return {
        name: thing
        for name, thing in vars(errors).items()
        if inspect.isclass(thing) and issubclass(thing, Agent99Error)
    }


def _drawing() -> dict[str, str]:
    """Read the docstring's tree: each class with the one above it."""
    above: dict[int, str] = {}
    tree: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^([ │├└─]*)([A-Z]\w+(?:Error|Failure|Exception)?)(?:\s{2,}.*)?$", line)
        if match is None or (match[1].strip() == "" and match[2] != "Agent99Error"):
            continue
        depth = len(match[1]) // 4
        above[depth] = match[2]
        tree[match[2]] = above.get(depth - 1, "")
    return tree


ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "str": ("text",),
    "int": (3,),
    "bool": (True,),
    "int | None": (None,),
    "float": (1.5,),
}


def _example(cls: type[Agent99Error]) -> Agent99Error:
    """Make one, with an argument of the right type for every parameter without a default."""
    if cls.__init__ is Exception.__init__:
        return cls("text")
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    values = [
        ARGUMENTS[parameter.annotation][0]
        for parameter in parameters
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        and parameter.default is inspect.Parameter.empty
    ]
    return cls(*values)


ALL = sorted(_classes().items())
LEAVES = [(name, cls) for name, cls in ALL if not cls.__subclasses__()]
WIRE = sorted(errors._BY_CODE.items())


def test_drawing_is_the_tree() -> None:
    """The docstring draws every class of the module under its base, and no other."""
    expected = {
        name: cls.__bases__[0].__name__ if cls is not Agent99Error else "" for name, cls in ALL
    }
    assert expected == _drawing()


def test_every_error_has_one_base() -> None:
    """The tree is a tree: an error that is two things at once would be caught by chance."""
    assert [] == [name for name, cls in ALL if len(cls.__bases__) != 1]


def test_codes_are_unique() -> None:
    """A code stands for one class; only `RemoteError` has none of its own."""
    owners: dict[str, list[str]] = {}
    for name, cls in ALL:
        if cls is not RemoteError:
            owners.setdefault(cls.code, []).append(name)
    assert {} == {code: names for code, names in owners.items() if len(names) > 1}


@pytest.mark.parametrize(("name", "cls"), LEAVES)
def test_leaf_has_a_code_of_its_own(name: str, cls: type[Agent99Error]) -> None:
    """What is raised has its own code, in capitals, and it does not change by itself."""
    assert re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*", cls.code), name
    assert "code" in vars(cls) or cls is RemoteError, f"{name} has only its base's code"


def test_codes_do_not_change() -> None:
    """A code is a promise to programmes elsewhere: these were promised."""
    promised = {
        "NO_AGENT": "NoAgentError",
        "DEADLINE_EXCEEDED": "DeadlineExceededError",
        "CANCELLED": "RequestCancelledError",
        "OVERLOADED": "OverloadedError",
        "PAUSED": "PausedError",
        "BAD_REQUEST": "BadRequestError",
        "UNKNOWN_OPERATION": "UnknownOperationError",
        "HANDLER_ERROR": "HandlerError",
        "BAD_ANSWER": "BadAnswerError",
    }
    assert promised.items() <= {code: cls.__name__ for code, cls in WIRE}.items()


@pytest.mark.parametrize(("name", "cls"), ALL)
def test_error_says_what_happened(name: str, cls: type[Agent99Error]) -> None:
    """Every class has a docstring, a sentence for a message, and a repr that names it."""
    error = _example(cls)
    assert cls.__doc__, name
    assert str(error), name
    assert repr(error).startswith(f"{name}(")
    assert isinstance(error.retryable, bool)


@pytest.mark.parametrize(("name", "cls"), ALL)
def test_arguments_are_attributes(name: str, cls: type[Agent99Error]) -> None:
    """What the message is built from can be read by a programme, under the parameter's name."""
    if cls.__init__ is Exception.__init__:
        return
    error = _example(cls)
    missing = [
        parameter
        for parameter in list(inspect.signature(cls.__init__).parameters)[1:]
        if parameter != "message"  # that is str(error)
        and not hasattr(error, parameter)
    ]
    assert [] == missing, name


@pytest.mark.parametrize(("name", "cls"), ALL)
def test_error_survives_a_copy_and_another_process(name: str, cls: type[Agent99Error]) -> None:
    """An error can be copied and pickled: operations that run in a process send theirs back."""
    error = _example(cls)
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (type(error), str(error), vars(error)) == (type(twin), str(twin), vars(twin)), name


@pytest.mark.parametrize(("code", "cls"), WIRE)
def test_known_code_comes_back_as_its_class(code: str, cls: type[RequestError]) -> None:
    """A code of ours that travelled is the same error again, details and all."""
    error = request_error(code, "it failed", {"path": "$.a"}, True)
    assert (cls, "it failed", {"path": "$.a"}, True, code) == (
        type(error),
        str(error),
        error.details,
        error.retryable,
        error.code,
    )


@given(
    code=st.text(min_size=1).filter(lambda code: code not in errors._BY_CODE),
    message=st.text(),
    details=st.dictionaries(st.text(), st.integers()),
    retryable=st.booleans(),
)
def test_users_code_comes_back_as_it_is(
    code: str, message: str, details: dict[str, int], retryable: bool
) -> None:
    """A code that agent99 does not define comes back as `RemoteError`, unchanged."""
    error = request_error(code, message, details, retryable)
    assert (RemoteError, code, message, details, retryable) == (
        type(error),
        error.code,
        error.message,
        error.details,
        error.retryable,
    )


def test_remote_error_is_caught_as_a_failure() -> None:
    """A caller catches what the operation raised: `except Failure` takes both."""
    with pytest.raises(Failure, match="none left") as caught:
        raise request_error("INVENTORY_ERROR", "none left", {"available": 0}, False)
    assert ("INVENTORY_ERROR", {"available": 0}) == (caught.value.code, caught.value.details)


def test_what_travels_is_every_outcome_that_is_not_the_users() -> None:
    """Every kind of RequestError can travel; those with the user's own code need no table."""
    outcomes = {cls for _, cls in ALL if issubclass(cls, RequestError)}
    assert outcomes - {RequestError, Failure, RemoteError} == {cls for _, cls in WIRE}


def test_details_are_the_errors_own() -> None:
    """Details are copied: what the raiser does to its dictionary later changes nothing."""
    details = {"a": 1}
    error = Failure("no", code="NO", details=details)
    details["a"] = 2
    assert {"a": 1} == error.details


def test_bad_request_names_path_and_rule() -> None:
    """A refused message says where and which rule, and falls back to the whole and the message."""
    error = errors.BadRequestError("bad", details={"path": "$.items[0]", "rule": "at least 1"})
    assert ("$.items[0]", "at least 1") == (error.path, error.rule)
    bare = errors.BadRequestError("bad")
    assert ("$", "bad") == (bare.path, bare.rule)


def test_long_value_is_cut_in_the_message() -> None:
    """A refused name of megabytes does not become a message of megabytes."""
    error = errors.InvalidNameError("topic", "x" * 1_000_000, "too long")
    assert len(str(error)) < 200
    assert "1000000 characters" in str(error)


class TextlessError(ValueError):
    """An exception of a user's that has no text."""

    def __str__(self) -> str:
        """Raise."""
        return self.args[5]


@pytest.mark.parametrize(
    ("thing", "text"),
    [
        ("plain", "plain"),
        (ValueError("x"), "x"),
        (None, "None"),
        (TextlessError(), "a TextlessError that has no text"),
    ],
)
def test_message_and_code_are_texts_whatever_is_given(thing: Any, text: str) -> None:
    """An error in an error does not hide the first one."""
    error = Failure(thing, code=thing)
    assert (text, text, text) == (error.message, error.code, str(error))
