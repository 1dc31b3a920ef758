"""Durable functions from the command line: list, show, cancel, retry.

A whole file shares the sagas of `_trips.BEGUN`, each of which has come to rest somewhere.
"""

from __future__ import annotations

import asyncio
import os
import pty
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent99.cli._saga_ask import Asked, _ask_one, _wait_all
from agent99.errors import ClosedError
from agent99.saga import Desk
from tests._wait import wait_until
from tests.cli._cli import Cli, Done
from tests.cli._trips import BEGUN, TRIPS, begin, mesh_of, write_others

Ask = Callable[..., Done]
NOBODYS = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Give a project whose mesh has an agent that books trips."""
    cli = Cli(tmp_path_factory.mktemp("trips") / "project")
    cli.write("trips.py", TRIPS)
    try:
        cli.start("run", "trips.py").wait_line("^ready: ")
        yield cli
    finally:
        cli.close()


@pytest.fixture(scope="module")
def begun(crew: Cli) -> dict[str, str]:
    """Give the ids of sagas that have come to rest, and of some that nobody runs."""
    return {**asyncio.run(begin(crew, BEGUN)), **asyncio.run(write_others(crew))}


def listed(ask: Ask, *words: str) -> dict[str, dict[str, Any]]:
    """Return what `list` says, by saga."""
    return {one["saga_id"]: one for one in ask("saga", "list", "--json", *words).document["sagas"]}


def line_of(text: str, part: str) -> str:
    """Return the line with these words."""
    return next(line for line in text.splitlines() if part in line)


# --- list -----------------------------------------------------------------------------------------


def test_list_tells_where_each_saga_is(ask: Ask, begun: dict[str, str]) -> None:
    """Its state, the step that it is at, and the last error of one that is in trouble."""
    found = listed(ask, "--agent", "trips")
    for name in ("waits", "runs", "doubts", "undoes", "sticks"):
        one, rest = found[begun[name]], BEGUN[name]
        code = one["error"] and one["error"]["code"]
        assert (rest.state, [*rest.at], rest.code) == (one["state"], one["at"], code)
    assert {("there", "book", 2)} == {
        (one["owner_state"], one["operation"], one["version"]) for one in found.values()
    }


def test_list_for_people(ask: Ask, begun: dict[str, str]) -> None:
    """Ids are whole, the oldest comes first, and the last line says how many there are."""
    text = ask("saga", "list", "--agent", "trips").out
    assert text.splitlines()[1].startswith(begun["waits"])
    assert "waiting until 20" in line_of(text, begun["waits"])
    assert "undo of flight failed" in line_of(text, begun["undoes"])
    assert "no paper (NO_PAPER)" in line_of(text, begun["sticks"])
    shown = len(listed(ask, "--agent", "trips"))
    assert text.splitlines()[-1].startswith(
        f"{shown} of {shown} open sagas of agent 'trips' on mesh 'main' at nats://"
    )


def test_list_says_what_it_leaves_out(ask: Ask, begun: dict[str, str]) -> None:
    """The oldest open ones are shown; with `--all` the newest, ended ones among them."""
    text = ask("saga", "list", "--agent", "trips", "--limit", "2").out
    assert (begun["waits"] in text, begun["sticks"] in text) == (True, False)
    assert "younger left out (--limit)" in text.splitlines()[-1]
    document = ask("saga", "list", "--agent", "trips", "--all", "--json").document
    states, total = {one["state"] for one in document["sagas"]}, document["count"]
    assert {"done", "failed", "waiting"} <= states
    newest = ask("saga", "list", "--agent", "trips", "--all", "--limit", "1").out
    assert document["sagas"][-1]["saga_id"] in newest
    assert f"1 of {total} sagas" in newest
    assert f"{total - 1} older left out (--limit)" in newest


def test_list_of_some(ask: Ask, begun: dict[str, str]) -> None:
    """By their ids, in that order, ended ones too; twice the same is once."""
    words = (begun["done"], begun["sticks"][:8], begun["sticks"])
    assert [begun["done"], begun["sticks"]] == list(listed(ask, *words))
    assert "2 of 2 sagas on mesh" in ask("saga", "list", *words).out


def test_list_marks_what_nobody_runs(ask: Ask, begun: dict[str, str]) -> None:
    """Its owner is gone; and one journal that cannot be read spoils nobody else's line."""
    found = listed(ask, "--agent", "ghosts")
    assert ["gone", "gone"] == [one["owner_state"] for one in found.values()]
    assert "unreadable" == found[begun["unreadable"]]["state"]
    text = ask("saga", "list", "--agent", "ghosts").out
    assert "3f2a91c0 gone" in line_of(text, begun["nobody's"])
    assert f"saga {begun['unreadable']} cannot be read: record" in " ".join(text.split())


def test_list_of_nothing(ask: Ask, begun: dict[str, str]) -> None:
    """That is no failure."""
    del begun
    done = ask("saga", "list", "--mesh", "empty")
    assert (0, True) == (done.code, done.out.startswith("no open sagas on mesh 'empty' at nats://"))
    assert "no sagas of agent 'nobody'" in ask("saga", "list", "--all", "--agent", "nobody").out


# --- show -----------------------------------------------------------------------------------------


def test_show_tells_all_of_one(ask: Ask, begun: dict[str, str]) -> None:
    """The request, every step with its outcome, what befell it, and what to do when it is stuck."""
    found = ask("saga", "show", begun["sticks"], "--json").document
    assert [
        ("flight", "step", "done", {"number": 1, "to": "Rome"}),
        ("payment", "pivot", "done", 17),
        ("print", "step", "stuck", None),
    ] == [(one["name"], one["kind"], one["state"], one["result"]) for one in found["steps"]]
    assert {"to": "Rome", "how": "sticks"} == found["request"]
    assert ("sticks", 2) == (found["key"], found["version"])
    assert ["begun", "stuck"] == [event["what"] for event in found["events"]]
    assert 32 == len(found["trace_id"])
    text = ask("saga", "show", begun["sticks"]).out
    assert f"trips book: saga {begun['sticks']}\nstate     stuck, at print\n" in text
    for part in ("payment (pivot)  done ", '{"number":1,"to":"Rome"}', '"how": "sticks"'):
        assert part in text
    for part in (found["owner"], found["trace_id"], "stuck at print: no paper (NO_PAPER)"):
        assert part in text
    assert f"then: agent99 saga retry {begun['sticks']}" in text


def test_show_tells_of_waits_and_undos(ask: Ask, begun: dict[str, str]) -> None:
    """Until when it waits, and how often an undo failed, with its last error."""
    assert "waiting  until 20" in line_of(ask("saga", "show", begun["waits"]).out, "sleep  ")
    text = ask("saga", "show", begun["undoes"]).out
    assert "undo fails (" in text
    assert "ConnectionError: the airline is closed (HANDLER_ERROR)" in text
    assert "undoing: no room (NO_ROOM)" in text
    assert "in doubt  TimeoutError" in ask("saga", "show", begun["doubts"]).out


def test_show_of_what_has_ended(ask: Ask, begun: dict[str, str]) -> None:
    """The answer, or the error with everything undone."""
    shown = ask("saga", "show", begun["done"]).out
    assert shown.endswith('\nthe answer:\n"to Rome"\n')
    failed = ask("saga", "show", begun["failed"], "--json").document
    assert ("undone", True) == (failed["steps"][0]["state"], failed["steps"][0]["undone_us"] > 0)
    assert ("NO_ROOM", None) == (failed["error"]["code"], failed["answer"])


def test_show_of_what_is_hardly_there(ask: Ask, begun: dict[str, str]) -> None:
    """No step so far; or the beginning was deleted already, as of each that ended long ago."""
    assert "\nno step was begun\n" in ask("saga", "show", begun["twin"]).out
    assert "its beginning is deleted" in ask("saga", "show", begun["of long ago"]).out
    found = ask("saga", "show", begun["of long ago"], "--json").document
    assert ("done", None, 7, []) == tuple(
        found[field] for field in ("state", "request", "answer", "steps")
    )
    line = line_of(ask("saga", "list", "--all").out, begun["of long ago"])
    assert ["ghosts", "?", "done", "-", "?", "?"] == line.split()[1:]


def test_show_of_what_cannot_be_read(ask: Ask, begun: dict[str, str]) -> None:
    """Saga and record are named."""
    done = ask("saga", "show", begun["unreadable"])
    assert (5, True) == (done.code, f"saga {begun['unreadable']} cannot be read" in done.err)


def test_show_takes_the_id_that_a_caller_was_told(ask: Ask, begun: dict[str, str]) -> None:
    """That in the details of the answer PENDING."""
    payload = ("to=Rome", "how=runs")
    error = ask("call", "trips", "book", *payload, "-t", "0.5", "--json").document["error"]
    saga_id = error["details"]["saga_id"]
    assert ("PENDING", True) == (error["code"], saga_id not in begun.values())
    found = ask("saga", "show", saga_id, "--json").document
    assert (saga_id, "running") == (found["saga_id"], found["state"])
    assert error["event_id"] == found["event_id"]


def test_the_beginning_of_an_id_is_enough(ask: Ask, begun: dict[str, str]) -> None:
    """Four characters, where one open saga alone begins so."""
    found = ask("saga", "show", begun["waits"][:13].upper(), "--json").document
    assert begun["waits"] == found["saga_id"]


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (f"show {NOBODYS}", 3, f"there is no saga '{NOBODYS}'; `agent99 saga list` shows"),
        ("show zzzz", 2, "'zzzz' is no saga's id, nor 4 characters or more of its beginning"),
        ("show 3f2", 2, "'3f2' is no saga's id, nor 4 characters"),
        (f"show x{NOBODYS[1:]}", 2, "is no saga's id"),
        (f"show {'3' * 40}", 2, "is no saga's id: those are UUIDs"),
        ("list --agent a*b", 2, "is no agent"),
        ("list --limit 0", 2, "--limit"),
        ("cancel", 2, "missing argument"),
        ("retry", 2, "say what to retry: the ID of a saga, or more of them, or --all-stuck"),
        (f"retry {NOBODYS} --all-stuck", 2, "say what to retry"),
        (f"retry {NOBODYS} --agent trips", 2, "--agent and --yes go with --all-stuck"),
        ("retry --all-stuck --agent shades", 2, "retry 1 stuck saga? say --yes"),
        ("list --url nats://127.0.0.1:1", 5, "no NATS server answers at"),
    ],
)
def test_a_mistake_is_one_sentence_and_an_exit_code(
    ask: Ask, begun: dict[str, str], words: str, code: int, part: str
) -> None:
    """No traceback; the sentence says what would help."""
    del begun
    done = ask("saga", *words.split())
    assert part in done.err
    assert "Traceback" not in done.err
    assert code == done.code


def test_a_near_id_is_named(ask: Ask, begun: dict[str, str]) -> None:
    """One letter is wrong, in a whole id or in a beginning."""
    right = begun["sticks"]
    wrong = right[:6] + ("0" if right[6] != "0" else "1") + right[7:]
    for word in (wrong, wrong[:8]):
        done = ask("saga", "show", word)
        assert (3, True) == (done.code, f"did you mean {right}?" in done.err), done.err


def test_a_beginning_of_several_is_refused(ask: Ask, begun: dict[str, str]) -> None:
    """Exit code 3, and they are named."""
    one, other = sorted((begun["twin"], begun["other twin"]))
    done = ask("saga", "show", one[:4])
    assert 3 == done.code
    assert f"{one[:4]!r} begins 2 open sagas: " in done.err
    assert one in done.err
    assert other in done.err


# --- cancel ---------------------------------------------------------------------------------------


def test_cancel_has_a_saga_undone(ask: Ask, begun: dict[str, str]) -> None:
    """`--wait` says how it ended, exit code 0; what has ended cannot be cancelled: 1."""
    saga_id = begun["is to be cancelled"]
    done = ask("saga", "cancel", saga_id[:13], "--wait", "20")
    assert (0, f"{saga_id}: cancelled: the saga was cancelled (CANCELLED)\n") == done[:2]
    assert "agent99: cancel of 1 of 1 saga is written; its owner sees it within" in done.err
    again = ask("saga", "cancel", saga_id)
    assert (1, f"agent99: saga {saga_id} has ended: cancelled\n") == (again.code, again.err)
    events = ask("saga", "show", saga_id, "--json").document["events"]
    assert ["begun", "cancel asked", "undoing", "cancelled"] == [one["what"] for one in events]


def test_cancel_tells_each_refusal(ask: Ask, begun: dict[str, str]) -> None:
    """Those that can be are asked; exit code 1 if that is not all."""
    done = ask("saga", "cancel", begun["sticks"], begun["nobody's"])
    assert 1 == done.code
    assert f"saga {begun['sticks']} is past its pivot, after which it only goes forward" in done.err
    assert "no agent 'ghosts' is there now: its sagas go on once there is one" in done.err
    assert "cancel of 1 of 2 sagas is written\n" == done.out
    assert listed(ask, begun["nobody's"])[begun["nobody's"]]["cancel_asked"]


def test_nothing_is_asked_when_one_is_unknown(ask: Ask, begun: dict[str, str]) -> None:
    """Exit code 3: somebody has mistyped, and means to look again."""
    assert 3 == ask("saga", "cancel", begun["runs"], NOBODYS).code
    assert not listed(ask, begun["runs"])[begun["runs"]]["cancel_asked"]


def test_a_wait_that_is_too_short(ask: Ask, begun: dict[str, str]) -> None:
    """It says where the saga stands by then; exit code 1."""
    done = ask("saga", "retry", begun["undoes"], "--wait", "0")
    assert (1, True) == (done.code, f"{begun['undoes']}: not ended yet: undoing" in done.out)


# --- retry ----------------------------------------------------------------------------------------


def test_retry_of_what_is_mended(ask: Ask, begun: dict[str, str]) -> None:
    """Stuck again is exit code 1; done is 0."""
    saga_id = begun["is to be mended"]
    done = ask("saga", "retry", saga_id, "--wait", "20")
    assert (1, f"{saga_id}: stuck again, at print: no paper (NO_PAPER)\n") == (done.code, done.out)
    ask("ctl", "update_config", "trips", 'mended=["Oslo"]')
    (found,) = ask("saga", "retry", saga_id, "--wait", "20", "--json").document["sagas"]
    assert ("done", True, True, None) == tuple(
        found[field] for field in ("state", "asked", "waited", "error")
    )


def test_retry_says_who_sees_it(ask: Ask, begun: dict[str, str]) -> None:
    """Without `--wait` it does not wait; the owner looks on its own."""
    done = ask("saga", "retry", begun["undoes"])
    told = "retry of 1 of 1 saga is written; its owner sees it within some seconds\n"
    assert (0, told, "") == done


def test_retry_of_all_that_are_stuck(
    ask: Ask, begun: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal it shows them and asks; elsewhere `--yes` must be said."""
    words = ("saga", "retry", "--all-stuck", "--agent", "spirits")
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        os.write(ours, b"n\n")
        done = ask(*words)
    os.close(ours)
    assert (1, True) == (done.code, begun["of spirits"] in done.out)
    assert "retry 1 stuck saga? [y/N]" in done.err
    assert "nothing was retried" in done.err
    found = ask(*words, "--yes", "--json").document
    assert (1, 1, "stuck") == (found["wanted"], found["asked"], found["sagas"][0]["state"])
    assert (0, "nothing is stuck\n", "") == ask(*words)


# --- without a link -------------------------------------------------------------------------------


async def test_a_link_that_is_lost_on_the_way(crew: Cli, begun: dict[str, str]) -> None:
    """Of several sagas that which could not be asked is told; a wait says that all is written."""
    async with mesh_of(crew) as mesh:
        desk = Desk(mesh)
        view = await desk.find(begun["twin"])
    assert view is not None
    one = Asked(view)
    await _ask_one(desk, "retry", one, is_alone=False)
    assert (0, True) == (one.sequence, one.refusal.startswith(f"saga {begun['twin']}: "))
    with pytest.raises(ClosedError):
        await _ask_one(desk, "retry", one, is_alone=True)
    one.sequence = 7
    with pytest.raises(ClosedError) as lost:
        await _wait_all(desk, [one], 1.0)
    assert ["what was asked for is written"] == lost.value.__notes__


# --- slow -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_who_took_it_over(cli: Cli) -> None:
    """Where the owner is killed, `list` shows the new one, and `show` when it took over."""
    cli.write("trips.py", TRIPS)
    first, second = (cli.start("run", "trips.py") for _ in range(2))
    for running in (first, second):
        running.wait_line("^ready: ")
    saga_id = asyncio.run(begin(cli, {"waits": BEGUN["waits"]}))["waits"]

    def now() -> Any:
        return cli.run("saga", "show", saga_id, "--json").document

    owner = now()["owner"]
    instances = cli.run("ps", "--json").document["instances"]
    pid = next(one["pid"] for one in instances if one["instance"] == owner)
    os.kill(pid, 9)
    wait_until(lambda: now()["owner"] != owner)
    found = now()
    assert ["begun", "taken over"] == [event["what"] for event in found["events"]]
    assert found["owner"] == found["events"][-1]["owner"]
    assert "there" == found["owner_state"]
