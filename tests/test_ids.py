"""Identifiers: their form, that none comes twice, and that a seed replays."""

from __future__ import annotations

import subprocess
import sys
import threading
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.ids import Ids, SeededIds, SystemIds

MANY = 2_000
"""Several of the blocks that are drawn at once."""


@pytest.mark.parametrize("ids", [SystemIds(), SeededIds(7)], ids=repr)
def test_uuid_is_version_4(ids: Ids) -> None:
    """A UUID has the version and the variant of RFC 9562, in lower case."""
    for _ in range(MANY):
        text = ids.uuid()
        parsed = UUID(text)
        assert (4, RFC_4122, text) == (parsed.version, parsed.variant, str(parsed))


@pytest.mark.parametrize("ids", [SystemIds(), SeededIds(7)], ids=repr)
def test_token_is_128_bits_in_hexadecimal(ids: Ids) -> None:
    """A token is 32 lower-case hexadecimal digits."""
    for _ in range(MANY):
        token = ids.token()
        assert (32, token) == (len(token), b"%032x" % int(token, 16))


@pytest.mark.parametrize("ids", [SystemIds(), SeededIds(7)], ids=repr)
def test_nothing_comes_twice(ids: Ids) -> None:
    """Tokens and UUIDs do not repeat, and share no bits with each other."""
    tokens = [ids.token().decode() for _ in range(MANY)]
    uuids = [ids.uuid().replace("-", "") for _ in range(MANY)]
    assert 2 * MANY == len({*tokens, *uuids})
    tails = {text[20:] for text in (*tokens, *uuids)}
    assert 2 * MANY == len(tails)


@pytest.mark.parametrize("ids", [SystemIds(), SeededIds(7)], ids=repr)
def test_every_free_bit_is_drawn(ids: Ids) -> None:
    """Each bit of a token, and each free bit of a UUID, is sometimes 0 and sometimes 1."""
    tokens = [int(ids.token(), 16) for _ in range(MANY)]
    uuids = [UUID(ids.uuid()).int for _ in range(MANY)]
    fixed = (0xF << 76) | (0x3 << 62)
    everything = (1 << 128) - 1
    assert everything == _varying(tokens)
    assert everything & ~fixed == _varying(uuids)


@pytest.mark.parametrize("ids", [SystemIds(), SeededIds(7)], ids=repr)
def test_fraction_is_even_over_its_range(ids: Ids) -> None:
    """A fraction is at least 0, below 1, and in each tenth about as often as in the others."""
    tenths = [0] * 10
    for _ in range(10 * MANY):
        fraction = ids.fraction()
        assert 0.0 <= fraction < 1.0
        tenths[int(fraction * 10)] += 1
    # Some 2,000 each, with a standard deviation of 42: eight of those are chance to nobody.
    assert all(abs(count - MANY) < 340 for count in tenths), tenths


@given(seed=st.integers(0, 2**64))
def test_seed_replays(seed: int) -> None:
    """The same seed gives the same ids in the same order, another seed gives others."""
    first, second, other = SeededIds(seed), SeededIds(seed), SeededIds(seed + 1)
    drawn = [(first.uuid(), first.token(), first.fraction()) for _ in range(3)]
    assert drawn == [(second.uuid(), second.token(), second.fraction()) for _ in range(3)]
    assert drawn[0] != (other.uuid(), other.token(), other.fraction())


def test_fork_draws_anew() -> None:
    """A forked child and its parent draw different ids, although the parent had a block in hand."""
    programme = """
import os
from agent99.ids import SystemIds

ids = SystemIds()
SystemIds().token()  # collected before the fork: what it left behind does no harm
ids.token()
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    os.write(writer, b"".join(ids.token() for _ in range(64)))
    os._exit(0)
os.waitpid(child, 0)
theirs = os.read(reader, 64 * 32)
ours = b"".join(ids.token() for _ in range(64))
cut = lambda text: {text[at : at + 32] for at in range(0, len(text), 32)}
print(len(cut(theirs)), len(cut(ours)), len(cut(theirs) & cut(ours)))
"""
    done = subprocess.run(
        [sys.executable, "-c", programme], check=True, capture_output=True, text=True, timeout=60
    )
    assert "64 64 0" == done.stdout.strip()


def test_threads_share_a_source() -> None:
    """Threads that draw from one source at once get different ids, and no error."""
    ids = SystemIds()
    drawn: list[list[bytes]] = [[] for _ in range(4)]
    start = threading.Barrier(len(drawn))

    def draw(tokens: list[bytes]) -> None:
        start.wait()
        tokens.extend(ids.token() for _ in range(MANY))

    threads = [threading.Thread(target=draw, args=(tokens,)) for tokens in drawn]
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval_s)
    assert 4 * MANY == len({token for tokens in drawn for token in tokens})


def test_repr_says_what_it_is() -> None:
    """A source says what it is, and a seeded one which seed replays it."""
    assert ("SystemIds()", "SeededIds(7)") == (repr(SystemIds()), repr(SeededIds(7)))


def _varying(numbers: list[int]) -> int:
    """Return the bits that are not the same in all numbers."""
    ones, zeros = 0, 0
    for number in numbers:
        ones |= number
        zeros |= ~number
    return ones & zeros
