"""What a fault campaign says of itself: done, expected, measured, with which seed, met or not.

    @pytest.mark.slow
    @pytest.mark.fault("F1", "kill -9 of one of three agents, 300 requests a second")
    async def test_it(fault: Fault, seed: int) -> None:
        ...
        fault.report(
            Figure("failed of the idempotent ones", failed, at_most=0),
            Figure("the last new request that reached it", last_s, "s", at_most=0.1),
        )

`-s` shows the figures. With `FAULTS=folder` in the environment each run leaves its figures there as
JSON; `make faults` makes `docs/reference/faults.md` of them.
"""

from __future__ import annotations

import os
from pathlib import Path
from zlib import crc32

import msgspec
import pytest


class Figure(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that was measured, and what it must be; a figure without bounds is only told."""

    what: str
    """Reads on with "at most 3 s": `noticed after`, `failed of the idempotent ones`."""
    measured: float
    unit: str = ""
    """Of the figure and its bounds: `s`, `MiB`, `%`."""
    at_most: float | None = None
    at_least: float | None = None
    """The same as `at_most`: exactly that."""
    why: str = ""
    """Why it is not met, where that is known and allowed; it makes the bound a wish."""

    @property
    def is_met(self) -> bool:
        """Tell whether it keeps its bounds."""
        return (self.at_most is None or self.measured <= self.at_most) and (
            self.at_least is None or self.measured >= self.at_least
        )

    def __str__(self) -> str:
        return f"{self.what}: {self.measured:.4g} {self.unit}".rstrip() + self._bounds()

    def _bounds(self) -> str:
        if self.at_most is None and self.at_least is None:
            return ""
        if self.at_most == self.at_least:
            text = f"exactly {self.at_most:g}"
        else:
            named = (("at least", self.at_least), ("at most", self.at_most))
            text = " and ".join(f"{word} {bound:g}" for word, bound in named if bound is not None)
        return f" ({text}; {'met' if self.is_met else self.why or 'MISSED'})"


class Run(msgspec.Struct, frozen=True, omit_defaults=True):
    """One run of a campaign."""

    fault: str
    """`F1` and so on."""
    done: str
    """What is broken, and how."""
    campaign: str
    """The test, without its parameters."""
    variant: str = ""
    """Its parameters; empty for none."""
    is_full: bool = False
    """With the full counts, not with the short form's."""
    seed: int | None = None
    """None: nothing is random."""
    figures: tuple[Figure, ...] = ()


class Fault:
    """Takes the figures of one campaign: it prints, keeps and checks them."""

    def __init__(self, run: Run, folder: str | None = None) -> None:
        self._run = run
        self._folder = folder

    def __repr__(self) -> str:
        return f"Fault({self._run.fault!r}, {self._run.done!r})"

    def report(self, *figures: Figure) -> None:
        """Say what was measured: once, at the end.

        Raises:
            AssertionError: a figure breaks its bounds, and nothing says why it may.
        """
        run = msgspec.structs.replace(self._run, figures=figures)
        seed = "" if run.seed is None else f" (seed {run.seed})"
        lines = [f"{run.fault}: {run.done}{seed}", *(f"  {figure}" for figure in figures)]
        print("\n" + "\n".join(lines))  # noqa: T201 - the figures are for whoever reads the output
        if self._folder:
            _keep(run, Path(self._folder))
        missed = [str(figure) for figure in figures if not figure.is_met and not figure.why]
        assert not missed, "; ".join(missed)


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Fault:
    """Take the figures of a campaign that is marked `fault`; to be reported once, at its end."""
    mark = request.node.get_closest_marker("fault")
    assert mark is not None, "mark it: @pytest.mark.fault('F1', 'what is done')"
    name, done = mark.args
    campaign, _, variant = request.node.nodeid.partition("[")
    uses_seed = "seed" in request.fixturenames
    run = Run(
        name,
        done,
        campaign,
        variant=variant.removesuffix("]"),
        is_full=request.node.get_closest_marker("chaos") is not None,
        seed=request.getfixturevalue("seed") if uses_seed else None,
    )
    return Fault(run, os.environ.get("FAULTS"))


def _keep(run: Run, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    test = run.campaign.rpartition("::")[2]
    name = f"{run.fault}-{test}" + (f"-{crc32(run.variant.encode()):08x}" if run.variant else "")
    (folder / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(run)))
