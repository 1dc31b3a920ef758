"""The fuzz targets: every seed ends well, and a broken promise is found."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

FUZZ = Path(__file__).parents[2] / "fuzz"
SEEDS = sorted(path for path in (FUZZ / "corpus").glob("*/*"))


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"fuzz_{name}", FUZZ / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


targets = _load("targets")


@pytest.mark.parametrize("seed", SEEDS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_seed_ends_well(seed: Path) -> None:
    """What the fuzzer begins with breaks no promise."""
    targets.TARGETS[seed.parent.name](seed.read_bytes())


def test_every_target_has_seeds_and_is_run() -> None:
    """The programme, the targets and the corpus name the same."""
    assert set(_load("fuzz").NAMES) == set(targets.TARGETS)
    assert {path.parent.name for path in SEEDS} == set(targets.TARGETS)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_any_bytes_end(name: str) -> None:
    """Without a fuzzer at hand: bytes at random, and seeds that are torn and glued."""
    seeds = [path.read_bytes() for path in SEEDS if path.parent.name == name]
    pieces = st.sampled_from(seeds).flatmap(
        lambda seed: st.tuples(st.integers(0, len(seed)), st.integers(0, len(seed))).map(
            lambda ends: seed[min(ends) : max(ends)]
        )
    )

    @given(st.lists(pieces | st.binary(max_size=40), max_size=4).map(b"".join))
    def check(data: bytes) -> None:
        targets.TARGETS[name](data)

    check()


def test_a_broken_promise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target can fail: a parser that forgets a call when it is cut is caught."""
    calls = targets._calls
    monkeypatch.setattr(
        targets, "_calls", lambda stream, step: calls(stream, step)[: -1 if step < 18 else None]
    )
    with pytest.raises(targets.Broken):
        targets.parser((FUZZ / "corpus" / "parser" / "headers").read_bytes())


def test_it_says_how_it_is_used() -> None:
    """`--help` needs no fuzzer."""
    done = subprocess.run(
        [sys.executable, str(FUZZ / "fuzz.py"), "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "--seconds" in done.stdout
