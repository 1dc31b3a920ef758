"""What the registry says, put together with what the server and the agents say."""

from __future__ import annotations

from typing import Any

import pytest

from agent99.cli._probe import Probed
from agent99.cli._verdict import Finding, judge, make_rows, row_cells
from agent99.registry import Description, OperationInfo, Table, where

ONE, TWO = "11111111-0000", "22222222-0000"


def _description(instance: str, **changes: Any) -> Description:
    fields: dict[str, Any] = {
        "instance": instance,
        "name": "greeter",
        "capabilities": ("greeter",),
        "operations": (OperationInfo("greet"),),
        "metadata": {"region": "eu"},
        "state": "ready",
        "version": "1.0.0",
    }
    return Description(**{**fields, **changes})


def _find(
    descriptions: list[Description],
    server: Probed,
    *,
    operation: str = "greet",
    target: str = "greeter",
    only: str = "",
    direct: dict[str, Probed] | None = None,
) -> Finding:
    table = Table()
    table.replace_all(descriptions)
    said = table.explain(target, operation)
    wanted = where(only) if only else None
    probes = direct or {d.instance: Probed("answers", d.instance, 0.3) for d in descriptions}
    rows = make_rows(said, descriptions, probes, wanted)
    return judge(said, {operation or "greet": server}, rows, wanted)


@pytest.mark.parametrize(
    ("finding", "reachable", "part"),
    [
        (
            _find([_description(ONE), _description(TWO)], Probed("answers", TWO, 0.5)),
            True,
            "reaches one of 2 instances; the server handed the probe to greeter 22222222, which",
        ),
        (_find([_description(ONE)], Probed("nobody")), False, "died a moment ago"),
        (
            _find([_description(ONE)], Probed("silent"), direct={ONE: Probed("silent")}),
            False,
            "is stuck",
        ),
        (_find([], Probed("nobody"), target="greater"), False, "nobody offers"),
        (
            _find([_description(ONE)], Probed("nobody"), target="greater"),
            False,
            "did you mean 'greeter'?",
        ),
        (_find([], Probed("answers", ONE)), True, "Yet the server knows a listener"),
        (_find([], Probed("answers", "")), True, "an instance answers"),
        (
            _find([_description(ONE)], Probed("nobody"), operation="grete"),
            False,
            "did you mean 'greet'?",
        ),
        (
            _find([_description(ONE, state="paused")], Probed("nobody")),
            False,
            "Resume with: agent99 ctl resume greeter.",
        ),
        (
            _find([_description(ONE)], Probed("answers", ONE), only="region=us"),
            False,
            "None of 1 candidate passes the filter 'region=us'.",
        ),
        (
            _find([_description(ONE)], Probed("answers", ONE), only="region=eu"),
            True,
            "reaches one instance that fits the filter",
        ),
        (
            _find(
                [_description(ONE), _description(TWO)],
                Probed("answers", ONE),
                direct={ONE: Probed("answers", ONE), TWO: Probed("nobody")},
            ),
            True,
            "Listed, but not answering: greeter 22222222.",
        ),
        (
            _find(
                [_description(ONE), _description(TWO)],
                Probed("answers", ONE),
                direct={ONE: Probed("answers", ONE), TWO: Probed("silent")},
            ),
            True,
            "Listed, but not answering: greeter 22222222. About 1 of 2 requests will time out.",
        ),
        (
            _find(
                [_description(ONE), _description(TWO)],
                Probed("silent"),
                direct={ONE: Probed("answers", ONE), TWO: Probed("silent")},
            ),
            True,
            "The server handed the probe to one that is silent; others answer. Listed, but",
        ),
        (
            _find([_description(ONE)], Probed("silent")),
            True,
            "yet each that is listed answers: one was busy for a moment, or one hangs that",
        ),
        (
            _find(
                [_description(ONE, state="degraded", missing=("payment",))], Probed("answers", ONE)
            ),
            True,
            "Some are degraded: nobody offers payment.",
        ),
    ],
)
def test_the_verdict(finding: Finding, reachable: bool, part: str) -> None:
    """Each combination of the two sides has its own sentence."""
    assert part in finding.verdict
    assert reachable == finding.reachable


def test_an_operation_that_nobody_answers_is_named() -> None:
    """Without an operation each is probed."""
    description = _description(ONE, operations=(OperationInfo("greet"), OperationInfo("wave")))
    table = Table()
    table.put(description)
    said = table.explain("greeter")
    server = {"greet": Probed("answers", ONE), "wave": Probed("nobody")}
    rows = make_rows(said, [description], {}, None)
    assert "Not answered: wave." in judge(said, server, rows, None).verdict


def test_a_row_of_the_table() -> None:
    """It shows both sides."""
    finding = _find(
        [_description(ONE, state="degraded", missing=("x",)), _description(TWO)],
        Probed("answers", ONE),
        only="version>=1",
        direct={ONE: Probed("nobody")},
    )
    cells = {row.instance: row_cells(row) for row in finding.candidates}
    assert cells[ONE][2:] == ("degraded (missing x)", "1.0.0", "offers", "fits", "gone")
    assert cells[TWO][-1] == "-"
