"""Clients of Redis, served by `agent99 cache serve --resp`."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

import pytest

from agent99.cli._cache_resp import RespChoice, resp_classes
from agent99.cli._exits import RefusalError
from agent99.systems.cache import RespAgent
from tests.cli._cli import Cli, Within


def test_clients_of_redis_and_agents_share_a_namespace(tmp_path: Path) -> None:
    """The port and the password are those that were given; Ctrl-C closes the connection."""
    cli = Cli(tmp_path / "project")
    secret = cli.write("secret", "open sesame\nnot this\n")
    words = ("--memory", "50MB", "--resp", "0", "--namespace", "sessions")
    try:
        serving = cli.start("cache", "serve", *words, "--resp-password-file", str(secret))
        told = serving.wait_line("clients of Redis: 127.0.0.1:")
        serving.wait_line("^ready: cache-node .*; resp on")
        port = re.findall(r"127\.0\.0\.1:(\d+)", told)[0]
        with (
            socket.create_connection(("127.0.0.1", int(port)), timeout=30) as client,
            client.makefile("rb") as answers,
        ):
            client.sendall(b"GET a\r\nAUTH 'open sesame'\r\nSET a 1\r\n")
            assert answers.readline().startswith(b"-NOAUTH ")
            assert [b"+OK\r\n"] * 2 == [answers.readline(), answers.readline()]
            got = cli.run("cache", "get", "a", "--raw", "-n", "sessions")
            assert (0, "1") == (got.code, got.out)
            serving.signal(signal.SIGINT)
            assert answers.read() == b""
        assert serving.wait() == 0
    finally:
        cli.close()


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        ("--resp-host ::1", 2, "--resp-host, --resp-password-file and --namespace need --resp"),
        ("--resp 65536", 2, "--resp"),
        ("--resp 0 --namespace a.b", 2, "'a.b' is no namespace"),
        ("--resp 0 --resp-password-file none", 2, "the password cannot be read"),
        ("--resp 0 --resp-host 0.0.0.0", 2, "open to others: set a password"),
    ],
)
def test_a_mistake_is_one_sentence(
    cli: Cli, within: Within, words: str, code: int, part: str
) -> None:
    """And an exit code."""
    done = within(cli)("cache", "serve", *words.split())
    assert part in done.err
    assert code == done.code


def test_the_options_become_the_agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file the password comes from the environment; without --resp nobody listens."""
    monkeypatch.setenv("AGENT99_RESP_PASSWORD", "from outside")
    assert [] == resp_classes(RespChoice())
    (made,) = resp_classes(RespChoice(resp=7, resp_host="::1", namespace="Shop"))
    agent = made()
    assert (7, "::1", "from outside") == (
        *(agent.options.port, agent.options.host),
        agent.options.password,
    )
    assert "shop" == agent.namespace
    assert RespAgent.info() == made.info()
    empty = tmp_path / "empty"
    empty.write_text("\nx")
    with pytest.raises(RefusalError, match="is empty"):
        resp_classes(RespChoice(resp=7, resp_password_file=empty))
