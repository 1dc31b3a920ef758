"""The commands that look at a mesh and ask it, against one that is up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli._cli import Cli, Done


@pytest.mark.parametrize(
    ("words", "out"),
    [
        ("call greeter greet name=Ada", '"Hello, Ada!"\n'),
        ("call HELLO_WORLD greet", '"Hello, World!"\n'),
        ("call --name greeter greet name=Bo --timeout 3", '"Hello, Bo!"\n'),
        ("call greeter greet name=Ada --json", '"Hello, Ada!"\n'),
        ("call echo n=3 name=Ada tags=[1,2]", '{"n":3,"name":"Ada","tags":[1,2]}\n'),
        ('call echo --json-payload {"a":1} b=2', '{"a":1,"b":2}\n'),
        ("call greeter crunch n=10", "45\n"),
        ("call greeter wait seconds=0", '"waited"\n'),
    ],
)
def test_call_prints_the_result_as_json(ask: Any, words: str, out: str) -> None:
    """A result, and nothing else, on stdout."""
    assert Done(0, out, "") == ask(*words.split())


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        ("call greeter refuse", 1, "not today (NOT_TODAY"),
        ("call greeter breaks", 1, "the operation raised ValueError: oh (HANDLER_ERROR"),
        ("call greeter greet name=3", 2, "to send text that looks like JSON write name="),
        ("call greeter greet name=[] --json-payload 7", 2, "--json-payload must be an object"),
        ("call greeter greet Ada", 2, "'Ada' is no name=value, such as name=Ada"),
        ("call greeter gr.eet", 2, "'gr.eet' is no operation"),
        ("call a*b greet", 2, "'a*b' is no capability"),
        ("call greeter greet --timeout 0", 2, "timeout"),
        ("call greeter", 3, "there are: breaks, crunch, freeze, greet, refuse, wait"),
        ("call greeter grete", 3, "did you mean 'greet'?"),
        ("call greter greet", 3, "nobody offers capability 'greter'; did you mean 'greeter'?"),
        ("call --name echoo request", 3, "did you mean 'echo'?"),
        ("call greeter wait seconds=9 --timeout 0.2", 4, "no answer to 'greeter wait' within 0.2"),
        ("call greeter greet --mesh other", 3, "nobody offers capability 'greeter'"),
        ("call greeter greet --mesh a.b", 2, "'a.b' is no mesh"),
        ("call greeter greet --url http://x", 2, "no NATS URL"),
        ("call greeter greet --url nats://127.0.0.1:1", 5, "no NATS server answers at"),
        ("survey nobody_here greet", 3, "there is no agent, instance or capability 'nobody_here'"),
        ("survey greeter refuse", 1, ""),
        ("info gretr", 3, "did you mean 'greeter'"),
        ("ctl pause", 2, "say whom to pause: an agent's name, an instance, or all"),
        ("ctl pause hand=left", 2, "say whom to pause"),
        ("ctl pause nobody", 3, "there is no agent or instance 'nobody'; there are: echo, greeter"),
        ("ctl pause hello_world", 3, "it is a capability of greeter"),
        ("ctl greeter pause", 3, "did you mean agent99 ctl pause greeter?"),
        ("survey greeter greet --wanted 3", 1, "3 were wanted, and 2 results came of 2 that were"),
        ("info zzz", 3, "there are: echo, greeter, hello_world"),
        ("survey zzz", 3, "there are: echo, greeter, hello_world"),
        ("ctl update_config greeter greting=Hi", 1, ""),
        ("ctl wave all hand=right", 1, ""),
        ("why greter", 3, ""),
        ("why greeter greet --where region", 2, "is no filter"),
        ("why greeter greet --timeout 0", 2, "--timeout is a number of seconds above 0"),
        ("demo nothing", 2, "nothing"),
        ("demo shop --decline-rate 2", 2, "--decline-rate"),
        ("nothing", 2, "nothing"),
        ("call --nothing", 2, "--nothing"),
    ],
)
def test_a_mistake_is_one_sentence_and_an_exit_code(
    ask: Any, words: str, code: int, part: str
) -> None:
    """No traceback; the sentence says what would help."""
    done = ask(*words.split())
    assert part in done.err
    assert "Traceback" not in done.err
    assert code == done.code


@pytest.mark.parametrize(
    ("words", "warning"),
    [
        ("call greeter greet nam=Ada", "greet has no field 'nam'; did you mean 'name'?"),
        ("call --name greeter greet nam=Ada", "greet has no field 'nam'; did you mean 'name'?"),
        ("survey greeter greet x=1 name=Bo", "greet has no field 'x'; it has: name"),
        ("call greeter greet name=Ada", ""),
        ("call echo nam=Ada", ""),
    ],
)
def test_a_field_that_nobody_reads_is_told(ask: Any, words: str, warning: str) -> None:
    """The agent ignores it: only the command line can see the slip."""
    done = ask(*words.split())
    assert 0 == done.code
    assert (f"agent99: warning: {warning}\n" if warning else "") == done.err


def test_an_error_as_json(ask: Any) -> None:
    """With --json stdout has one document for an error too."""
    done = ask("call", "greeter", "refuse", "--json")
    error = {"code": "NOT_TODAY", "message": "not today", "details": {"day": "Monday"}}
    found = done.document["error"]
    assert isinstance(found.pop("event_id"), str)
    assert {**error, "retryable": False} == found


def test_debug_shows_the_traceback(ask: Any) -> None:
    """For those who want it."""
    assert "Traceback" in ask("call", "greeter", "refuse", "--debug").err


def test_an_instance_can_be_called(ask: Any) -> None:
    """By its whole UUID."""
    instances = ask("ps", "--json").document["instances"]
    greeter = next(i["instance"] for i in instances if i["name"] == "greeter")
    assert ask("call", greeter, "greet", "name=Ada").out == '"Hello, Ada!"\n'


def test_ps_shows_every_instance(ask: Any) -> None:
    """With what it lacks, and where it runs."""
    done = ask("ps", "--json")
    found = done.document
    assert ["echo", "echo", "greeter", "greeter"] == [i["name"] for i in found["instances"]]
    echo = found["instances"][0]
    assert ("degraded", ["missing_thing"], "2.1.0") == (
        echo["state"],
        echo["missing"],
        echo["version"],
    )
    assert "@" not in found["url"]
    text = ask("ps").out
    assert "degraded (missing missing_thing)" in text
    assert "4 instances of 2 agents on mesh 'main' at nats://127.0.0.1:" in text


def test_ps_of_an_empty_mesh(ask: Any) -> None:
    """It says so, and that is no failure."""
    done = ask("ps", "--mesh", "empty")
    assert done.out.startswith("no agents on mesh 'empty' at nats://")
    assert done.code == 0


@pytest.mark.parametrize("what", ["greeter", "hello_world"])
def test_info_describes_an_agent(ask: Any, what: str) -> None:
    """Operations with their schemas; both instances say the same, so it stands once."""
    text = ask("info", what).out
    assert text.startswith("greeter 0.1.0 (server)\n  Greets people by name.\n")
    assert "    greet(name?) (idempotent)\n      Say hello.\n" in text
    assert "    wait(seconds)\n" in text
    assert '"seconds":{"type":"number"}' in text
    assert text.count("  instance ") == 2
    found = ask("info", what, "--json").document["instances"]
    assert [{"region": "eu"}] * 2 == [instance["metadata"] for instance in found]


def test_info_of_an_instance_by_the_beginning_of_its_uuid(ask: Any) -> None:
    """As `ps` shows it."""
    instance = ask("ps", "--json").document["instances"][0]["instance"]
    assert ask("info", instance[:8]).out.count("  instance ") == 1


def test_survey_asks_every_instance(ask: Any) -> None:
    """And says who answered what."""
    done = ask("survey", "greeter", "greet", "name=Ada", "--json")
    found = done.document
    assert (0, 2, ["Hello, Ada!"] * 2) == (
        done.code,
        found["asked"],
        [answer["result"] for answer in found["answers"]],
    )
    assert "2 of 2 answered" in ask("survey", "greeter", "greet").out
    assert "NOT_TODAY" in ask("survey", "greeter", "refuse").out
    silent = ask("survey", "greeter", "wait", "seconds=9", "--timeout", "0.2")
    assert (1, 2) == (silent.code, silent.out.count("silent"))


def test_survey_stops_when_enough_have_answered(ask: Any) -> None:
    """--wanted N: fewer are a failure."""
    assert ask("survey", "greeter", "greet", "--wanted", "1").code == 0
    assert ask("survey", "greeter", "greet", "--wanted", "3").code == 1


def test_why_explains_whom_a_request_reaches(ask: Any) -> None:
    """The registry's word beside the server's and the agents' own."""
    done = ask("why", "greeter", "greet", "--json")
    found = done.document
    assert (0, True, "reachable") == (done.code, found["reachable"], found["reason"])
    assert found["server"]["greet"]["interest"] == "answers"
    assert ["answers", "answers"] == [row["probe"]["interest"] for row in found["candidates"]]
    assert "reaches one of 2 instances" in ask("why", "greeter", "greet").out


def test_why_runs_nothing(ask: Any) -> None:
    """A probe is refused at the door: no operation has run, however often one asks."""

    def counts(field: str) -> list[int]:
        answers = ask("ctl", "status", "greeter", "--json").document["answers"]
        return sorted(answer["result"]["operations"][field] for answer in answers)

    before, errors, refused = counts("requests"), counts("errors"), counts("refused")
    for operation in ("refuse", "wait", ""):
        ask("why", "greeter", *([operation] if operation else []))
    assert before == counts("requests")
    assert errors == counts("errors")
    assert sum(refused) + 3 * 2 <= sum(counts("refused"))  # each instance at least, each time


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("why greter", "nobody offers capability 'greter'; did you mean 'greeter'?"),
        ("why greeter grete", "did you mean 'greet'?"),
        ("why greeter greet --where region=us", "passes the filter 'region=us'"),
        ("why greeter", "server: greeter wait: answered by"),
        ("why greeter greet --where region=eu", "2 instances that fits the filter"),
        ("why echo request", "Some are degraded: nobody offers missing_thing."),
    ],
)
def test_why_says_it_in_a_sentence(ask: Any, words: str, part: str) -> None:
    """Near misses, filters, operations."""
    assert part in ask(*words.split()).out


def test_pause_and_resume(ask: Any) -> None:
    """A paused agent takes nothing, says so, and is back after resume."""
    assert "2 of 2 applied" in ask("ctl", "pause", "greeter").out
    try:
        done = ask("call", "greeter", "greet")
        assert (3, True) == (done.code, "not taking requests" in done.err)
        assert "Resume with: agent99 ctl resume greeter." in ask("why", "greeter", "greet").out
        refused = ask("survey", "greeter", "greet", "--json")
        message = "of 2 that offer 'greeter' none takes requests now (paused)"
        assert refused.err == f"agent99: {message}; agent99 ctl resume greeter\n"
        assert refused.document["error"]["message"].startswith(message)
        states = [i["state"] for i in ask("ps", "--json").document["instances"]]
        assert states.count("paused") == 2
    finally:
        assert ask("ctl", "resume", "greeter", "--json").document["applied"] == 2
    assert ask("call", "greeter", "greet").code == 0


def test_update_config_is_checked_as_a_whole(ask: Any) -> None:
    """An unknown setting is refused by each instance, with those that there are."""
    done = ask("ctl", "update_config", "greeter", "greting=Hi")
    assert "there are: greeting" in done.out
    assert "0 of 2 applied" in done.out
    try:
        assert ask("ctl", "update_config", "greeter", "greeting=Hi").code == 0
        assert ask("call", "greeter", "greet").out == '"Hi, World!"\n'
    finally:
        ask("ctl", "update_config", "greeter", "greeting=Hello")


def test_status_of_everybody(ask: Any) -> None:
    """It is what `ctl status` asks without a target."""
    text = ask("ctl", "status").out
    names = [line.split()[0] for line in text.splitlines()[1:5]]
    assert ["echo", "echo", "greeter", "greeter"] == names  # as `ps` has them
    shown = [i["instance"] for i in ask("ps", "--json").document["instances"]]
    answers = ask("ctl", "status", "--json").document["answers"]
    assert shown == [answer["instance"] for answer in answers]
    assert "4 of 4 applied" in text
    assert ["REQUESTS", "ERRORS", "REFUSED", "IN", "FLIGHT"] == text.split()[4:9]
    assert '{"greeting":"Hello"}' in text


def test_an_action_that_only_some_have(ask: Any) -> None:
    """How many applied it, and who did not."""
    done = ask("ctl", "wave", "all", "hand=right")
    assert "2 of 4 applied" in done.out
    assert '"waves the right hand"' in done.out
    assert "UNKNOWN_OPERATION" in done.out


def test_an_instance_alone_is_steered(ask: Any) -> None:
    """By the beginning of its UUID."""
    instances = ask("ps", "--json").document["instances"]
    greeter = next(i["instance"] for i in instances if i["name"] == "greeter")
    assert "1 of 1 applied" in ask("ctl", "wave", greeter[:8]).out


def test_lists_and_versions(ask: Any) -> None:
    """What there is."""
    assert "shop" in ask("demo", "list").out
    assert "shop" in ask("demo", "list", "--json").document["demos"]
    assert ask("version").out.startswith("agent99 ")
    assert "msgspec" in ask("version", "--json").document


@pytest.mark.parametrize(
    "words",
    [
        ("call", "greeter", "greet", "name=Ada"),
        ("survey", "greeter", "greet"),
        ("ps",),
        ("info", "greeter"),
        ("why", "greeter"),
        ("ctl", "status"),
        ("top", "--once", "--interval", "0.2"),
        ("server", "status"),
    ],
    ids=" ".join,
)
def test_it_is_a_programme_too(crew: Cli, words: tuple[str, ...]) -> None:
    """Each command in a process of its own: one JSON document on stdout, nothing on stderr."""
    done = crew.run(*words, "--json")
    assert (0, "") == (done.code, done.err)
    assert json.loads(done.out)
    assert len(done.out.splitlines()) == 1


def test_a_payload_from_stdin(crew: Cli) -> None:
    """`--json-payload -` reads it."""
    done = crew.run("call", "echo", "--json-payload", "-", stdin='{"a": [1, 2]}')
    assert (0, '{"a":[1,2]}\n') == (done.code, done.out)
