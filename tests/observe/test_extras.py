"""Optional libraries: loaded late, and missed in one sentence."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAMME = """
import sys
import agent99.observe
from agent99.errors import UsageError
assert not {{"opentelemetry", "prometheus_client"}} & set(sys.modules)
sys.modules[{library!r}] = None  # as if it were not installed
try:
    import agent99.observe.{adapter}
except UsageError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("adapter", "library", "extra"),
    [("prometheus", "prometheus_client", "metrics"), ("otel", "opentelemetry", "otel")],
)
def test_missing_library_is_one_sentence(adapter: str, library: str, extra: str) -> None:
    """An adapter without its library says which extra to install; the room needs none."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAMME.format(adapter=adapter, library=library)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    assert f"pip install '.[{extra}]' in a checkout" in done.stdout
    assert 1 == len(done.stdout.splitlines())
