"""Fuzz what reads the bytes of others: `make fuzz` (SECONDS=60 for each target, TARGET=one).

Each target runs in a process of its own, from the seeds in `fuzz/corpus`. What breaks a promise is
left in `fuzz/findings`, and this ends with 1; `make fuzz` again begins with it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
FINDINGS = HERE / "findings"
INPUT_BYTES_MAX = 8_192
RSS_MB_MAX = 512
INPUT_S_MAX = 1
GRACE_S = 60
NAMES = ("parser", "message", "body", "headers", "subject", "description", "header", "resp")


def main() -> int:
    """Run every target, or the one that is named."""
    asked = argparse.ArgumentParser(description="Fuzz what reads the bytes of others.")
    asked.add_argument("--seconds", type=int, default=60, help="for each target")
    asked.add_argument("--target", choices=NAMES, help="only this one")
    asked.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given, rest = asked.parse_known_args()
    if given.inside:
        _fuzz(given.target, rest)
        return 0
    broken = [
        name
        for name in ([given.target] if given.target else NAMES)
        if not _is_sound(name, given.seconds)
    ]
    for name in broken:
        print(f"{name}: broken; what breaks it is in {FINDINGS / name}", file=sys.stderr)
    return 1 if broken else 0


def _is_sound(name: str, seconds: int) -> bool:
    print(f"fuzzing {name} for {seconds} s", flush=True)
    findings = FINDINGS / name
    findings.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="agent99-fuzz-") as grown:
        command = [
            *(sys.executable, __file__, "--inside", "--target", name),
            *(f"-max_total_time={seconds}", f"-max_len={INPUT_BYTES_MAX}"),
            *(f"-rss_limit_mb={RSS_MB_MAX}", f"-timeout={INPUT_S_MAX}"),
            *(f"-artifact_prefix={findings}/", "-verbosity=0", "-print_final_stats=1"),
            *(grown, str(CORPUS / name), str(findings)),
        ]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=seconds + GRACE_S
        )
    executed = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line]
    print("  " + (executed[-1] if executed else "no figures"))
    if done.returncode != 0:
        print(done.stderr[-4_000:], file=sys.stderr)
        return False
    if not any(findings.iterdir()):
        findings.rmdir()
    return True


def _fuzz(name: str, arguments: list[str]) -> None:
    import atheris  # noqa: PLC0415 - only what runs the fuzzer needs it

    with atheris.instrument_imports(include=["agent99"]):
        import targets  # noqa: PLC0415 - instrumented while it is imported
    atheris.Setup([sys.argv[0], *arguments], targets.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
