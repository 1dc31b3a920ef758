"""The contract that every journal is held to: the memory one, JetStream's, and yours."""

from __future__ import annotations

from agent99.testing import _journal_buckets as buckets
from agent99.testing import _journal_consumers as consumers
from agent99.testing import _journal_places as places
from agent99.testing import _journal_state as state
from agent99.testing import _journal_streams as streams
from agent99.testing import _journal_tails as tails
from agent99.testing._journal_world import Check, MakeJournal

JOURNAL_CHECKS: tuple[Check, ...] = (
    streams.check_append_numbers,
    streams.check_append_nowhere,
    streams.check_message_id,
    streams.check_duplicate_window,
    streams.check_compare_and_set,
    streams.check_last_of_a_pattern,
    streams.check_repeated_compare_and_set,
    streams.check_race,
    streams.check_full,
    streams.check_ensure_stream,
    streams.check_delete_stream,
    streams.check_last,
    streams.check_read,
    streams.check_read_from_time,
    streams.check_read_ends,
    streams.check_read_many,
    streams.check_age,
    state.check_get,
    state.check_get_the_largest,
    state.check_delete,
    state.check_stream_state,
    state.check_message_bound,
    state.check_backlog,
    state.check_backlog_that_goes_away,
    state.check_backlog_names,
    streams.check_compare_a_pattern,
    streams.check_stream_names,
    consumers.check_consume,
    consumers.check_consume_again,
    consumers.check_retry,
    consumers.check_ack_wait,
    consumers.check_unread_lapses,
    consumers.check_terminate,
    consumers.check_prefetch,
    consumers.check_finished_once,
    consumers.check_shared,
    consumers.check_one_reader,
    consumers.check_leaving_ends_reading,
    consumers.check_consume_many,
    places.check_start,
    places.check_filter,
    places.check_work,
    places.check_permanent,
    places.check_work_has_one_consumer,
    places.check_deliveries_max,
    places.check_in_flight_max,
    places.check_consumer_changes,
    places.check_consumer_states,
    places.check_consumer_deleted,
    places.check_new_consumer_deleted,
    places.check_stream_of_consumer_gone,
    places.check_inactive,
    places.check_consumer_names,
    tails.check_tail,
    tails.check_tail_filter,
    tails.check_tail_ahead,
    tails.check_tail_in_batches,
    tails.check_tail_without_deleted,
    tails.check_tails_are_many,
    tails.check_tail_ends,
    buckets.check_put_and_get,
    buckets.check_create,
    buckets.check_update,
    buckets.check_delete,
    buckets.check_race_to_create,
    buckets.check_snapshot,
    buckets.check_follow,
    buckets.check_follow_nothing,
    buckets.check_follow_ends,
    buckets.check_ttl,
    buckets.check_ttl_of_key,
    buckets.check_bucket_full,
    buckets.check_bucket_again,
    buckets.check_bucket_gone,
    buckets.check_sluggish_follower,
    buckets.check_follower_is_a_mirror,
    buckets.check_keys,
)
"""Each takes `make`; run them one by one, so that a failure names its rule."""


async def check_journal(make: MakeJournal) -> None:
    """Run the whole suite, a fresh world for each check.

    Raises:
        AssertionError: a rule is broken; the message names it.
    """
    for check in JOURNAL_CHECKS:
        await check(make)
