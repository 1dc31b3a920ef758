"""Every defect found in the two clients that we did not take, and what keeps us from having it.

The numbers are those of the review of nats-py 2.16; the words are those of natsrpy 0.1.4. All of
them could come to us in some form: each has the tests that would fail.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from agent99.testing import JOURNAL_CHECKS, WIRE_CHECKS

ROOT = Path(__file__).parents[2]

_AGENT, _DISPATCH, _JOURNAL, _WIRE = (
    f"tests/{room}/test_" for room in ("agent", "dispatch", "journal", "wire")
)
_CHECKS = "src/agent99/testing/"  # the contracts: both wires and both journals are held to them


class Lesson(NamedTuple):
    """One defect, and what answers it."""

    defect: str
    """What the other client does."""
    tests: tuple[str, ...] = ()
    """`path::function`: all of these."""


LESSONS: Mapping[int | str, Lesson] = {
    1: Lesson(
        "a PONG that comes late, or after its flush was cancelled, ends the read loop",
        (
            f"{_WIRE}lessons_link.py::test_late_pongs_of_what_was_given_up_harm_nobody",
            f"{_WIRE}link.py::test_late_pong_harms_nobody",
            f"{_WIRE}link.py::test_pong_nobody_waits_for",
        ),
    ),
    2: Lesson(
        "any exception in the read path leaves a connection that is open and deaf",
        (
            f"{_WIRE}lessons_link.py::test_whatever_breaks_the_reader_ends_the_link",
            f"{_WIRE}link.py::test_unreadable_stream",
            f"{_WIRE}link.py::test_reconnecting_that_fails",
            f"{_WIRE}chaos.py::test_nonsense_from_the_server_is_survived",
            f"{_JOURNAL}api.py::test_reply",
        ),
    ),
    3: Lesson(
        "publishing swallows the cancellation of its task while the server is stalled",
        (
            f"{_AGENT}cancellation.py::test_timeouts_and_task_groups_end_what_waits_for_room",
            f"{_AGENT}cancellation.py::test_cancellation_reaches_out_of_every_call",
            f"{_WIRE}chaos.py::test_a_stalled_server_holds_up_nothing_but_answers",
        ),
    ),
    4: Lesson(
        "a request outlives its timeout when the buffer is full",
        (f"{_WIRE}chaos.py::test_a_stalled_server_holds_up_nothing_but_answers",),
    ),
    5: Lesson(
        "headers and payload over the limit, and every complaint that is not known, close it",
        (
            f"{_CHECKS}_wire_messages.py::check_too_large",
            f"{_WIRE}link.py::test_complaint",
            f"{_WIRE}lessons_link.py::test_a_message_over_the_servers_limit_does_not_end_the_wire",
            f"{_WIRE}lessons_link.py::test_too_many_subscriptions_do_not_end_the_wire",
            f"{_WIRE}link.py::test_complaint_in_the_handshake",
            f"{_WIRE}server.py::test_credential_changes",
        ),
    ),
    6: Lesson(
        "a callback that raises CancelledError ends its subscription without a word",
        (
            f"{_CHECKS}_wire_messages.py::check_receiver_raises",
            f"{_AGENT}lessons.py::test_a_handler_that_awaits_what_was_cancelled_ends_alone",
        ),
    ),
    7: Lesson(
        "an error callback that raises ends a subscription, and a slow one stalls the reader",
        (
            f"{_CHECKS}_wire_requests.py::check_listeners_raise",
            f"{_WIRE}link.py::test_errors_nobody_listens_to",
        ),
    ),
    8: Lesson(
        "the callbacks of a subscription run one after the other: a slow one blocks its subject",
        (
            f"{_AGENT}lessons.py::test_a_handler_that_waits_holds_up_nobody",
            f"{_DISPATCH}dispatcher.py::test_beyond_its_bounds_an_instance_says_overloaded_at_once",
        ),
    ),
    9: Lesson(
        "a request that cannot be sent, or is never answered, leaves something behind",
        (
            f"{_WIRE}lessons_link.py::test_requests_that_cannot_be_sent_leave_nothing",
            f"{_WIRE}lessons_link.py::test_unanswered_requests_leave_nothing",
            f"{_WIRE}inbox.py::test_cancelled_are_swept",
            f"{_AGENT}growth.py::test_requests_leave_nothing_behind",
        ),
    ),
    10: Lesson(
        "an asynchronous publish never ends on the server's error, nor when its receipt is lost",
        (
            f"{_JOURNAL}lessons.py::test_receipts_that_are_lost_take_no_place",
            f"{_JOURNAL}faults.py::test_frozen_server",
            f"{_JOURNAL}api.py::test_error_codes",
        ),
    ),
    11: Lesson(
        "a watch of a bucket is blind for 19 s after a restart, and reconnects leave consumers",
        (
            f"{_JOURNAL}faults.py::test_follower_survives_kill",
            f"{_JOURNAL}faults.py::test_many_followers_come_back_without_a_storm",
            f"{_JOURNAL}lessons.py::test_a_bucket_is_a_file",
        ),
    ),
    12: Lesson(
        "a key whose notice of expiry still stands is read as an entry, and cannot be created",
        (
            f"{_CHECKS}_journal_buckets.py::check_ttl",
            f"{_CHECKS}_journal_buckets.py::check_ttl_of_key",
        ),
    ),
    13: Lesson(
        "a consumer or stream that is deleted looks to its reader like no messages",
        (
            f"{_JOURNAL}lessons.py::test_a_stream_that_goes_away_while_it_is_read_is_no_end",
            f"{_JOURNAL}faults.py::test_consumer_deleted",
            f"{_JOURNAL}faults.py::test_bucket_deleted_while_followed",
        ),
    ),
    14: Lesson(
        "reconnecting has no jitter and gives up for ever; the first connect may never return",
        (
            f"{_WIRE}lessons_link.py::test_reconnecting_goes_on_for_ever_and_out_of_step",
            f"{_WIRE}link.py::test_silent_server",
        ),
    ),
    15: Lesson(
        "a wrong certificate hangs for ever in closing the connection",
        (
            f"{_WIRE}lessons_link.py::test_a_tls_handshake_that_never_ends_is_given_up",
            f"{_WIRE}server.py::test_tls",
        ),
    ),
    16: Lesson(
        "headers that come twice collapse, bad bytes are replaced, line ends become spaces",
        (
            f"{_CHECKS}_wire_messages.py::check_bad_headers",
            f"{_WIRE}headers.py::test_round_trip",
            f"{_WIRE}headers.py::test_first_of_two",
            f"{_WIRE}headers.py::test_any_block",
        ),
    ),
    17: Lesson(
        "an answer carries the headers of its request, a status that it may fake among them",
        (
            f"{_AGENT}lessons.py::test_an_answer_has_no_header_of_its_request",
            f"{_CHECKS}_wire_requests.py::check_no_responders_notice",
        ),
    ),
    18: Lesson(
        "who saw two reply subjects can guess the others",
        (
            f"{_WIRE}lessons_link.py::test_no_answer_can_be_forged_from_those_before",
            "tests/test_ids.py::test_every_free_bit_is_drawn",
        ),
    ),
    19: Lesson(
        "wildcards and control characters may be published to",
        (
            f"{_CHECKS}_wire_messages.py::check_bad_subjects",
            f"{_AGENT}requests.py::test_names_that_could_break_a_subject_never_leave",
        ),
    ),
    20: Lesson(
        "a complaint without quotes ends the reader, an unknown operation makes it wait for ever",
        (
            f"{_WIRE}link.py::test_complaint",
            f"{_WIRE}chaos.py::test_nonsense_from_the_server_is_survived",
        ),
    ),
    21: Lesson(
        "a drain ends the inbox first, so that what a handler asks meanwhile times out",
        (
            f"{_WIRE}lessons_link.py::test_a_drain_leaves_the_answers_alone",
            f"{_AGENT}lessons.py::test_a_handler_may_ask_others_while_its_agent_drains",
        ),
    ),
    "header injection": Lesson(
        "a line end in a header aborts the process",
        (f"{_CHECKS}_wire_messages.py::check_bad_headers",),
    ),
    "reply injection": Lesson(
        "a reply subject with a line end sends a message of its own",
        (f"{_CHECKS}_wire_messages.py::check_bad_subjects",),
    ),
    "growth": Lesson(
        "requests that nobody answers make the process grow",
        (f"{_AGENT}growth.py::test_requests_leave_nothing_behind",),
    ),
    "unbounded handlers": Lesson(
        "every message starts a handler, however many run; their errors are only logged",
        (
            f"{_DISPATCH}dispatcher.py::test_beyond_its_bounds_an_instance_says_overloaded_at_once",
            f"{_AGENT}slow_consumers.py::test_events_for_a_slow_listener_are_all_accounted_for",
        ),
    ),
    "a watch that ends": Lesson(
        "after a restart of the server the watch of a bucket ends with an error",
        (f"{_JOURNAL}faults.py::test_follower_survives_kill",),
    ),
    "nothing is told": Lesson(
        "a lost link, a slow consumer and a refusal by the server are told to nobody",
        (
            f"{_WIRE}faults.py::test_subscriptions_come_back",
            f"{_WIRE}server.py::test_denied_publish_and_subscribe",
        ),
    ),
}


def faults(lessons: Mapping[int | str, Lesson]) -> Iterator[str]:
    """Yield what is wrong with the table."""
    for number in range(1, 22):
        if number not in lessons:
            yield f"{number} is missing"
    for key, lesson in lessons.items():
        if not lesson.tests:
            yield f"{key} has no tests"
        for test in lesson.tests:
            path, _, function = test.partition("::")
            if function not in _functions(path):
                yield f"{key}: there is no {test}"


@cache
def _functions(path: str) -> frozenset[str]:
    """Return the tests that a file has; of a contract's file, the checks that are in the suite."""
    file = ROOT / path
    if not file.exists():
        return frozenset()
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = {node.name for node in ast.parse(file.read_text()).body if isinstance(node, kinds)}
    if path.startswith(_CHECKS):
        return frozenset(found & {check.__name__ for check in (*WIRE_CHECKS, *JOURNAL_CHECKS)})
    return frozenset(name for name in found if name.startswith("test_"))


def test_every_defect_has_its_tests() -> None:
    """All 21 of the one client and those of the other, by tests that exist."""
    assert list(faults(LESSONS)) == []


def test_the_table_is_checked() -> None:
    """A number that is missing, an empty row and a test that is not there are found."""
    broken: dict[int | str, Lesson] = dict(LESSONS)
    del broken[7]
    broken[8] = Lesson("nobody knows")
    broken[9] = Lesson("gone", ("tests/wire/test_nothing.py::test_it",))
    broken[10] = Lesson("a helper", ("tests/wire/test_lessons.py::faults",))
    broken[11] = Lesson("no check of the suite", (f"{_CHECKS}_wire_world.py::holds",))
    assert list(faults(broken)) == [
        "7 is missing",
        "8 has no tests",
        "9: there is no tests/wire/test_nothing.py::test_it",
        "10: there is no tests/wire/test_lessons.py::faults",
        "11: there is no src/agent99/testing/_wire_world.py::holds",
    ]
