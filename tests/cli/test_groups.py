"""Groups from the command line: who works on stored events, what waits; and set one back."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent99 import Mesh, Settings
from agent99.cli._groups_view import (
    COLUMNS,
    LEAVING,
    Bounds,
    compare,
    group_rows,
    head_line,
    held_up_lines,
    look_document,
    over_lines,
)
from agent99.cli._show import GAP, fit
from agent99.groups import GroupState
from tests._wait import wait_until
from tests.cli._billing import BILLING
from tests.cli._cli import TIMEOUT_S, Cli, Done
from tests.cli._programmes import CREW
from tests.cli._screen import Screen

Ask = Callable[..., Done]
SHOWN_S_MAX = 5.0
"""So soon it is seen that nobody works for a group any more."""

# --- what it makes of what it finds ---------------------------------------------------------------


def state(name: str, **more: Any) -> GroupState:
    """Return how a group is."""
    about: dict[str, Any] = {
        "topics": ("order.*",),
        "is_exclusive": False,
        "is_in_store": False,
        "members": ("m",),
        "owned": 64,
        "partitions": 64,
        "events": 0,
        "failures": 0,
        "buried": 0,
        "held_up": {},
        "lag": 0,
        "oldest_us": None,
    }
    return GroupState(name=name, **(about | more))


BOUNDS = Bounds(lag=10, age_s=5.0)
FIRST = compare((state("billing", events=100),), None, BOUNDS, (50.0, 10_000_000))
LOOK = compare(
    (
        state("billing", events=350, failures=7, buried=1, lag=11, oldest_us=11_000_000),
        state("mails", members=(), owned=0, lag=1, oldest_us=1_000_000, is_exclusive=True),
        state("stock"),
    ),
    FIRST,
    BOUNDS,
    (52.0, 12_000_000),
)


def test_the_rate_is_measured_between_two_looks() -> None:
    """By the monotonic clock; of a group that has just come there is none yet."""
    assert [None] == [one.events_per_s for one in FIRST.seen]
    assert [125.0, None, None] == [one.events_per_s for one in LOOK.seen]
    reborn = compare((state("billing"),), FIRST, BOUNDS, (51.0, 0))
    assert [0.0] == [one.events_per_s for one in reborn.seen]


def test_what_waits_for_nobody_is_marked() -> None:
    """In its line, and in the last one."""
    assert ["at work", "NO MEMBER", "idle"] == [one.state for one in LOOK.seen]
    assert "3 groups, 1 with NO MEMBER on mesh 'm' at u" == head_line(LOOK, "m", "u")
    assert "1 group on mesh 'm' at u" == head_line(FIRST, "m", "u")
    assert [False, True, False] == [one["no_member"] for one in look_document(LOOK)["groups"]]


def test_what_is_over_a_bound_is_an_alert() -> None:
    """More events than the one, or an event that is older than the other; at it is not over it."""
    assert [("lag",), ("age",), ()] == [one.over for one in LOOK.seen]
    assert [
        "group 'billing': 11 events waiting, more than 10",
        "group 'mails': the oldest for 11.0 s, longer than 5 s",
    ] == over_lines(LOOK, BOUNDS)
    both = Bounds(lag=0, age_s=0.5)
    (line, *_) = over_lines(compare([LOOK.seen[0].about], None, both, (0.0, 12_000_000)), both)
    assert line.endswith(
        "11 events waiting, more than 0 and the oldest for 1.0 s, longer than 0.5 s"
    )
    at = state("billing", lag=10, oldest_us=0)
    assert not compare((at,), None, BOUNDS, (0.0, 5_000_000)).over
    assert not compare((state("b", lag=9, oldest_us=0),), None, Bounds(), (0.0, 10**12)).over


def test_rows_for_people() -> None:
    """A dash where nothing is known; and as many rows as there is room for."""
    billing, mails, _ = group_rows(LOOK)
    assert ("billing", "at work", "11", "1 s", "125", "1", "64 of 64") == billing[:7]
    assert ("7", "1", "all active", "order.*") == billing[7:]
    assert ("NO MEMBER", "1", "11 s", "-", "0", "0 of 64") == mails[1:7]
    assert "one active" == mails[9]
    assert ["billing", "… 2 more"] == [row[0] for row in group_rows(LOOK, 1)]


def test_a_narrow_terminal_shows_what_matters() -> None:
    """Group, state, lag and age stay; what is shown fits."""
    rows = group_rows(LOOK)
    for width in range(45, 140):
        columns, _, widths = fit(COLUMNS, rows, width, LEAVING)
        assert sum(widths) + GAP * (len(widths) - 1) <= width
        assert {"group", "state", "lag", "oldest", "members"} <= set(columns)


# --- on a mesh ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Give a project with a group that has done three events; one of them went to quarantine."""
    cli = Cli(tmp_path_factory.mktemp("groups") / "project")
    cli.write("crew.py", CREW)
    cli.write("billing.py", BILLING)
    try:
        cli.start("run", "crew.py").wait_line("^ready: ")
        member = cli.start("run", "billing.py")
        member.wait_line("^ready: ")
        for words in (("number=1", "--key", "7"), ("number=2", "--key", "7"), ("number=bad",)):
            assert 0 == cli.run("events", "publish", "order.placed", *words).code
        wait_until(lambda: 3 == billing(cli.run)["events"], timeout_s=TIMEOUT_S)
        member.signal(signal.SIGINT)
        assert 0 == member.wait()
        yield cli
    finally:
        cli.close()


def billing(ask: Ask) -> dict[str, Any]:
    """Return what `groups` says of the group that bills."""
    (found,) = ask("events", "groups", "billing", "--json").document["groups"]
    return dict(found)


def lag_to(ask: Ask, lag: int) -> None:
    """Have so many of the three events wait."""
    start = "new" if lag == 0 else str(4 - lag)
    assert 0 == ask("events", "replay", "billing", "--from", start, "--yes").code


def test_a_group_as_json(ask: Ask) -> None:
    """All that is known of it."""
    lag_to(ask, 0)
    document = ask("events", "groups", "--json").document
    assert {"time_us", "mesh", "groups"} == set(document)
    (found,) = document["groups"]
    assert {
        "group": "billing",
        "topics": ["order.*"],
        "active": "all",
        "members": [],
        "owned": 0,
        "partitions": 64,
        "lag": 0,
        "oldest_us": None,
        "oldest_age_s": None,
        "events": 3,
        "events_per_s": 0.0,
        "redelivered": 1,
        "quarantined": 1,
        "no_member": False,
        "held_up": {},
        "over": [],
    } == found


def test_what_is_held_up_says_why() -> None:
    """A group that cannot go on is told from one at work, with the reasons and how often."""
    reasons = dict.fromkeys(range(5), "it is full") | {9: "b", 10: "c", 11: "d", 12: "e"}
    states = (
        state("mails", lag=3, held_up=reasons),
        state("gone", lag=1, members=(), held_up={0: "it broke"}),
    )
    look = compare(states, None, BOUNDS, (50.0, 10_000_000))
    assert ["HELD UP", "NO MEMBER"] == [one.state for one in look.seen]
    assert "2 groups, 1 with NO MEMBER, 1 HELD UP on mesh 'm' at u" == head_line(look, "m", "u")
    assert [
        "group 'mails': 5 partitions held up: it is full",
        "group 'mails': 1 partition held up: b",
        "group 'mails': 1 partition held up: c",
        "group 'mails': 2 more reasons",
        "group 'gone': 1 partition held up: it broke",
    ] == held_up_lines(look)
    assert [reasons, {0: "it broke"}] == [one["held_up"] for one in look_document(look)["groups"]]


def test_groups_for_people(ask: Ask) -> None:
    """A table, and a line that counts; on an empty mesh the line alone, which is no failure."""
    lag_to(ask, 2)
    done = ask("events", "groups")
    assert (0, "") == (done.code, done.err)
    head, line, last = done.out.splitlines()
    assert head.split()[:4] == ["GROUP", "STATE", "LAG", "OLDEST"]
    assert line.split()[:4] == ["billing", "NO", "MEMBER", "2"]
    assert "1 group, 1 with NO MEMBER on mesh 'main' at nats://" in last
    empty = ask("events", "groups", "--mesh", "empty")
    assert (0, True) == (empty.code, empty.out.startswith("no groups on mesh 'empty' at nats://"))


def test_an_alert_is_an_exit_code(ask: Ask) -> None:
    """1, and a sentence for each group that is over a bound; --json says which bound."""
    lag_to(ask, 2)
    done = ask("events", "groups", "--alert-lag", "1", "--alert-age", "0.01", "--json")
    assert 1 == done.code
    assert ["lag", "age"] == done.document["groups"][0]["over"]
    assert "group 'billing': 2 events waiting, more than 1 and the oldest for" in done.err
    assert 1 == ask("events", "groups", "--alert-age", "0.01").code
    assert 0 == ask("events", "groups", "--alert-lag", "2", "--alert-age", "9999").code
    assert 0 == ask("events", "groups", "--alert-lag", "0", "--mesh", "empty").code
    watched = ask("events", "groups", "--watch", "--alert-lag", "1")
    assert (1, True) == (watched.code, "NO MEMBER" in watched.out)


async def append(cli: Cli, mesh: str) -> None:
    """Append an event, quicker than a process of its own would."""
    settings = Settings(project=cli.folder, state_folder=cli.folder / "state", mesh=mesh)
    async with Mesh(settings=settings) as on:
        await on.append("order.placed", {"number": 3})


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda how: how.name)
def test_a_consumer_that_stops_is_seen(
    crew: Cli, how: signal.Signals, record_property: Callable[[str, object], None]
) -> None:
    """Within five seconds its group has no member, and what waits has an age; killed or asked."""
    mesh = ("--mesh", f"stops-by-{how.name.lower()}")
    member = crew.start("run", "billing.py", *mesh)
    member.wait_line("^ready: ")
    watch = crew.start("events", "groups", "billing", "--watch", "--json", *mesh)
    watch.wait_line(r'"members":\["')
    began_s = time.monotonic()
    member.signal(how)
    member.wait()  # who leaves may take what comes until then
    asyncio.run(append(crew, mesh[1]))
    line = watch.wait_line('"no_member":true')
    took_s = time.monotonic() - began_s
    (found,) = json.loads(line)["groups"]
    record_property("seen_after_s", round(took_s, 2))
    assert took_s < SHOWN_S_MAX
    assert ([], 0, True) == (found["members"], found["owned"], found["oldest_age_s"] is not None)
    assert found["lag"] >= 1
    watch.signal(signal.SIGINT)
    assert 0 == watch.wait()


def test_on_a_terminal_it_redraws_until_ctrl_c(crew: Cli) -> None:
    """The last look stays."""
    screen = Screen(crew, "events", "groups", "--watch")
    try:
        wait_until(lambda: screen.text.count("billing") >= 2, timeout_s=TIMEOUT_S)
        screen.process.send_signal(signal.SIGINT)
        assert 0 == screen.process.wait(TIMEOUT_S)
        *_, after = screen.text.rpartition("\x1b[?1049l")
        assert 1 == after.count("billing")
        assert "1 group" in after
    finally:
        screen.close()


# --- replay ---------------------------------------------------------------------------------------


def test_replay_says_first_what_it_will_do(ask: Ask) -> None:
    """How many events come again or are left out; a dry run does nothing."""
    lag_to(ask, 0)
    done = ask("events", "replay", "billing", "--from", "first", "--dry-run")
    again = "would go on behind sequence 0: 3 events come again (0 waiting now, 3 then)"
    assert (0, f"group 'billing' {again}\n", "") == done
    assert 0 == billing(ask)["lag"]
    done = ask("events", "replay", "billing", "--from", "last", "--dry-run", "--json")
    assert {
        "dry_run": True,
        "group": "billing",
        "position": 2,
        "lag_before": 0,
        "lag_after": 1,
    } == done.document


def test_replay_back_and_forth(ask: Ask) -> None:
    """It says where the group goes on; so it does."""
    lag_to(ask, 0)
    back = ask("events", "replay", "billing", "--from", "-1h", "--yes")
    assert (0, "group 'billing' goes on behind sequence 0\n") == (back.code, back.out)
    assert "3 events come again (0 waiting now, 3 then)" in back.err
    assert 3 == billing(ask)["lag"]
    forth = ask("events", "replay", "billing", "--from", "3", "--yes")
    assert "2 events left out (3 waiting now, 1 then)" in forth.err
    assert 1 == billing(ask)["lag"]
    same = ask("events", "replay", "billing", "--from", "3", "--yes", "--json")
    assert (1, 1, "") == (same.document["lag_before"], same.document["lag_after"], same.err)
    assert "as many as now (1 waiting" in ask("events", "replay", "billing", "--from", "3").err


def test_replay_asks_first(crew: Cli, ask: Ask) -> None:
    """On a terminal; elsewhere it wants --yes. A no is exit code 1, and changes nothing."""
    lag_to(ask, 0)
    done = crew.run("events", "replay", "billing", "--from", "first")
    assert (2, True) == (done.code, "reset group 'billing'? say --yes" in done.err)
    for answer, code, lag in (("n", 1, 0), ("y", 0, 3)):
        ours, theirs = pty.openpty()
        words = crew._command(("events", "replay", "billing", "--from", "first"))
        process = subprocess.Popen(
            words, cwd=crew.folder, env=crew.environ, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        os.write(ours, f"{answer}\n".encode())
        assert code == process.wait(TIMEOUT_S)
        text = os.read(ours, 65_536).decode()
        os.close(ours)
        assert "3 events come again" in text
        assert ("was left as it is" in text) == (code == 1)
        assert lag == billing(ask)["lag"]


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        ("groups biling", 3, "no group 'biling' on mesh 'main'; did you mean 'billing'?"),
        ("groups billing x", 3, "there is no group 'x' on mesh 'main'; there are: billing"),
        ("groups x --mesh empty", 3, "there is no group 'x' on mesh 'empty'; there is none"),
        ("groups b*", 2, "is no group"),
        ("groups --alert-lag -1", 2, "--alert-lag"),
        ("groups --alert-age soon", 2, "--alert-age"),
        ("groups --url nats://127.0.0.1:1", 5, "no NATS server answers at"),
        ("replay x --from first --yes", 3, "there are: billing"),
        ("replay billing", 2, "missing option '--from'"),
        ("replay billing --from soon", 2, "'soon' is no place in the log"),
        ("replay billing --from 99999 --yes", 2, "in the future: the log ends with"),
        ("replay billing --from 2999-01-01 --yes", 2, "in the future"),
        ("replay billing --from first --yes --url nats://127.0.0.1:1", 5, "no NATS server"),
    ],
)
def test_a_mistake_is_one_sentence(ask: Ask, words: str, code: int, part: str) -> None:
    """It names what is wrong, and what there is; nothing is on stdout."""
    done = ask("events", *words.split())
    assert (code, "", 1) == (done.code, done.out, len(done.err.splitlines()))
    assert part in done.err
