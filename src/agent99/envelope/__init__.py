"""Turn meaning into bytes and back: names, subjects, header and body.

Given:       names and values to send, or bytes that arrived.
Gives:       subjects and messages as bytes; typed values; BadRequestError, UsageError.
May import:  errors; msgspec
Never:       awaits, reads a clock, draws a random number, opens a socket.
"""

from agent99.envelope._body import DEPTH_MAX
from agent99.envelope._codec import (
    ENVELOPE_BYTES,
    WIRE_VERSION,
    AnswerCodec,
    BodyCodec,
    Header,
    Kind,
    Outcome,
    answer_prefix,
    decode_header,
    encode_answer,
    encode_body,
    encode_message,
    encode_request,
    peek_header,
    request_prefix,
    split_message,
)
from agent99.envelope._errors import decode_error, encode_error
from agent99.envelope._headers import HEADER_BYTES_MAX, decode_user_headers, encode_user_headers
from agent99.envelope._keys import PARTITIONS, Key, key_text, parse_key, partition_of
from agent99.envelope._names import (
    Name,
    Pattern,
    Topic,
    parse_event_id,
    parse_name,
    parse_pattern,
    parse_topic,
)
from agent99.envelope._subjects import (
    ALL,
    QUEUE,
    LogSubject,
    Subjects,
    WorkSubject,
    is_inbox_of,
    operation_of,
    parse_log,
    parse_work,
    sender_of,
    topic_of,
)

__all__ = [
    "ALL",
    "DEPTH_MAX",
    "ENVELOPE_BYTES",
    "HEADER_BYTES_MAX",
    "PARTITIONS",
    "QUEUE",
    "WIRE_VERSION",
    "AnswerCodec",
    "BodyCodec",
    "Header",
    "Key",
    "Kind",
    "LogSubject",
    "Name",
    "Outcome",
    "Pattern",
    "Subjects",
    "Topic",
    "WorkSubject",
    "answer_prefix",
    "decode_error",
    "decode_header",
    "decode_user_headers",
    "encode_answer",
    "encode_body",
    "encode_error",
    "encode_message",
    "encode_request",
    "encode_user_headers",
    "is_inbox_of",
    "key_text",
    "operation_of",
    "parse_event_id",
    "parse_key",
    "parse_log",
    "parse_name",
    "parse_pattern",
    "parse_topic",
    "parse_work",
    "partition_of",
    "peek_header",
    "request_prefix",
    "sender_of",
    "split_message",
    "topic_of",
]
