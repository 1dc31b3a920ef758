"""`agent99 run --log --log-level --metrics-port`: what is seen of agents while they run."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import signal
import socket
from http.client import HTTPConnection
from typing import Any

import pytest

from agent99.cli._exits import RefusalError
from agent99.cli._observe import PORT_MAX, LogForm, LogLevel, ObserveOptions
from agent99.cli._workers import relay
from tests._wait import wait_until
from tests.cli._cli import TIMEOUT_S, Cli, Started, Within, children_of

TALKER = '''
import logging
import sys

from agent99 import Agent, Failure, operation


class Talker(Agent):
    capabilities = ("talker",)

    @operation
    async def say(self, word: str) -> str:
        self.log.info("saying %s", word)
        logging.getLogger("theirs").info("a library talks")
        print("printed", flush=True)
        return word

    @operation
    async def refuse(self) -> None:
        raise Failure("no", code="NO_WAY")

    @operation
    async def loaded(self) -> list[str]:
        """Tell which adapters, and which of their libraries, this process has loaded."""
        wanted = ("agent99.observe.", "prometheus_client", "opentelemetry")
        found = (name for name in sys.modules if name.startswith(wanted))
        return [name for name in found if not name.rpartition(".")[2].startswith("_")]
'''


def start(cli: Cli, *words: str, **environ: str) -> tuple[Started, str]:
    """Run the talker; returns its ready line too."""
    cli.write("talker.py", TALKER)
    running = cli.start("run", "talker.py", *words, **environ)
    return running, running.wait_line("^ready: ")


def end(running: Started) -> None:
    """Drain it."""
    running.signal(signal.SIGINT)
    assert 0 == running.wait()


def metrics_at(url: str) -> str:
    """Return what is served there."""
    found = re.fullmatch(r"http://(127\.0\.0\.1):(\d+)/metrics", url)
    assert found, url
    connection = HTTPConnection(found[1], int(found[2]), timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


@pytest.mark.slow
def test_without_options_nothing_is_loaded_and_lines_are_plain(cli: Cli) -> None:
    """Whoever does not look pays nothing for it."""
    running, ready = start(cli)
    assert [] == cli.run("call", "talker", "loaded").document
    assert 0 == cli.run("call", "talker", "say", "word=hi").code
    assert 1 == cli.run("call", "talker", "refuse").code
    end(running)
    assert "metrics" not in ready
    (said,) = (line for line in running.lines if "saying" in line)
    assert re.fullmatch(r"[\d:]{8} INFO    talker [0-9a-f]{8} \[[0-9a-f-]{36}\] saying hi", said)
    assert "NO_WAY" not in running.text


def test_a_log_as_json(cli: Cli) -> None:
    """Every line of the log is one object: the agents', the libraries', and what failed."""
    running, _ = start(cli, "--log", "json")
    loaded = cli.run("call", "talker", "loaded").document
    assert {"agent99.observe.logs", "agent99.observe.redact"} == set(loaded)
    cli.run("call", "talker", "say", "word=hi")
    failed = cli.run("call", "talker", "refuse", "--json").document["error"]
    running.wait_line("NO_WAY")
    end(running)
    lines = [json.loads(line) for line in running.lines if line.startswith("{")]
    said, library, refused = (
        next(line for line in lines if part in line["message"])
        for part in ("saying", "library", "NO_WAY")
    )
    assert ("saying hi", "INFO", "talker") == (said["message"], said["level"], said["agent"])
    assert said["trace_id"] == said["event_id"].replace("-", "")
    assert ("theirs", "INFO") == (library["logger"], library["level"])
    assert ("WARNING", failed["event_id"]) == (refused["level"], refused["event_id"])
    others = [line for line in running.lines if not line.startswith("{")]
    assert ["ready", "printed", "agent99", "agent99", "(end of output)"] == [
        line.partition(":")[0] for line in others
    ]


def test_a_log_for_people(cli: Cli) -> None:
    """The same in lines; at the level debug also what goes well."""
    running, _ = start(cli, "--log", "console", "--log-level", "DEBUG")
    cli.run("call", "talker", "say", "word=hi")
    running.wait_line(r"^[\d:.]{12} DEBUG +served talker say: OK after .* agent=talker instance=")
    running.wait_line(r"^[\d:.]{12} INFO +saying hi  agent=talker instance=[0-9a-f]{8} event_id=")
    end(running)


def test_a_level_without_a_form(cli: Cli) -> None:
    """Of the plain lines only the important ones are left."""
    running, _ = start(cli, "--log-level", "warning")
    cli.run("call", "talker", "say", "word=hi")
    running.wait_line("^printed$")
    end(running)
    assert "INFO" not in running.text


@pytest.mark.slow
def test_metrics_are_served_while_it_runs(cli: Cli) -> None:
    """Where, the ready line says; everything since the start is counted."""
    running, ready = start(cli, "--metrics-port", "0")
    found = re.search(r"; metrics at (\S+); Ctrl-C drains$", ready)
    assert found, ready
    for _ in range(3):
        cli.run("call", "talker", "say", "word=hi")
    cli.run("call", "talker", "refuse")
    text = metrics_at(found[1])
    counts = {
        (labels["operation"], labels["outcome"]): float(value)
        for line, value in re.findall(r"^agent99_requests_total\{(.*)\} (\S+)$", text, re.MULTILINE)
        if (labels := dict(re.findall(r'(\w+)="([^"]*)"', line)))["kind"] == "request"
    }
    assert {("say", "OK"): 3.0, ("refuse", "NO_WAY"): 1.0} == counts
    assert "agent99_connected 1.0" in text
    end(running)
    with pytest.raises(ConnectionRefusedError):
        metrics_at(found[1])


@pytest.mark.slow
def test_each_worker_serves_its_own_metrics(cli: Cli) -> None:
    """On ports in a row, told at the start; one that is started again serves where it did."""
    first = free_ports(2)
    words = ("--workers", "2", "--metrics-port", str(first), "--log", "json", "--json")
    cli.write("talker.py", TALKER)
    running = cli.start("run", "talker.py", *words)
    document = json.loads(running.wait_line('^{"mesh"'))
    urls = [f"http://127.0.0.1:{port}/metrics" for port in (first, first + 1)]
    assert urls == document["metrics"]
    for url in urls:
        assert "agent99_connected 1.0" in metrics_at(url)
    cli.run("call", "talker", "say", "word=hi")
    running.wait_line(r'^{"time".*"message":"saying hi"')  # without the worker's name before it
    running.wait_line(r"^\[talker/[12]\] printed$")
    os.kill(min(children_of(running.pid)), signal.SIGKILL)
    running.wait_line("was killed by SIGKILL; starting it again in 0.1 s")
    for url in urls:
        wait_until(lambda url=url: is_served(url), timeout_s=TIMEOUT_S)
    end(running)


def is_served(url: str) -> bool:
    """Return whether somebody serves metrics there, connected to a mesh."""
    with contextlib.suppress(OSError):
        return "agent99_connected 1.0" in metrics_at(url)
    return False


def free_ports(count: int) -> int:
    """Return the first of so many free ports in a row."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as one:
            first = one.getsockname()[1]
        try:
            for port in range(first, first + count):
                socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return first


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["alone", "with workers"])
def test_a_port_that_is_taken_is_told(cli: Cli, workers: tuple[str, ...]) -> None:
    """Once, and nothing runs: whoever asked for metrics there would look at another's."""
    cli.write("talker.py", TALKER)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = cli.run("run", "talker.py", "--metrics-port", str(port), *workers)
    assert (2, "", 1) == (done.code, done.out, len(done.err.splitlines())), done.err
    assert f"metrics cannot be served on 127.0.0.1:{port}: " in done.err


def test_a_missing_library_is_one_sentence(cli: Cli) -> None:
    """It says what to install."""
    cli.write("talker.py", TALKER)
    cli.write("prometheus_client.py", "raise ImportError('as if it were not installed')\n")
    path = os.pathsep.join((str(cli.folder), cli.environ.get("PYTHONPATH", "")))
    done = cli.run("run", "talker.py", "--metrics-port", "0", PYTHONPATH=path)
    assert (2, "", 1) == (done.code, done.out, len(done.err.splitlines())), done.err
    assert "metrics need prometheus-client: install agent99 with its extra 'metrics'" in done.err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--log", "xml"), "'xml' is not one of 'console', 'json'"),
        (("--log-level", "loud"), "'loud' is not one of 'debug', 'info', 'warning', 'error'"),
        (("--metrics-port", "70000"), "--metrics-port"),
        (("--metrics-port", "65535", "--workers", "2"), "worker 2 would need --metrics-port 65536"),
    ],
)
def test_what_it_does_not_understand_is_one_sentence(
    cli: Cli, within: Within, words: tuple[str, ...], part: str
) -> None:
    """Before anything runs."""
    done = within(cli)("run", "nowhere.py", *words)
    assert (2, 1) == (done.code, len(done.err.splitlines()))
    assert part in done.err


def test_the_words_of_a_worker() -> None:
    """As they were given; ports are counted on from the first, but for one that is any."""
    whole = ObserveOptions(LogForm.JSON, LogLevel.ERROR, 9100)
    assert ["--log", "json", "--log-level", "error", "--metrics-port", "9102"] == whole.words(2)
    assert ["--metrics-port", "0"] == ObserveOptions(metrics_port=0).words(2)
    assert [] == ObserveOptions().words(2)
    assert str(PORT_MAX) == ObserveOptions(metrics_port=PORT_MAX).words(0)[1]
    with pytest.raises(RefusalError, match="worker 2 would need"):
        ObserveOptions(metrics_port=PORT_MAX).words(1)


@pytest.mark.parametrize(("bare", "expected"), [(b"{", b'{"a":1}\n[x] b\n'), (b"", None)])
async def test_lines_of_json_go_without_a_prefix(bare: bytes, expected: Any) -> None:
    """Else nobody could read them; without that wish every line has it."""
    stream, sink = asyncio.StreamReader(), io.BytesIO()
    stream.feed_data(b'{"a":1}\nb')
    stream.feed_eof()
    await relay(stream, sink, b"[x] ", bare=bare)
    assert (expected or b'[x] {"a":1}\n[x] b\n') == sink.getvalue()
