"""What of a partition is done: against a naive model, over owners that follow one another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent99.groups._ledger import Ledger
from agent99.groups._place import Place, Progress, decode, encode

SEQUENCES = [3, 4, 7, 8, 11, 12, 20]
_acts = st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=40)


@given(st.lists(_acts, min_size=1, max_size=4))
def test_nothing_is_lost_and_nothing_done_twice(owners: list[list[tuple[int, bool]]]) -> None:
    """Each owner admits what is not done yet, in order, and nothing else; so does the next one."""
    done: set[int] = set()
    progress = Progress()
    for acts in owners:
        ledger = Ledger(progress)
        coming = [sequence for sequence in SEQUENCES if sequence > progress.position]
        in_hand: list[int] = []
        for pick, is_end in acts:
            if is_end and in_hand:
                sequence = in_hand.pop(pick % len(in_hand))
                ledger.finish(sequence)
                done.add(sequence)
            elif coming:
                sequence = coming.pop(0)
                assert ledger.admit(sequence) == (sequence not in done)
                if sequence not in done:
                    in_hand.append(sequence)
            check(ledger, done)
        written = decode(encode(Place(progress=ledger.progress())), Place)
        assert written is not None
        progress = written.progress
    assert len(done) == progress.events


def check(ledger: Ledger, done: set[int]) -> None:
    """Check that what a ledger writes says of each event whether it is done."""
    progress = ledger.progress()
    for sequence in SEQUENCES:
        beyond = progress.position < sequence <= progress.reached and sequence not in progress.open
        assert (sequence in done) == (sequence <= progress.position or beyond)
    assert list(progress.open) == sorted(progress.open)


def test_what_is_gone_is_not_waited_for() -> None:
    """What was open and has gone from the stream since holds up nothing."""
    ledger = Ledger(Progress(position=2, reached=9, open=(3, 7), tries={3: 2, 7: 1}))
    assert (2, 1) == (ledger.tries(3), ledger.tries(7))
    assert ledger.admit(7)
    assert Progress(position=6, reached=9, open=(7,), tries={7: 1}) == ledger.progress()
    ledger.fail(7)
    assert 2 == ledger.tries(7)
    ledger.finish(7, is_buried=True)
    assert Progress(position=9, reached=0, events=1, failures=1, buried=1) == ledger.progress()


def test_what_is_left_out_is_not_waited_for() -> None:
    """What is left out is done: the position is beyond it, and it is not counted."""
    ledger = Ledger(Progress(position=1, reached=4, open=(2, 4)))
    assert ledger.admit(2)
    ledger.skip(3)
    assert ledger.admit(4)
    ledger.skip(5)
    ledger.finish(2)
    assert Progress(position=3, reached=5, open=(4,), events=1) == ledger.progress()
    ledger.finish(4)
    assert Progress(position=5, events=2) == ledger.progress()
