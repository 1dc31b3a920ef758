"""The distributed cache from the command line: serve, nodes, stats, get, set, delete."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from agent99.cli._cache_serve import ServeOptions, node_class, parse_size
from agent99.cli._exits import RefusalError
from agent99.systems.cache import CacheNodeAgent
from tests.cli._cli import Cli, Done

Ask = Callable[..., Done]
READY = "^ready: cache-node "


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Give a project whose mesh has one node of the cache."""
    cli = Cli(tmp_path_factory.mktemp("cache") / "project")
    try:
        cli.start("cache", "serve", "--memory", "50MB").wait_line(READY)
        yield cli
    finally:
        cli.close()


# --- keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "out", "kind"),
    [
        ("hello", '"hello"\n', "text"),
        ('{"pence": 250}', '{"pence":250}\n', "json"),
        ("17", "17\n", "json"),
        ('"17"', '"17"\n', "text"),
        ("null", "null\n", "json"),
        ("", '""\n', "text"),
    ],
)
def test_what_was_set_is_got(ask: Ask, value: str, out: str, kind: str) -> None:
    """A value is JSON where it is JSON, else text, and comes back as JSON."""
    assert (0, "set: a key\n", "") == ask("cache", "set", "a key", value)
    assert (0, out, "") == ask("cache", "get", "a key")
    document = ask("cache", "get", "a key", "--json").document
    assert (kind, None, "default") == (
        document["kind"],
        document["expires_at"],
        document["namespace"],
    )


def test_bytes_go_in_and_out_as_they_are(crew: Cli) -> None:
    """With `--raw` nothing is read as JSON, and nothing is added."""
    assert 0 == crew.run("cache", "set", "raw", "-", "--raw", stdin="17\n").code
    command = [sys.executable, "-P", "-m", "agent99", "cache", "get", "raw", "--raw"]
    done = subprocess.run(
        command, cwd=crew.folder, env=crew.environ, capture_output=True, timeout=30, check=True
    )
    assert b"17\n" == done.stdout
    assert '"MTcK"\n' == crew.run("cache", "get", "raw").out


def test_raw_bytes_of_text_and_json(crew: Cli) -> None:
    """`get --raw` writes what is stored: text as UTF-8, anything else as JSON."""
    for key, value, raw in (("text", "grün", "grün"), ("list", "[1, 2]", "[1,2]")):
        crew.run("cache", "set", key, value)
        assert raw == crew.run("cache", "get", key, "--raw").out


def test_a_time_to_live(ask: Ask) -> None:
    """`--ttl` says when it ends."""
    before = datetime.now(UTC)
    ask("cache", "set", "short", "1", "--ttl", "5m")
    ends = datetime.fromisoformat(ask("cache", "get", "short", "--json").document["expires_at"])
    assert 290 < (ends - before).total_seconds() < 310
    refused = ask("cache", "set", "short", "1", "--ttl", "5")
    assert (2, True) == (refused.code, "'5' is no time such as 30s" in refused.err)


def test_deleting_by_name_by_tag_and_by_prefix(ask: Ask) -> None:
    """Each way takes what it names, in its namespace alone, and says how many there were."""
    where = ("--namespace", "shop")
    for name in ("user:1", "user:2", "tea", "rice"):
        ask("cache", "set", name, "1", *where, "--tag", "all", "--tag", name[0])
    ask("cache", "set", "user:1", "1")
    assert "deleted 2 keys\n" == ask("cache", "delete", "--prefix", "user:", *where).out
    assert "deleted 1 key\n" == ask("cache", "delete", "tea", "nothing", *where).out
    done = ask("cache", "delete", "--tag", "all", *where, "--json")
    assert {"namespace": "shop", "deleted": 1} == done.document
    assert 0 == ask("cache", "get", "user:1").code


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        ("get nothing", 3, "the cache has no key 'nothing' in namespace 'default'"),
        ("delete nothing", 3, "the cache has no key 'nothing'"),
        ("delete --tag nothing", 3, "with tag 'nothing'"),
        ("delete", 2, "say which keys: by their names, by --tag, or by --prefix"),
        ("delete a --tag b", 2, "say which keys"),
        ("get a --namespace a.b", 2, "'a.b' is no namespace"),
        ("serve --memory much", 2, "'much' is no size such as 256MB"),
        ("serve --memory 999kB", 2, "a node needs a megabyte at least"),
        ("serve --weight 17", 2, "--weight"),
        ("serve --replicas 4", 2, "--replicas"),
    ],
)
def test_a_mistake_is_one_sentence(ask: Ask, words: str, code: int, part: str) -> None:
    """And an exit code."""
    done = ask("cache", *words.split())
    assert part in done.err
    assert code == done.code


# --- nodes ----------------------------------------------------------------------------------------


def test_nodes_and_stats_agree(ask: Ask) -> None:
    """What one node has is what all have, where there is one; counts grow with what is asked."""
    ask("cache", "set", "counted", "1")
    before = ask("cache", "stats", "--json").document
    ask("cache", "get", "counted")
    ask("cache", "get", "uncounted")
    after = ask("cache", "stats", "--json").document
    assert (1, 0, 1) == (after["nodes"], after["silent"], after["hits"] - before["hits"])
    assert 1 == after["misses"] - before["misses"]
    found = ask("cache", "nodes", "--json").document
    (node,) = found["nodes"]
    assert ("ready", 256, 0) == (node["state"], node["owned"], node["copied"])
    assert (after["keys"], 50_000_000) == (node["stats"]["cache_size"], after["memory_max"])
    lines = ask("cache", "nodes").out.splitlines()
    assert ["INSTANCE", "STATE", "WEIGHT"] == lines[0].split()[:3]
    assert lines[-1].startswith("1 node on mesh 'main' at nats://")
    assert "hit ratio" in ask("cache", "stats").out


def test_without_nodes_there_is_nothing_to_show(ask: Ask) -> None:
    """That is no failure; to read or write is, and the sentence says what to start."""
    for what in ("nodes", "stats"):
        done = ask("cache", what, "--mesh", "empty")
        assert (0, True) == (done.code, done.out.startswith("no cache nodes on mesh 'empty'"))
    for words in (("get", "a"), ("set", "a", "1"), ("delete", "a")):
        done = ask("cache", *words, "--mesh", "empty")
        assert (3, True) == (done.code, "`agent99 cache serve`" in done.err)


@pytest.mark.slow
def test_a_node_that_ends_hands_over(cli: Cli) -> None:
    """Ctrl-C at the node that has everything: the other one has it, and the node says ready."""
    first = cli.start("cache", "serve")
    first.wait_line(READY)
    for number in range(5):
        cli.run("cache", "set", f"key {number}", str(number))
    second = cli.start("cache", "serve", "--weight", "2", "--json")
    second.wait_line('"cache-node"')
    first.signal(signal.SIGINT)
    assert 0 == first.wait()
    found = [cli.run("cache", "get", f"key {number}") for number in range(5)]
    assert [Done(0, f"{number}\n", "") for number in range(5)] == found, first.text
    (node,) = cli.run("cache", "nodes", "--json").document["nodes"]
    assert (2.0, 256) == (node["weight"], node["owned"])


@pytest.mark.parametrize(
    ("text", "size"),
    [("256MB", 256_000_000), ("1.5 gb", 1_500_000_000), ("512MiB", 512 << 20), ("2TB", 2 * 10**12)],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    """Decimal units, and binary ones."""
    assert size == parse_size(text)


@pytest.mark.parametrize("text", ["", "1", "MB", "-1MB", "1e9B", "1MBB", "٣MB", "1PB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """Rather than guessed."""
    with pytest.raises(RefusalError, match="is no size such as"):
        parse_size(text)


def test_the_options_become_the_nodes() -> None:
    """The agent that is hosted is a cache node by name, with what was given."""
    node = node_class(ServeOptions(memory="2MB", weight=2.0, replicas=3))()
    assert isinstance(node, CacheNodeAgent)
    assert (2_000_000, 2.0, 3) == (node.memory_bytes, node.weight, node.replicas)
    assert CacheNodeAgent.info() == type(node).info()
