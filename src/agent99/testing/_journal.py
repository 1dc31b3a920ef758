"""The contract that every journal is held to: the memory one, JetStream's, and yours."""

from __future__ import annotations

from agent99.testing import _journal_buckets as buckets
from agent99.testing import _journal_streams as streams
from agent99.testing._journal_world import Check, MakeJournal

JOURNAL_CHECKS: tuple[Check, ...] = (
    streams.check_append_numbers,
    streams.check_append_nowhere,
    streams.check_message_id,
    streams.check_duplicate_window,
    streams.check_compare_and_set,
    streams.check_repeated_compare_and_set,
    streams.check_race,
    streams.check_full,
    streams.check_ensure_stream,
    streams.check_delete_stream,
    streams.check_last,
    streams.check_read,
    streams.check_read_ends,
    streams.check_read_many,
    streams.check_age,
    streams.check_stream_names,
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
