"""The NATS wire and real servers: credentials, permissions, an old version, another loop."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent99.clock import SystemClock
from agent99.errors import (
    AuthenticationError,
    DeadlineExceededError,
    PermissionDeniedError,
    ServerUnavailableError,
    ServerVersionError,
)
from agent99.ids import SystemIds
from agent99.testing import check_wire
from agent99.wire import ConnectionState, Wire, WireOptions, open_wire
from tests._nats_server import NatsServer
from tests._wait import eventually, wait_until
from tests.wire.conftest import OpenWire

Start = Callable[..., NatsServer]

_now = SystemClock().monotonic_s
_OLD_SERVER = Path("/usr/sbin/nats-server")
_QUICK = WireOptions(reconnect_wait_s_min=0.01, reconnect_wait_s_max=0.05)

_PERMISSIONS = """
authorization {
  users = [
    { user: "all", password: "pw" }
    { user: "few", password: "p:w/@ %", permissions: {
        publish: ["open.>", "Mixed.Case.ok", "_INBOX.>"]
        subscribe: ["open.>", "_INBOX.tester.>"] } }
    { user: "deaf", password: "pw", permissions: { subscribe: ["open.>"] } }
  ]
}
"""
_FEW = "few:p%3Aw%2F%40%20%25"


def _with(server: NatsServer, credential: str) -> str:
    return server.url.replace("://", f"://{credential}@")


@pytest.mark.parametrize("credential", ["all:wrong", "nobody:pw", "token", ""])
async def test_wrong_credential(
    start_nats_server: Start, connect: OpenWire, credential: str
) -> None:
    """A wrong credential, or none, is an AuthenticationError at once; it is not shown."""
    server = await asyncio.to_thread(start_nats_server, config=_PERMISSIONS)
    url = _with(server, credential) if credential else server.url
    with pytest.raises(AuthenticationError) as caught:
        await connect(url)
    assert credential == "" or credential not in str(caught.value)


async def test_token(start_nats_server: Start, connect: OpenWire) -> None:
    """A token in the URL is percent-decoded and accepted."""
    server = await asyncio.to_thread(
        start_nats_server, config='authorization { token: "to/k en:@" }'
    )
    wire = await connect(_with(server, "to%2Fk%20en%3A%40"))
    await wire.flush()
    with pytest.raises(AuthenticationError):
        await connect(server.url)


async def test_denied_request(start_nats_server: Start, connect: OpenWire) -> None:
    """A request to a forbidden subject fails within a round trip; another one goes on."""
    server = await asyncio.to_thread(start_nats_server, config=_PERMISSIONS)
    wire, other = await connect(_with(server, _FEW)), await connect(_with(server, "all:pw"))
    other.subscribe(b"open.Slow", lambda _: None)
    await other.flush()
    fine = wire.request(b"open.Slow", b"", deadline_s=_now() + 0.3)
    denied = [wire.request(b"Mixed.Case.Not", b"", deadline_s=_now() + 5) for _ in range(2)]
    started = _now()
    for request in denied:
        with pytest.raises(PermissionDeniedError) as caught:
            await request
    assert _now() - started < 1
    assert ("publish to", "Mixed.Case.Not") == (caught.value.action, caught.value.subject)
    with pytest.raises(DeadlineExceededError):
        await fine


async def test_denied_publish_and_subscribe(start_nats_server: Start, connect: OpenWire) -> None:
    """A forbidden publish or subscribe is reported, and the link lives on."""
    server = await asyncio.to_thread(start_nats_server, config=_PERMISSIONS)
    wire = await connect(_with(server, _FEW))
    errors: list[Exception] = []
    wire.on_error(errors.append)
    wire.publish(b"closed", b"")
    wire.subscribe(b"closed.*", lambda _: None)
    wire.subscribe(b"closed", lambda _: None, queue=b"q")
    await wire.flush()
    assert ["publish to 'closed'", "subscribe to 'closed.*'", "subscribe to 'closed'"] == [
        str(error).split("allow to ")[1] for error in errors
    ]
    assert {PermissionDeniedError} == {type(error) for error in errors}
    assert 0 == wire.statistics().reconnects


async def test_denied_inbox(start_nats_server: Start, connect: OpenWire) -> None:
    """A connection that may not receive answers is refused where it starts."""
    server = await asyncio.to_thread(start_nats_server, config=_PERMISSIONS)
    with pytest.raises(PermissionDeniedError, match=r"subscribe to '_INBOX.tester."):
        await connect(_with(server, "deaf:pw"))
    with pytest.raises(PermissionDeniedError, match=r"subscribe to '_INBOX.other."):
        await connect(_with(server, _FEW), sender=b"other")


async def test_credential_changes(start_nats_server: Start, connect: OpenWire) -> None:
    """A credential that is no longer valid is reported; the wire is there when it is again."""
    config = 'authorization { user: "u", password: "one" }'
    server = await asyncio.to_thread(start_nats_server, config=config)
    wire = await connect(_with(server, "u:one"), options=_QUICK)
    errors: list[Exception] = []
    wire.on_error(errors.append)
    for text in (config.replace("one", "two"), config):
        server.kill()
        server._config = text
        await asyncio.to_thread(server.start)
        if text != config:
            await eventually(lambda: errors)
    await eventually(lambda: wire.state is ConnectionState.CONNECTED)
    assert {AuthenticationError} == {type(error) for error in errors}
    assert "one" not in str(errors[0]).replace("one of", "")


async def test_payload_limit_of_the_server(start_nats_server: Start, connect: OpenWire) -> None:
    """The limit is the server's own."""
    server = await asyncio.to_thread(start_nats_server, config="max_payload: 3000")
    wire = await connect(server.url)
    assert 3_000 == wire.payload_bytes_max


_TLS = """
tls {{ cert_file: "{folder}/cert.pem", key_file: "{folder}/key.pem" }}
"""


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Give a folder with a fresh certificate for 127.0.0.1 and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on this machine")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    names = ["-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    return tmp_path


async def test_tls(start_nats_server: Start, connect: OpenWire, certificate: Path) -> None:
    """A server that wants TLS gets it; a certificate that nobody vouches for is refused."""
    config = _TLS.format(folder=certificate)
    server = await asyncio.to_thread(start_nats_server, config=config)
    context = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    wire = await connect(server.url, options=WireOptions(tls=context))
    got: list[bytes] = []
    wire.subscribe(b"a", lambda message: got.append(message.payload))
    wire.publish(b"a", bytes(500_000))
    await wire.flush()
    assert [500_000] == [len(payload) for payload in got]
    for url in (server.url, server.url.replace("nats://", "tls://")):
        with pytest.raises(ServerUnavailableError, match="TLS failed"):
            await connect(url)


async def test_tls_where_there_is_none(nats_server: NatsServer, connect: OpenWire) -> None:
    """A `tls://` URL never falls back to plain text."""
    with pytest.raises(ServerUnavailableError, match="TLS"):
        await connect(nats_server.url.replace("nats://", "tls://"))


@pytest.fixture
def old_server(tmp_path: Path) -> Iterator[str]:
    """Give the URL of a nats-server that is too old."""
    if not _OLD_SERVER.exists():
        pytest.skip("no old nats-server on this machine")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(_OLD_SERVER), "-a", "127.0.0.1", "-p", str(port), "-l", str(tmp_path / "log")]
    process = subprocess.Popen(command)

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(answers)
        yield f"nats://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


async def test_old_server(old_server: str, connect: OpenWire) -> None:
    """A real old server is refused with a sentence that names both versions."""
    with pytest.raises(ServerVersionError, match=r"is version 2\.\d+\.\d+; agent99 needs 2.14.3"):
        await connect(old_server)


def test_uvloop(nats_server: NatsServer) -> None:
    """The whole contract holds on uvloop too."""
    uvloop = pytest.importorskip("uvloop")

    async def make(sender: bytes) -> Wire:
        return await open_wire(nats_server.url, sender=sender, clock=SystemClock(), ids=SystemIds())

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(check_wire(make))


def test_import_is_light() -> None:
    """Importing the room imports no optional dependency."""
    code = "import sys, agent99.wire; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    modules = set(done.stdout.split())
    assert set() == modules & {"uvloop", "nats", "typer", "rich", "sqlalchemy", "polars"}
