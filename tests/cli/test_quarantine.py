"""Stored work from the command line: post, look, quarantine, redrive."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests._wait import wait_until
from tests.cli._cli import Cli, Done

DESK = '''
import asyncio

import msgspec

from agent99 import Agent, Failure, follow, job


class Desk(Agent):
    """Files papers."""

    capabilities = ("desk",)

    class Config(msgspec.Struct):
        fixed: bool = False

    @job(attempts_max=1)
    async def file(self, paper: str) -> None:
        """File one."""
        if self.config.fixed or paper == "good":
            return
        if paper == "broken":
            raise ValueError("torn")
        raise Failure("it is blank", code="BLANK")

    @job(delay_s=600, delay_s_max=600)
    async def phone(self, number: int) -> None:
        """Wait on the phone; nobody answers number 0."""
        if number == 0:
            raise Failure("engaged", code="ENGAGED", retryable=True)
        await asyncio.Event().wait()


class Scribe(Agent):
    """Follows what happens to papers."""

    @follow("paper.*")
    async def note(self, paper: str) -> None:
        """Note it."""
'''

Ask = Callable[..., Done]


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Give a project whose mesh has a desk and a scribe."""
    cli = Cli(tmp_path_factory.mktemp("desk") / "project")
    cli.write("desk.py", DESK)
    try:
        cli.start("run", "desk.py").wait_line("^ready: ")
        yield cli
    finally:
        cli.close()


@pytest.fixture
def desk(ask: Ask) -> Iterator[Ask]:
    """Give the command line of a desk whose quarantine is empty; it is emptied afterwards."""
    yield ask
    ask("ctl", "update_config", "desk", "fixed=false")
    ask("quarantine", "drop", "--where", "capability=desk")


def buried(ask: Ask, *papers: str) -> list[dict[str, Any]]:
    """Post papers that end in quarantine; returns their records when they are there."""
    ids = {ask("post", "desk", "file", f"paper={paper}").out.strip() for paper in papers}

    def records() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ask("quarantine", "list", "--json").document["records"]
        return [record for record in found if record["id"] in ids]

    wait_until(lambda: len(records()) == len(papers))
    return records()


def counted(ask: Ask, operation: str) -> dict[str, Any]:
    """Return what `jobs` says of one operation."""
    (desk,) = ask("jobs", "desk", "--json").document["jobs"]
    return next((one for one in desk["operations"] if one["operation"] == operation), {})


# --- post, append ---------------------------------------------------------------------------------


def test_post_and_append_print_the_id(desk: Ask) -> None:
    """Alone on stdout, or as JSON; what was posted is done."""
    done = desk("post", "desk", "file", "paper=good")
    assert (0, "", 37) == (done.code, done.err, len(done.out))
    assert 36 == len(desk("append", "paper.new", "paper=a", "--key", "k", "--json").document["id"])
    event = desk("append", "paper.new", "--json-payload", '{"paper": "b"}')
    assert (0, 37) == (event.code, len(event.out))
    for _ in range(2):
        assert "b-is-new\n" == desk("append", "paper.new", "paper=b", "--id", "b-is-new").out


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        ("post desk fil paper=a", 2, "takes jobs; there are: file, phone"),
        ("post desk file paper", 2, "is no name=value"),
        ("post d*sk file", 2, "is no capability"),
        ("append paper..new", 2, "is no topic"),
        ("append paper.new --key", 2, "--key"),
        ("append paper.new --id ä", 2, "is no event id: 1 to 128 characters"),
        ("post desk file --url nats://127.0.0.1:1", 5, "no NATS server answers at"),
        ("jobs nobody_posted", 3, "nothing was ever posted to 'nobody_posted'"),
        ("quarantine show desk 99999", 3, "there is no 99999 in quarantine of 'desk'"),
        ("quarantine show none 1", 3, "there is no 1 in quarantine of 'none'"),
        ("quarantine redrive none 1", 3, "there is no 1 in quarantine of 'none'"),
        ("quarantine redrive", 2, "say what to redrive: CAPABILITY SEQUENCE"),
        ("quarantine drop desk", 2, "say what to drop: CAPABILITY SEQUENCE"),
        ("quarantine drop desk 1 --where code=X", 2, "say what to drop"),
        ("quarantine drop --where ,", 2, "--where is empty; it takes capability"),
        ("quarantine list --where cod=X", 2, "did you mean 'code'?"),
        ("quarantine list --where capability", 2, "is no condition such as capability=mail"),
        ("quarantine redrive --where cod=X --url nats://127.0.0.1:1", 2, "did you mean 'code'?"),
        ("quarantine list --where reason=bored", 2, "there are: attempts, not_retryable"),
        ("quarantine list --where older=1w", 2, "is no time such as 30s, 5m, 1h or 2d"),
    ],
)
def test_a_mistake_is_one_sentence_and_an_exit_code(
    desk: Ask, words: str, code: int, part: str
) -> None:
    """No traceback; the sentence says what would help."""
    done = desk(*words.split())
    assert part in done.err
    assert "Traceback" not in done.err
    assert code == done.code


# --- look -----------------------------------------------------------------------------------------


def test_list_shows_what_is_meant(desk: Ask) -> None:
    """All conditions must hold; without any, everything is shown."""
    buried(desk, "broken", "blank", "blank")

    def listed(*where: str) -> list[str]:
        done = desk("quarantine", "list", "--json", *where)
        return [record["code"] for record in done.document["records"]]

    assert ["BLANK", "BLANK", "HANDLER_ERROR"] == sorted(listed())
    assert ["HANDLER_ERROR"] == listed("--where", "capability=DESK, reason=attempts, newer=1h")
    assert ["BLANK", "BLANK"] == listed("--where", "code=BLANK,operation=file")
    assert [] == listed("--where", "code=BLANK, older=1h")
    text = desk("quarantine", "list", "--where", "code=BLANK").out
    assert "it is blank" in text
    assert "2 records in quarantine of mesh 'main'" in text
    assert "nothing fits in quarantine" in desk("quarantine", "list", "--where", "code=NONE").out


def test_show_tells_all_of_one(desk: Ask) -> None:
    """Reason, error, traceback, attempts, times, trace, and the message as it was sent."""
    (record,) = buried(desk, "broken")
    words = ("quarantine", "show", "desk", str(record["sequence"]))
    found = desk(*words, "--json").document
    assert {**record, "original": found["original"]} == found
    assert {"paper": "broken"}.items() <= found["original"].items()
    assert record["id"] == found["original"]["header"]["event_uuid"]
    text = desk(*words).out
    for part in ("reason      attempts", "Traceback (most", record["trace_id"], '"broken"'):
        assert part in text
    assert "(HANDLER_ERROR)" in text


def test_jobs_close_when_all_is_quiet(desk: Ask) -> None:
    """Every message that was ever stored is in one column, quarantine and what left it included."""

    def now() -> dict[str, Any]:
        found: dict[str, Any] = desk("jobs", "desk", "--json").document["jobs"][0]
        return found

    was = now()
    records = buried(desk, "blank", "blank", "broken")
    desk("quarantine", "drop", "desk", str(records[0]["sequence"]))
    for _ in range(2):
        desk("post", "desk", "file", "paper=good")
    wait_until(lambda: now()["done"] == was["done"] + 2)
    found = now()
    assert found["closes"] is True
    assert (5, 2, 1) == tuple(
        found[field] - was[field] for field in ("stored", "quarantined", "taken_out")
    )
    columns = ("done", "pending", "delayed", "in_flight", "quarantined", "taken_out")
    assert found["stored"] == sum(found[column] for column in columns)
    assert "quarantined" in desk("jobs").out.lower()


def test_jobs_tell_what_is_in_motion(desk: Ask) -> None:
    """What is worked on, what waits for its next attempt, and their ids."""
    ids = [desk("post", "desk", "phone", f"number={number}").out.strip() for number in (0, 1)]
    wait_until(
        lambda: (counted(desk, "phone")["delayed"], counted(desk, "phone")["in_flight"]) == (1, 1)
    )
    assert ids == [one["id"] for one in counted(desk, "phone")["moving"]]
    text = desk("jobs", "desk").out
    line = next(line for line in text.splitlines() if line.startswith("in motion: desk phone "))
    assert all(one in line for one in ids)


def test_streams_show_bounds_and_readers(desk: Ask) -> None:
    """The mesh's own, each with its consumers."""
    buried(desk, "blank")
    found = {one["stream"]: one for one in desk("streams", "--json").document["streams"]}
    assert {"A99_main_LOG", "A99_main_JOB_desk", "A99_main_DEAD_desk"} <= set(found)
    jobs = found["A99_main_JOB_desk"]
    assert ["file", "phone"] == [one["consumer"] for one in jobs["consumers"]]
    assert ("work", 256 * 1024**2, 1) == (jobs["retention"], jobs["bytes_max"], jobs["replicas"])
    text = desk("streams").out
    for part in ("A99_main_JOB_desk", "until done", "268.4 MB", "7 d", "phone"):
        assert part in text


# --- move -----------------------------------------------------------------------------------------


def test_a_dry_run_moves_nothing(desk: Ask) -> None:
    """It lists what it would."""
    records = buried(desk, "blank", "broken")
    words = ("quarantine", "drop", "--where", "capability=desk, code=BLANK", "--dry-run")
    found = desk(*words, "--json").document
    assert (True, 1) == (found["dry_run"], found["wanted"])
    assert "1 record would be dropped" in desk(*words).out
    left = desk("quarantine", "list", "--json").document["records"]
    assert records == left


def test_what_is_redriven_after_the_fix_is_done(desk: Ask) -> None:
    """All that is meant; the rest stays."""
    buried(desk, "blank", "blank", "broken")
    was = desk("jobs", "desk", "--json").document["jobs"][0]
    desk("ctl", "update_config", "desk", "fixed=true")
    done = desk("quarantine", "redrive", "--where", "code=BLANK", "--rate", "1000")
    assert (0, "2 of 2 redriven\n", "") == done
    left = desk("quarantine", "list", "--json").document["records"]
    assert ["HANDLER_ERROR"] == [record["code"] for record in left]
    one = ("desk", str(left[0]["sequence"]))
    found = desk("quarantine", "redrive", *one, "--json").document
    assert (1, 1, [], False) == tuple(
        found[field] for field in ("wanted", "moved", "stuck", "interrupted")
    )
    assert 3 == desk("quarantine", "redrive", *one).code

    def gained() -> tuple[int, ...]:
        now = desk("jobs", "desk", "--json").document["jobs"][0]
        return tuple(now[field] - was[field] for field in ("stored", "done", "quarantined"))

    wait_until(lambda: gained() == (3, 3, -3))
    assert [] == desk("quarantine", "list", "--json").document["records"]


def test_ctrl_c_leaves_the_rest_where_it_was(desk: Ask, crew: Cli) -> None:
    """Exit code 130, and how many were moved; each record is in one place."""
    buried(desk, *["blank"] * 4)
    words = ("quarantine", "drop", "--where", "capability=desk", "--rate", "0.01", "--json")
    started = crew.start(*words)

    def left() -> int:
        return len(desk("quarantine", "list", "--json").document["records"])

    wait_until(lambda: left() == 3)
    started.signal(signal.SIGINT)
    assert 130 == started.wait()
    found = json.loads(started.lines[0])
    assert (4, 1, 3, True) == tuple(
        found[field] for field in ("wanted", "moved", "untried", "interrupted")
    )
    assert 3 == left()
