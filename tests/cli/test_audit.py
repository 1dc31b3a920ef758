"""The audit log from the command line."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from tests._wait import wait_until
from tests.cli._cli import Cli, Done

AUDIT = '''
from agent99.systems.events import AuditAgent


class Audit(AuditAgent):
    """Keeps what happens."""
'''

Ask = Callable[..., Done]


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Give a project whose audit log has three events."""
    cli = Cli(tmp_path_factory.mktemp("audit") / "project")
    cli.write("audit.py", AUDIT)
    try:
        cli.start("run", "audit.py").wait_line("^ready: ")
        for topic, key in (("order.placed", "7"), ("order.paid", "7"), ("stock.low", "tea")):
            assert 0 == cli.run("append", topic, "number=1", "--key", key).code
        wait_until(lambda: _database(cli).exists())
        wait_until(lambda: "3 entries" in cli.run("audit", "list").out)
        yield cli
    finally:
        cli.close()


def _database(cli: Cli) -> Path:
    return cli.folder / "state" / "audit" / "audit.db"


def test_a_list_is_narrowed_by_options(ask: Ask) -> None:
    """The oldest first; it says how many, and how to go on."""
    done = ask("audit", "list", "--type", "order.*")
    assert ["order.placed", "order.paid"] == [
        line.split()[3] for line in done.out.splitlines()[1:-1]
    ]
    assert "2 entries" in done.out
    assert "1 entry; there may be more: --after 1" in ask("audit", "list", "--limit", "1").out
    assert "1 entry" in ask("audit", "list", "--entity", "tea", "--newer", "1h").out
    assert "0 entries" in ask("audit", "list", "--actor", "nobody").out
    found = json.loads(ask("audit", "list", "--json", "--after", "2").out)
    assert (1, "stock.low") == (found["count"], found["entries"][0]["event_type"])


def test_a_sound_log_is_said_to_be(ask: Ask) -> None:
    """With its anchors, and without where the mesh is not to be asked."""
    done = ask("audit", "verify")
    assert (0, True) == (done.code, done.out.startswith("sound: 3 entries, "))
    proof = json.loads(ask("audit", "verify", "--offline", "--json").out)
    assert (3, 0, None) == (proof["entries"], proof["anchors"], proof["breach"])


def test_an_export_has_every_entry(ask: Ask, crew: Cli) -> None:
    """One document a line, with all that its hash is made of but the message's bytes."""
    done = crew.run("audit", "export")
    entries = [json.loads(line) for line in done.out.splitlines()]
    assert [1, 2, 3] == [entry["audit_id"] for entry in entries]
    assert entries[1]["previous"] == entries[0]["hash"]
    assert {"number": 1} == entries[2]["event"]


def test_an_export_to_a_file_says_how_much(crew: Cli, tmp_path: Path) -> None:
    """The same lines as on stdout, or a Parquet file."""
    lines, columns = tmp_path / "audit.jsonl", tmp_path / "audit.parquet"
    assert f"{lines}: 3 entries\n" == crew.run("audit", "export", str(lines)).out
    assert lines.read_text() == crew.run("audit", "export").out
    done = crew.run("audit", "export", "--format", "parquet", str(columns), "--json")
    assert {"file": str(columns), "entries": 3} == json.loads(done.out)
    frame = pl.read_parquet(columns)
    assert ["order.placed", "order.paid", "stock.low"] == frame["type"].to_list()
    assert {lines, columns} == set(tmp_path.iterdir())


def test_what_was_tampered_with_is_named(ask: Ask, crew: Cli, tmp_path: Path) -> None:
    """A copy of the database with one byte changed: exit code 1, and which entry."""
    copy = tmp_path / "copy.db"
    with sqlite3.connect(_database(crew)) as source, sqlite3.connect(copy) as target:
        source.backup(target)
        target.execute("DROP TRIGGER audit_no_update")
        target.execute("UPDATE audit_entries SET entity = '8' WHERE number = 2")
    target.close()
    source.close()
    done = ask("audit", "verify", "--store", f"sqlite:///{copy}")
    assert (1, True) == (done.code, "entry 2 (hash)" in done.out)


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("list", "--type", "a..b"), 2, "no topic pattern"),
        (("list", "--newer", "soon"), 2, "no time"),
        (("verify", "--store", "sqlite:///nowhere.db"), 3, "no audit log at nowhere.db"),
        (("export", "--format", "parquet"), 2, "name a file"),
        (("verify", "--store", "mysql://x/y"), 2, "mysql"),
    ],
)
def test_a_mistake_is_one_sentence(ask: Ask, words: tuple[str, ...], code: int, part: str) -> None:
    """And nothing is made where nothing was."""
    done = ask("audit", *words)
    assert (code, "") == (done.code, done.out)
    assert part in done.err
    assert not Path("nowhere.db").exists()
