"""What may become a subject, a stream, a bucket or a key; anything else is refused here. Pure."""

from __future__ import annotations

import math
import re

from agent99.errors import InvalidNameError, UsageError
from agent99.journal._port_buckets import BucketConfig
from agent99.journal._port_consumers import ConsumerConfig
from agent99.journal._port_streams import StreamConfig

SUBJECT_BYTES_MAX = 1024
"""The server's control line is 4,096 bytes; the API's own prefix and the inbox need room too."""
KEY_CHARACTERS_MAX = 256
MESSAGE_ID_CHARACTERS_MAX = 256
NAME_CHARACTERS_MAX = 200
PREFETCH_MAX = 10_000
TIME_US_MAX = 253_402_300_799_999_999
"""The end of the year 9999."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,200}")
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


def check_time(name: str, value_us: int) -> None:
    """Raise `UsageError` unless `value_us` may be a time, in microseconds since the epoch."""
    if not 0 <= value_us <= TIME_US_MAX:
        raise UsageError(f"{name} is {value_us}; it must be microseconds since 1970, in this era")


def check_start(from_sequence: int, from_us: int | None) -> None:
    """Raise `UsageError` unless reading may begin there."""
    check_sequence("from_sequence", from_sequence, 1)
    if from_us is not None:
        check_time("from_us", from_us)
        if from_sequence != 1:
            raise UsageError("read from a sequence or from a time, not both")


def check_append(
    subject: str, message_id: str, expected_sequence: int | None, expected_pattern: str
) -> None:
    """Raise `UsageError` (`InvalidNameError` for a name) unless the server could take an append."""
    check_subject(subject)
    if message_id:
        check_message_id(message_id)
    if expected_sequence is not None:
        check_sequence("expected_sequence", expected_sequence, 0)
    if expected_pattern:
        check_pattern(expected_pattern)
        if expected_sequence is None:
            raise UsageError("expected_pattern says whose sequence is expected: say which one")
        if not matches(expected_pattern, subject):
            raise UsageError(f"{subject!r} does not match expected_pattern {expected_pattern!r}")


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
    _check_bound("message_bytes_max", config.message_bytes_max)
    _check_replicas(config.replicas)
    if config.retention not in ("limits", "work"):
        raise UsageError(f"retention is {config.retention!r}; it must be 'limits' or 'work'")
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


def check_consumer_config(config: ConsumerConfig, prefetch_max: int) -> None:
    """Raise `UsageError` (`InvalidNameError` for a name) unless the server could take `config`."""
    check_name("stream", config.stream)
    check_name("consumer", config.name)
    _check_subjects(f"consumer {config.name!r}", config.subjects)
    _check_begin(config)
    _check_bound("deliveries_max", config.deliveries_max)
    _check_bound("in_flight_max", config.in_flight_max)
    if not AGE_S_MIN <= config.ack_wait_s < math.inf:
        raise UsageError(f"ack_wait_s is {config.ack_wait_s}; it must be at least {AGE_S_MIN}")
    if not (config.inactive_s == 0 or AGE_S_MIN <= config.inactive_s < math.inf):
        raise UsageError(f"inactive_s is {config.inactive_s}; it must be 0 or at least {AGE_S_MIN}")
    _check_prefetch(prefetch_max)


def check_part(stream: str, subjects: tuple[str, ...], from_sequence: int) -> None:
    """Raise `UsageError` (`InvalidNameError` for a name) unless they say what part of a stream."""
    check_name("stream", stream)
    _check_subjects(f"a part of stream {stream!r}", subjects)
    check_sequence("from_sequence", from_sequence, 1)


def check_tail(
    stream: str, subjects: tuple[str, ...], from_sequence: int, prefetch_max: int
) -> None:
    """Raise `UsageError` (`InvalidNameError` for a name) unless a stream could be read so."""
    check_part(stream, subjects, from_sequence)
    _check_prefetch(prefetch_max)


def begins_at_first(config: ConsumerConfig) -> bool:
    """Tell whether a consumer starts with the first message that the stream holds."""
    return config.start == "first" and config.from_sequence is None and config.from_us is None


def _check_begin(config: ConsumerConfig) -> None:
    if config.start not in ("first", "new"):
        raise UsageError(f"start is {config.start!r}; it must be 'first' or 'new'")
    if config.from_sequence is not None:
        check_sequence("from_sequence", config.from_sequence, 1)
    if config.from_us is not None:
        check_time("from_us", config.from_us)
    places = (config.start == "new", config.from_sequence is not None, config.from_us is not None)
    if sum(places) > 1:
        raise UsageError(f"consumer {config.name!r} is to start at more than one place")


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


def _check_subjects(whose: str, subjects: tuple[str, ...]) -> None:
    for subject in subjects:
        check_pattern(subject)
    pairs = ((one, two) for number, one in enumerate(subjects) for two in subjects[:number])
    if any(overlap(one, two) for one, two in pairs):
        raise UsageError(f"the subjects of {whose} overlap: {subjects}")


def _check_prefetch(prefetch_max: int) -> None:
    if not 1 <= prefetch_max <= PREFETCH_MAX:
        raise UsageError(f"prefetch_max is {prefetch_max}; it must be 1 to {PREFETCH_MAX:,}")


def _check_bound(name: str, value: int) -> None:
    if value != -1 and value < 1:
        raise UsageError(f"{name} is {value}; it must be -1 (no bound) or at least 1")


def _check_replicas(replicas: int) -> None:
    if not 1 <= replicas <= 5:
        raise UsageError(f"replicas is {replicas}; it must be 1 to 5")
