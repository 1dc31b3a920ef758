"""What may become a subject, a stream, a bucket or a key; anything else is refused here. Pure."""

from __future__ import annotations

import re

from agent99.errors import InvalidNameError, UsageError
from agent99.journal._port import BucketConfig, StreamConfig

SUBJECT_BYTES_MAX = 1024
"""The server's control line is 4,096 bytes; the API's own prefix and the inbox need room too."""
KEY_CHARACTERS_MAX = 256
MESSAGE_ID_CHARACTERS_MAX = 256
NAME_CHARACTERS_MAX = 64

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SUBJECT = re.compile(r"[!-)+-\-/-=?-~]+(?:\.[!-)+-\-/-=?-~]+)*")
_PATTERN = re.compile(r"(?:(?:\*|[!-)+-\-/-=?-~]+)\.)*(?:\*|>|[!-)+-\-/-=?-~]+)")
_KEY = re.compile(r"[A-Za-z0-9_=/-]+(?:\.[A-Za-z0-9_=/-]+)*")
_KEY_PATTERN = re.compile(r"(?:(?:\*|[A-Za-z0-9_=/-]+)\.)*(?:\*|>|[A-Za-z0-9_=/-]+)")
_MESSAGE_ID = re.compile(r"[!-~]{1,256}")

_NAME_RULE = f"1 to {NAME_CHARACTERS_MAX} letters, digits, - or _"
_SUBJECT_RULE = (
    f"tokens of printable ASCII between dots, at most {SUBJECT_BYTES_MAX} bytes,"
    " no * or >, and no $ in front"
)
_PATTERN_RULE = "tokens between dots, * for one of them, > for the rest"
_KEY_RULE = (
    f"letters, digits, -, _, = and / in tokens between dots, up to {KEY_CHARACTERS_MAX} characters"
)
_MESSAGE_ID_RULE = f"1 to {MESSAGE_ID_CHARACTERS_MAX} characters of printable ASCII, no spaces"


def check_name(kind: str, name: str) -> None:
    """Raise `InvalidNameError` unless `name` may name a stream or bucket."""
    if _NAME.fullmatch(name) is None:
        raise InvalidNameError(kind, name, _NAME_RULE)


def check_subject(subject: str) -> None:
    """Raise `InvalidNameError` unless a message may be stored under `subject`.

    A `$` in front is refused: those subjects are the server's own orders, and a message to one of
    them would be obeyed, not stored.
    """
    if _SUBJECT.fullmatch(subject) is None or len(subject) > SUBJECT_BYTES_MAX or subject[0] == "$":
        raise InvalidNameError("subject", subject, _SUBJECT_RULE)


def check_pattern(pattern: str) -> None:
    """Raise `InvalidNameError` unless `pattern` is a subject, wildcards allowed."""
    if _PATTERN.fullmatch(pattern) is None or len(pattern) > SUBJECT_BYTES_MAX:
        raise InvalidNameError("subject pattern", pattern, _PATTERN_RULE)


def check_key(key: str) -> None:
    """Raise `InvalidNameError` unless `key` may stand in a bucket."""
    if _KEY.fullmatch(key) is None or len(key) > KEY_CHARACTERS_MAX:
        raise InvalidNameError("key", key, _KEY_RULE)


def check_key_pattern(pattern: str) -> None:
    """Raise `InvalidNameError` unless `pattern` is a key, wildcards allowed."""
    if _KEY_PATTERN.fullmatch(pattern) is None or len(pattern) > KEY_CHARACTERS_MAX:
        raise InvalidNameError("key pattern", pattern, f"{_KEY_RULE}; {_PATTERN_RULE}")


def check_message_id(message_id: str) -> None:
    """Raise `InvalidNameError` unless `message_id` may travel in a header."""
    if _MESSAGE_ID.fullmatch(message_id) is None:
        raise InvalidNameError("message id", message_id, _MESSAGE_ID_RULE)


def check_sequence(name: str, value: int, value_min: int) -> None:
    """Raise `UsageError` unless `value` may be a sequence."""
    if value < value_min:
        raise UsageError(f"{name} is {value}; it must be {value_min} or more")


def whole_seconds(name: str, seconds: float) -> int:
    """Return a time to live as the server takes it: whole seconds, at least one.

    Raises:
        UsageError: it is a fraction, or less than 1.
    """
    if not (seconds >= 1 and seconds % 1 == 0):  # said so, it is true of NaN and infinity too
        raise UsageError(f"{name} is {seconds}; it must be whole seconds, at least 1")
    return int(seconds)


def check_stream_config(config: StreamConfig) -> None:
    """Raise `UsageError` (`InvalidNameError` for a name) unless the server could take `config`."""
    check_name("stream", config.name)
    if not config.subjects:
        raise UsageError(f"stream {config.name!r} has no subjects")
    for subject in config.subjects:
        check_pattern(subject)
    _check_bound("messages_max", config.messages_max)
    _check_bound("bytes_max", config.bytes_max)
    _check_replicas(config.replicas)
    if not (config.age_s_max == 0 or config.age_s_max >= AGE_S_MIN):
        raise UsageError(f"age_s_max is {config.age_s_max}; it must be 0 or at least {AGE_S_MIN}")
    if not config.duplicate_window_s >= AGE_S_MIN:
        raise UsageError(
            f"duplicate_window_s is {config.duplicate_window_s}; it must be at least {AGE_S_MIN}"
        )


def check_bucket_config(config: BucketConfig) -> None:
    """Raise `UsageError` (`InvalidNameError` for a name) unless the server could take `config`."""
    check_name("bucket", config.name)
    _check_bound("bytes_max", config.bytes_max)
    _check_replicas(config.replicas)
    if config.ttl_s != 0:
        whole_seconds("ttl_s", config.ttl_s)


AGE_S_MIN = 0.1
"""The server's own least age and duplicate window, in seconds."""


def matches(pattern: str, subject: str) -> bool:
    """Tell whether `subject` falls under `pattern` (`*`: one token, a final `>`: one or more)."""
    if pattern == ">":
        return True
    wanted = pattern.split(".")
    tokens = subject.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(tokens) <= len(wanted):
            return False
    elif len(tokens) != len(wanted):
        return False
    return all(want in ("*", token) for want, token in zip(wanted, tokens, strict=False))


def overlap(one: str, two: str) -> bool:
    """Tell whether some subject falls under both patterns."""
    left, right = one.split("."), two.split(".")
    for mine, other in zip(left, right, strict=False):
        if ">" in (mine, other):
            return True
        if "*" not in (mine, other) and mine != other:
            return False
    return len(left) == len(right)


def _check_bound(name: str, value: int) -> None:
    if value != -1 and value < 1:
        raise UsageError(f"{name} is {value}; it must be -1 (no bound) or at least 1")


def _check_replicas(replicas: int) -> None:
    if not 1 <= replicas <= 5:
        raise UsageError(f"replicas is {replicas}; it must be 1 to 5")
