"""What every test may use: real servers, a seed that replays, a watch on the event loop."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests._faults import fault  # noqa: F401 - a fixture
from tests._nats_server import NatsServer
from tests._postgres import Postgres, find_binaries

# A busy machine is no reason to fail; a failure prints what replays it. No phase that explains it:
# under coverage that takes minutes, and the watchdog's end hides the failure.
hypothesis.settings.register_profile(
    "house",
    deadline=None,
    print_blob=True,
    phases=[phase for phase in hypothesis.Phase if phase is not hypothesis.Phase.explain],
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("house")

BLOCKED_S_MAX = 2.0
"""A callback or a task's step longer than this fails its test: somebody blocks the event loop."""
TRACED_FACTOR = 3
"""Measuring coverage slows everything down; a machine that does more than tests, too."""

_seed_key = pytest.StashKey[int]()


_CROSSES = ({"memory", "postgresql"}, {"nats", "sqlite"})
"""Of a bus and a database: each is among the quick tests with one of the other."""


@pytest.hookimpl(tryfirst=True)  # before the marks choose
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to the slow tests every second pair of bus and database: neither knows the other."""
    for item in items:
        callspec: Any = getattr(item, "callspec", None)
        if callspec is None:
            continue
        words = {each for each in callspec.params.values() if isinstance(each, str)}
        if any(cross <= words for cross in _CROSSES):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Keep the garbage collector from the tests, and from what they import: all live to the end.

    With thousands of tests a full collection stops an event loop for a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """Give a real nats-server with JetStream, one per xdist worker, shared: do not end it.

    It has `.url` and `.port`, and no credential. Use names of your own (a random mesh): what other
    tests stored is still there.
    """
    # What streams may hold is set aside for them, empty as they are: more than a disk has.
    room = "jetstream { max_file_store: 10TB }"
    server = NatsServer(tmp_path_factory.mktemp("nats"), config=room)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _same_log_afterwards() -> Iterator[None]:
    """Leave the log as it was: a demo that is run in this process silences it for good."""
    log = logging.getLogger("agent99")
    level = log.level
    yield
    log.setLevel(level)


StartNatsServer = Callable[..., NatsServer]


@pytest.fixture
def start_nats_server(tmp_path: Path) -> Iterator[StartNatsServer]:
    """Give `start(config="", args=())`: a nats-server of the test's own, to kill and restart."""
    servers: list[NatsServer] = []

    def start(*, config: str = "", args: tuple[str, ...] = ()) -> NatsServer:
        server = NatsServer(tmp_path / f"nats-{len(servers)}", config=config, args=args)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Give a PostgreSQL server for the session; not installed, one skip (in CI a failure)."""
    binaries = find_binaries()
    if binaries is None:
        reason = "PostgreSQL is not installed: no `initdb` on PATH or under /usr"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    # Not pytest's own folder: only its owner may enter that, and the server is somebody else.
    folder = Path(tempfile.mkdtemp(prefix="agent99-postgres-"))
    server = Postgres(binaries, folder)
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.stop()  # what it holds is thrown away
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """Give the address of an empty database of PostgreSQL."""
    url = postgres.make_database()
    yield url
    postgres.give_back(url)


@pytest.fixture(scope="module")
def shared_postgres_url(postgres: Postgres) -> Iterator[str]:
    """Give the address of a database of PostgreSQL that the tests of one file share."""
    url = postgres.make_database()
    yield url
    postgres.give_back(url)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Give a seed for a randomised test; `SEED=n` replays, and a failure prints the one it had."""
    given = os.environ.get("SEED")
    number = int(given) if given else secrets.randbits(32)
    request.node.stash[_seed_key] = number
    return number


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Add to a failure the command that replays it."""
    outcome: Any = yield
    report = outcome.get_result()
    number = item.stash.get(_seed_key, None)
    if report.failed and number is not None:
        replay = f"SEED={number} pytest '{item.nodeid}'"
        report.sections.append(("seed", f"replay with: {replay}"))


@pytest.fixture(autouse=True)
def _loop_watch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that blocks its event loop. `@pytest.mark.may_block("why")` lets one do so."""
    if request.node.get_closest_marker("slow") or request.node.get_closest_marker("may_block"):
        yield
        return
    blocked: list[str] = []
    limit_s = BLOCKED_S_MAX * (TRACED_FACTOR if sys.gettrace() is not None else 1)
    run: Callable[[asyncio.Handle], None] = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        started_s = time.monotonic()
        run(handle)
        took_s = time.monotonic() - started_s
        if took_s > limit_s:
            blocked.append(f"{took_s:.2f} s in {handle!r}")

    monkeypatch.setattr(asyncio.Handle, "_run", timed)
    yield
    if blocked:
        pytest.fail("blocked the event loop: " + "; ".join(blocked), pytrace=False)
