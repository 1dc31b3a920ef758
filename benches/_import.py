"""What `import agent99` costs above `import asyncio, msgspec`. Prints one JSON object."""

# ruff: noqa: E402, F401, I001 - the imports are what is measured

import time
import asyncio
import sys

import msgspec

_wall_s, _cpu_s = time.perf_counter(), time.process_time()
import agent99

_wall_s, _cpu_s = time.perf_counter() - _wall_s, time.process_time() - _cpu_s

OPTIONAL = (
    "cryptography",
    "nats",
    "opentelemetry",
    "polars",
    "prometheus_client",
    "psycopg",
    "pyarrow",
    "rich",
    "sqlalchemy",
    "typer",
    "uvloop",
)


def main() -> None:
    """Print what it took, and the optional dependencies that came with it."""
    loaded = [name for name in OPTIONAL if name in sys.modules]
    figures = {"wall_ms": _wall_s * 1e3, "cpu_ms": _cpu_s * 1e3, "optional": loaded}
    print(msgspec.json.encode(figures).decode())


if __name__ == "__main__":
    main()
