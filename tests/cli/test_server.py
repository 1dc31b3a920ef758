"""`agent99 server`, and what commands say when there is no mesh."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli._cli import TIMEOUT_S, Cli, Within
from tests.cli._programmes import CREW

SOURCES = str(Path(__file__).parents[2] / "src")


@pytest.mark.parametrize(
    "words",
    [
        ("call", "greeter", "greet"),
        ("survey", "greeter", "greet"),
        ("ps",),
        ("info", "greeter"),
        ("why", "greeter"),
        ("ctl", "status"),
    ],
    ids=" ".join,
)
def test_without_a_mesh_a_command_says_where_it_looked(
    cli: Cli, within: Within, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """It starts nothing, and says what would."""
    run = within(cli)
    monkeypatch.setenv("AGENT99_MESH", "blue")
    done = run(*words)
    state = cli.folder / "state"
    assert 5 == done.code
    assert done.err == (
        f"agent99: no mesh is up: looked for mesh 'blue' of the project {cli.folder}"
        f" (state folder {state}); start one with `agent99 run FILE`, or set AGENT99_URL\n"
    )
    assert not state.exists()


@pytest.mark.slow
def test_the_life_of_the_server(cli: Cli) -> None:
    """Status, logs, stop and reset, in words and as JSON."""
    assert 5 == cli.run("server", "status").code
    assert {"stopped": False} == cli.run("server", "stop", "--json").document
    cli.write("crew.py", CREW)
    running = cli.start("run", "crew.py", AGENT99_LINGER_S="60")
    running.wait_line("^ready: ")
    text = cli.run("server", "status").out
    assert "nats-server 2." in text
    assert "used by 1 process\n" in text
    assert "3 streams" in text
    document = cli.run("server", "status", "--json").document
    assert (True, 1, 3) == (document["running"], document["users"], document["streams"])
    assert "@" not in document["url"]
    assert "Server is ready" in cli.run("server", "logs").out
    assert 2 == len(cli.run("server", "logs", "-n", "2", "--json").document["lines"])
    running.signal(signal.SIGINT)
    assert 0 == running.wait()
    assert "stopped\n" == cli.run("server", "stop").out
    refused = cli.run("server", "reset")
    assert (2, True) == (refused.code, "say --yes" in refused.err)
    assert (cli.folder / "state" / "store").exists()
    assert "the store is empty\n" == cli.run("server", "reset", "--yes").out
    assert not (cli.folder / "state" / "store").exists()


def test_status_says_when_another_server_is_named(cli: Cli) -> None:
    """The project's own is then not used; no credential is shown."""
    done = cli.run("server", "status", AGENT99_URL="nats://me:secret@example:4222")
    assert "not used: this project's mesh is at nats://example:4222" in done.out
    assert "secret" not in done.out


def test_without_typer_one_sentence_says_how_to_get_it(cli: Cli, tmp_path: Path) -> None:
    """The core alone has no command line."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "typer.py").write_text("raise ModuleNotFoundError('no', name='typer')\n")
    path = os.pathsep.join([str(hidden), os.environ.get("PYTHONPATH", "")])
    done = cli.run("version", PYTHONPATH=path)
    sentence = (
        "agent99: the command line needs typer: install agent99 with its extra 'cli':"
        " pip install '.[cli]' in a checkout\n"
    )
    assert (2, "", sentence) == (done.code, done.out, done.err)


@pytest.mark.parametrize("library", ["msgspec", "typer"])
def test_ctrl_c_before_anything_is_imported(cli: Cli, tmp_path: Path, library: str) -> None:
    """It is one sentence too, whichever import it breaks off."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / f"{library}.py").write_text("raise KeyboardInterrupt\n")
    environ = {**cli.environ, "PYTHONPATH": os.pathsep.join([str(hidden), SOURCES])}
    command = [sys.executable, "-P", "-c", "import agent99_command as c; c.main()", "version"]
    done = subprocess.run(
        command, cwd=cli.folder, env=environ, capture_output=True, text=True, check=False
    )
    assert (130, "", "agent99: interrupted\n") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
@pytest.mark.parametrize(
    ("words", "unbuffered"),
    [
        (["version"], ""),
        (["version"], "1"),
        (["version", "--json"], "1"),
        (["--help"], ""),
        (["ps", "--json"], ""),
    ],
)
def test_an_output_that_cannot_be_written(cli: Cli, words: list[str], unbuffered: str) -> None:
    """One sentence and exit code 1, however Python buffers; no second failure at its end."""
    command = [sys.executable, "-P", "-m", "agent99", *words]
    environ = {**cli.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command,
            cwd=cli.folder,
            env=environ,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    sentence = "agent99: the system refuses: No space left on device\n"
    assert (1, sentence) == (done.returncode, done.stderr)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("ps", "--bogus"), "no such option: --bogus"),
        (("bogus",), "no such command 'bogus'"),
        (("call",), "missing argument"),
        (("run", "x.py", "--count", "0"), "invalid value for '--count' / '-c': 0 is not in"),
    ],
)
def test_words_that_cannot_be_parsed(
    cli: Cli, within: Within, words: tuple[str, ...], part: str
) -> None:
    """One sentence that says where help is; with --json one document as well."""
    run = within(cli)
    done = run(*words)
    assert (2, "", 1) == (done.code, done.out, len(done.err.splitlines()))
    assert done.err.startswith(f"agent99: {part}")
    assert done.err.endswith("--help` explains\n")
    if len(words) > 1:
        error = run(*words, "--json").document["error"]
        assert ("USAGE", False) == (error["code"], error["retryable"])
        assert error["message"].startswith(part)


def test_the_version_is_an_option_too(cli: Cli) -> None:
    """`agent99 --version` prints what `agent99 version` prints."""
    assert cli.run("version") == cli.run("--version")


def test_a_reader_that_has_seen_enough_is_no_error(cli: Cli) -> None:
    """`agent99 … | head -1` ends quietly."""
    process = subprocess.Popen(
        [sys.executable, "-m", "agent99", "version"],
        cwd=cli.folder,
        env=cli.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stderr:
        process.stdout.close()
        assert (1, b"") == (process.wait(TIMEOUT_S), process.stderr.read())
