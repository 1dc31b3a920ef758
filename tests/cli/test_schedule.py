"""Scheduled events from the command line: at, every, cron, list, cancel, run."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from agent99.cli._exits import RefusalError
from agent99.cli._schedule import rule_text
from agent99.cli._schedule_make import parse_when
from agent99.schedules import At, Cron, Every
from tests.cli._cli import Cli, Done, Started

Ask = Callable[..., Done]
FOLLOWER = """
from agent99 import Agent, follow


class Kitchen(Agent):
    uses = ("tea",)

    @follow("tea.*")
    async def serve(self, cup: int = 0) -> None:
        print(f"served cup {cup}, {self.context.header['schedule']}", flush=True)
"""


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Give a project whose mesh has an agent that follows events."""
    cli = Cli(tmp_path_factory.mktemp("schedules") / "project")
    cli.write("kitchen.py", FOLLOWER)
    yield cli
    cli.close()


@pytest.fixture(scope="module", autouse=True)
def kitchen(crew: Cli) -> Started:
    """Give the agent's process."""
    started = crew.start("run", "kitchen.py")
    started.wait_line("^ready: ")
    return started


def listed(ask: Ask) -> dict[str, dict[str, Any]]:
    """Return the schedules, by id."""
    document = ask("schedule", "list", "--json").document
    assert len(document["schedules"]) == document["count"]
    return {one["id"]: one for one in document["schedules"]}


def test_at_is_fired_by_run(crew: Cli, ask: Ask, kitchen: Started) -> None:
    """What was made is fired while `schedule run` runs, and followers get it like any event."""
    made = ask("schedule", "at", "+0.5s", "tea.ready", "cup=7", "--id", "tea")
    assert (0, "tea\n") == made[:2]
    running = crew.start("schedule", "run")
    running.wait_line("^ready: fires what is due on mesh 'main' at nats://")
    kitchen.wait_line("served cup 7, tea")
    running.signal(signal.SIGINT)
    assert 0 == running.wait()
    assert "fired 1 event" == running.lines[-2]
    over = listed(ask)["tea"]
    assert (1, True) == (over["fired"], "next_us" not in over)
    text = ask("schedule", "list").out
    assert "over" in text
    assert text.splitlines()[-1].startswith("1 schedule on mesh 'main' at nats://")
    assert 0 == ask("schedule", "cancel", "tea").code


def test_every_and_cron(ask: Ask) -> None:
    """Each says what it is, and twice the same with a name is one."""
    every = ("schedule", "every", "90s", "rest.due", "n=1", "--id", "rest", "--missed", "skip")
    cron = ("schedule", "cron", "0 9 * * MON-FRI", "shop.opens", "--zone", "Europe/Berlin")
    assert [0, 0] == [ask(*every).code, ask(*every, "--json").code]
    named = ask(*cron, "--key", "k", "--json").document["id"]
    found = listed(ask)
    assert {"rest", named} == found.keys()
    assert ("skip", {"n": 1}) == (found["rest"]["missed"], found["rest"]["event"])
    rule = {"type": "cron", "expression": "0 9 * * MON-FRI", "zone": "Europe/Berlin"}
    assert (rule, "k") == (found[named]["rule"], found[named]["key"])
    text = ask("schedule", "list").out
    assert "every 90s" in text
    assert "cron 0 9 * * MON-FRI Europe/Berlin" in text
    other = ask("schedule", "every", "91s", "rest.due", "--id", "rest")
    assert 2 == other.code
    assert "is there already" in other.err
    gone = ask("schedule", "cancel", "rest", named, "--json")
    assert (0, {"cancelled": ["rest", named]}) == (gone.code, gone.document)
    assert ask("schedule", "list").out.startswith("no schedules on mesh 'main'")


def test_every_from_a_start(ask: Ask) -> None:
    """A start says when the first one is."""
    ask("schedule", "every", "1d", "report.due", "--start", "2031-12-01T06:00", "--id", "daily")
    start = datetime(2031, 12, 1, 6, tzinfo=UTC)
    assert start.timestamp() * 1e6 == listed(ask)["daily"]["next_us"]
    assert 0 == ask("schedule", "cancel", "daily").code


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("at", "tomorrow", "tea.ready"), 2, "'tomorrow' is no moment such as"),
        (("at", "+5", "tea.ready"), 2, "is no time such as"),
        (("at", "+5m", "no topic"), 2, "is no topic"),
        (("every", "0.5s", "tea.ready"), 2, "1 s to ten years"),
        (("cron", "61 * * * *", "tea.ready"), 2, "Bad minute"),
        (("cron", "* * * * *", "tea.ready", "--zone", "Mars"), 2, "no time zone"),
        (("cron", "* * * * *", "tea.ready", "--missed", "all"), 2, "missed"),
        (("cancel", "nobody"), 3, "no schedule nobody on mesh 'main'"),
        (("cancel", "no.name"), 2, "is no schedule"),
    ],
)
def test_what_is_refused(ask: Ask, words: tuple[str, ...], code: int, says: str) -> None:
    """What makes no sense, or is not there, is one sentence and an exit code."""
    done = ask("schedule", *words)
    assert code == done.code
    assert says in done.err


def test_moments() -> None:
    """A moment is ISO 8601, in UTC where it names no zone; a plus is from now."""
    assert datetime(2026, 12, 24, 17, tzinfo=UTC) == parse_when("2026-12-24T18:00+01:00")
    assert datetime(2026, 12, 24, 18, tzinfo=UTC) == parse_when("2026-12-24 18:00")
    assert 290 < (parse_when("+5m") - datetime.now(UTC)).total_seconds() <= 300
    with pytest.raises(RefusalError):
        parse_when("soon")


def test_rules_for_people() -> None:
    """A rule reads as its command does."""
    assert "at 1970-01-01 00:00:01Z" == rule_text(At(1_000_000))
    periods = (1_500_000, 90_000_000, 300_000_000, 7_200_000_000, 172_800_000_000)
    texts = ["every 1.5s", "every 90s", "every 5m", "every 2h", "every 2d"]
    assert texts == [rule_text(Every(period_us, 0)) for period_us in periods]
    assert "cron 0 9 * * * UTC" == rule_text(Cron("0 9 * * *", "UTC"))
