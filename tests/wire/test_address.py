"""Server addresses, and the server's version."""

from __future__ import annotations

import pytest

from agent99.errors import UsageError
from agent99.wire._address import Address, parse_address, parse_addresses
from agent99.wire._options import is_version_accepted


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("nats://host", Address("host", 4222)),
        ("host:1234", Address("host", 1234)),
        ("localhost", Address("localhost", 4222)),
        ("tls://host:1", Address("host", 1, is_tls=True)),
        ("nats://[::1]:5", Address("::1", 5)),
        ("nats://u:p@host:1", Address("host", 1, user="u", password="p")),
        ("nats://u%40x:p%3A%2F%20@host:1", Address("host", 1, user="u@x", password="p:/ ")),
        ("nats://u:@host:1", Address("host", 1, user="u")),
        ("nats://to%2Fken@host:1/", Address("host", 1, token="to/ken")),
    ],
)
def test_parse(url: str, expected: Address) -> None:
    """A URL is read, credentials percent-decoded."""
    assert expected == parse_address(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nats://",
        "http://secret@host",
        "nats://u:secret@host:port",
        "nats://u:secret@host:99999",
        "nats://u:secret@host/path",
        "nats://u:secret@[::1",
        "nats://u:secret@:4222",
    ],
)
def test_refused(url: str) -> None:
    """What cannot be read is refused, and the error never shows the credential."""
    with pytest.raises(UsageError) as caught:
        parse_address(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_shown() -> None:
    """What is shown has no credential."""
    assert "nats://host:1" == parse_address("nats://user:secret@host:1").shown
    assert "Address('tls://[::1]:1')" == repr(parse_address("tls://secret@[::1]:1"))


def test_several() -> None:
    """Several URLs come as a sequence or with commas; doubles count once."""
    expected = (Address("a", 1), Address("b", 2))
    assert expected == parse_addresses("nats://a:1, nats://b:2,a:1")
    assert expected == parse_addresses(["nats://a:1", "b:2"])
    for none in ([], ["nats://h:1"] * 0, [f"h:{port}" for port in range(1, 70)]):
        with pytest.raises(UsageError):
            parse_addresses(none)


def test_sibling() -> None:
    """A server of the same cluster is reached with the same credential."""
    address = parse_address("tls://u:p@host:1")
    assert Address("other", 9, is_tls=True, user="u", password="p") == address.sibling("other:9")
    assert address.sibling("other:port") is None


@pytest.mark.parametrize(
    "version", ["2.14.3", "2.14.4", "2.15.0", "2.15.1-RC.2", "3.0.0-beta", "v2.15.1", "10.0.0"]
)
def test_version(version: str) -> None:
    """A new enough server is accepted, pre-releases of later ones too."""
    assert is_version_accepted(version)


@pytest.mark.parametrize(
    "version", ["2.14.2", "2.14.3-RC.1", "2.9.10", "1.4.1", "", "2", "x.y.z", "2.14", "two"]
)
def test_old_version(version: str) -> None:
    """An older server is refused, and so is one that does not say."""
    assert not is_version_accepted(version)
