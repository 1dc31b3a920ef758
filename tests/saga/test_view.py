"""What an operator sees of one saga, by what its journal says. Pure."""

from __future__ import annotations

import msgspec
import pytest

from agent99.saga import History, SagaView, StepView
from agent99.saga._records import (
    Cancel,
    Doubt,
    Error,
    Failed,
    Failing,
    Finished,
    Noted,
    Record,
    Result,
    Retry,
    StepId,
    Taken,
    Timer,
    UndoFailed,
    Undone,
)
from tests.saga._journals import OWNER, SOLD_OUT, done, intent, result, started, stuck

FLIGHT, ROOM = StepId("flight"), StepId("room")
NOW_US = 1_000
LATE = Error("DEADLINE_EXCEEDED", "no answer")
BUSY = Error("BUSY", "busy", retryable=True)
FAILING = Failing(error=SOLD_OUT, at_us=5)
BOOKED = (intent("flight"), result("flight"))


def seen(*records: Record, first: bool = True) -> SagaView:
    """Return the view of a saga with these records after its first."""
    history = History()
    whole = (started(), *records) if first else records
    for sequence, record in enumerate(whole, 1):
        history.apply(record, sequence)
    return SagaView("trips", "an id", history, whole)


def wait(until_us: int) -> Timer:
    """Return a wait."""
    return Timer(step=StepId("sleep"), until_us=until_us, at_us=4)


def doubt(step: StepId) -> Doubt:
    """Return that nobody knows what became of a step."""
    return Doubt(step=step, error=LATE, at_us=3)


def failed(step: StepId, error: Error = SOLD_OUT, effect: str = "none") -> Failed:
    """Return that a step is given up."""
    return Failed(step=step, error=error, effect=effect, at_us=4)  # type: ignore[arg-type]  # the test's words


def undo_failed(step: StepId) -> UndoFailed:
    """Return that a step's undo failed, so far four times."""
    return UndoFailed(step=step, error=LATE, attempts=4, at_us=6)


@pytest.mark.parametrize(
    ("records", "standing", "at", "error"),
    [
        ((), "running", (), None),
        ((intent("flight"),), "running", ("flight",), None),
        ((intent("a"), intent("b")), "running", ("a", "b"), None),
        ((intent("flight"), doubt(FLIGHT)), "running", ("flight",), LATE),
        ((*BOOKED, wait(NOW_US + 1)), "waiting", ("sleep",), None),
        ((*BOOKED, wait(NOW_US)), "running", (), None),
        ((wait(NOW_US + 1), intent("flight")), "running", ("flight",), None),
        ((*BOOKED, intent("room"), FAILING), "undoing", ("room",), SOLD_OUT),
        ((*BOOKED, FAILING, undo_failed(FLIGHT)), "undoing", ("flight",), LATE),
        ((intent("room"), stuck("room")), "stuck", ("room",), SOLD_OUT),
        ((*BOOKED, stuck()), "stuck", (), SOLD_OUT),
        ((intent("room"), stuck(), Retry(at_us=9)), "running", ("room",), None),
        ((*BOOKED, done()), "done", (), None),
        ((FAILING, Finished(outcome="failed", error=LATE, at_us=7)), "failed", (), LATE),
    ],
)
def test_where_it_stands(
    records: tuple[Record, ...], standing: str, at: tuple[str, ...], error: Error | None
) -> None:
    """Its state, the steps that it is at, and the last error that explains it."""
    view = seen(*records)
    assert (standing, at, error) == (view.standing(NOW_US), view.at(NOW_US), view.error)


@pytest.mark.parametrize(
    ("records", "state", "error"),
    [
        ((), "running", None),
        ((doubt(FLIGHT),), "in doubt", LATE),
        ((doubt(FLIGHT), result("flight")), "done", None),
        ((failed(FLIGHT),), "refused", SOLD_OUT),
        ((failed(FLIGHT, BUSY),), "given up", BUSY),
        ((failed(FLIGHT, LATE, "unknown"),), "given up", LATE),
        ((stuck("flight"),), "stuck", SOLD_OUT),
        ((stuck(),), "in doubt", None),
        ((FAILING,), "in doubt", None),
        ((result("flight"), FAILING), "done", None),
        ((result("flight"), FAILING, undo_failed(FLIGHT)), "undo fails", LATE),
        ((FAILING, undo_failed(FLIGHT), Undone(step=FLIGHT, at_us=8)), "undone", None),
    ],
)
def test_state_of_a_step(records: tuple[Record, ...], state: str, error: Error | None) -> None:
    """From its intent to its undo; each with the error that explains it."""
    (step,) = seen(intent("flight"), *records).steps(NOW_US)
    assert (state, error) == (step.state, step.error)


def test_all_of_a_step() -> None:
    """Times, result and undo."""
    records = (*BOOKED, FAILING, undo_failed(FLIGHT), Undone(step=FLIGHT, at_us=8))
    (step,) = seen(*records).steps(NOW_US)
    assert step.result is not None
    assert b'{"n":1}' == bytes(step.result)
    assert ("step", 2, 3, 8, 4, True) == (
        *(step.kind, step.begun_us, step.ended_us),
        *(step.undone_us, step.undo_attempts, step.has_undo),
    )


def test_steps_stand_in_the_order_of_their_calls() -> None:
    """Waits and times stand among them; the second of a name is told from the first."""
    again = msgspec.structs.replace(intent("flight"), step=StepId("flight", 1))
    payment = intent("payment", is_pivot=True)
    records = (*BOOKED, Noted(step=StepId("now"), at_us=4), wait(NOW_US), again, payment)
    assert [
        ("flight", "step", "done"),
        ("now", "time", "noted"),
        ("sleep", "wait", "over"),
        ("flight#2", "step", "running"),
        ("payment", "pivot", "running"),
    ] == [(each.name, each.kind, each.state) for each in seen(*records).steps(NOW_US)]


def test_a_wait_that_is_not_waited_for() -> None:
    """A saga that is undone does not wait any more."""
    (waiting,) = seen(wait(NOW_US + 1)).steps(NOW_US)
    (left,) = seen(wait(NOW_US + 1), FAILING).steps(NOW_US)
    assert ("waiting", "broken off", NOW_US + 1) == (waiting.state, left.state, left.until_us)


def test_what_befell_it() -> None:
    """Whose it is and was, what was asked for, why it is stuck or undone, and how it ended."""
    records = (
        Taken(owner="another", at_us=2),
        intent("room"),
        stuck("room", at_us=3),
        Retry(at_us=4),
        Cancel(at_us=5),
        FAILING,
        Finished(outcome="cancelled", error=LATE, at_us=6),
    )
    events = seen(*records).events()
    assert [
        "begun",
        "taken over",
        "stuck",
        "retry asked",
        "cancel asked",
        "undoing",
        "cancelled",
    ] == [event.what for event in events]
    assert [1, 2, 3, 4, 5, 5, 6] == [event.at_us for event in events]
    assert [OWNER, "another"] == [event.owner for event in events[:2]]
    assert ("room", SOLD_OUT, LATE) == (events[2].step, events[2].error, events[-1].error)


def test_answer() -> None:
    """What it returned stands alone, value or object; only of one that is done."""
    whole = Finished(outcome="done", answer=msgspec.Raw(b'{"n":1}'), at_us=9)
    answers = [seen(end).answer for end in (done(), whole)]
    assert [b"7", b'{"n":1}'] == [bytes(answer) for answer in answers if answer is not None]
    assert seen().answer is None
    assert seen(FAILING, Finished(outcome="failed", error=LATE, at_us=7)).answer is None


def test_result_that_is_a_value() -> None:
    """It is shown as it was returned."""
    value = Result(step=ROOM, value=msgspec.Raw(b'{"result":[1]}'), is_value=True, at_us=3)
    steps: list[StepView] = seen(intent("room"), value).steps(NOW_US)
    assert steps[0].result is not None
    assert b"[1]" == bytes(steps[0].result)


def test_a_journal_whose_beginning_is_deleted() -> None:
    """What is left of it is shown."""
    view = seen(Undone(step=FLIGHT, at_us=3), done(), first=False)
    assert ("done", []) == (view.standing(NOW_US), view.steps(NOW_US))
    assert ["done"] == [event.what for event in view.events()]
