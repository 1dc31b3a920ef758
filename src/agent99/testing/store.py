"""The contract of a store, as plain functions: every database must pass every check.

Not imported by `agent99.testing`, since it needs SQLAlchemy: `from agent99.testing.store import
check_store`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from agent99.testing._store_accounts import MakeStore
from agent99.testing._store_inbox import check_first_time, check_first_time_of_a_failure
from agent99.testing._store_life import (
    check_bound,
    check_cancelled_caller,
    check_close,
    check_migrations,
    check_stores_that_open_together,
)
from agent99.testing._store_once import (
    check_answers_must_be_json,
    check_caught_constraint_can_be_a_failure,
    check_failures_are_answers,
    check_once,
)
from agent99.testing._store_outbox import (
    check_a_failing_one_takes_no_events_with_it,
    check_appends_are_checked,
    check_events_leave_with_the_effect,
    check_once_appends_once,
    check_outbox_bound,
)
from agent99.testing._store_positions import (
    check_owners_that_race,
    check_positions,
    check_stale_owners,
)
from agent99.testing._store_relay import (
    check_a_batch_is_bounded,
    check_a_silent_owner_is_followed,
    check_commits_ring,
    check_old_rows_are_forgotten,
    check_one_owner,
    check_rows_are_given_back,
    check_rows_wait_until_they_are_marked,
)
from agent99.testing._store_transactions import (
    check_constraints_are_typed,
    check_failing_one_fails_alone,
    check_lock,
    check_misuse_is_refused,
    check_money_is_conserved,
    check_rows,
    check_transaction_is_whole,
    check_tuples,
)

__all__ = ["STORE_CHECKS", "MakeStore", "check_store"]

STORE_CHECKS: Final[tuple[Callable[[MakeStore], Awaitable[None]], ...]] = (
    check_transaction_is_whole,
    check_failing_one_fails_alone,
    check_constraints_are_typed,
    check_misuse_is_refused,
    check_rows,
    check_tuples,
    check_lock,
    check_money_is_conserved,
    check_once,
    check_failures_are_answers,
    check_caught_constraint_can_be_a_failure,
    check_answers_must_be_json,
    check_events_leave_with_the_effect,
    check_a_failing_one_takes_no_events_with_it,
    check_once_appends_once,
    check_appends_are_checked,
    check_outbox_bound,
    check_rows_wait_until_they_are_marked,
    check_a_batch_is_bounded,
    check_rows_are_given_back,
    check_old_rows_are_forgotten,
    check_one_owner,
    check_a_silent_owner_is_followed,
    check_commits_ring,
    check_first_time,
    check_first_time_of_a_failure,
    check_positions,
    check_stale_owners,
    check_owners_that_race,
    check_migrations,
    check_stores_that_open_together,
    check_bound,
    check_cancelled_caller,
    check_close,
)
"""Every promise, each a function that takes a `MakeStore`."""


async def check_store(make: MakeStore) -> None:
    """Run every check of `STORE_CHECKS` in turn, on one database that is empty at first.

    Raises:
        AssertionError: a promise is not kept.
    """
    for check in STORE_CHECKS:
        await check(make)
