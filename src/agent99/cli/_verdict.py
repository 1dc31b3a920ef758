"""Put together what the registry says and what the server and the agents say. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from agent99.cli._probe import Probed
from agent99.cli._show import count, short
from agent99.registry import Description, Explanation, Where


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate, from both sides."""

    name: str
    instance: str
    version: str
    state: str
    """As the registry has it."""
    offers: bool
    """Whether it has the operation asked for."""
    suspect: bool
    """Whether its process is in doubt."""
    missing: tuple[str, ...]
    """What it uses and does not find."""
    fits: bool | None
    """Whether it passes the filter; None: there is none."""
    probe: Probed | None
    """What it said itself; None: there were too many to ask each."""

    @property
    def takes(self) -> bool:
        """Whether the registry's word and the filter let it take the request."""
        return self.offers and self.state in ("ready", "degraded") and self.fits is not False


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The whole explanation; `agent99 why --json` prints it."""

    target: str
    kind: str
    operation: str
    reachable: bool
    """Whether a request would be taken."""
    reason: str
    """The registry's word: `reachable`, `nobody`, `unknown_operation` or `paused`."""
    verdict: str
    """The explanation in a sentence or two."""
    server: dict[str, Probed]
    """By operation: who listens according to the server, and who answered."""
    candidates: tuple[Row, ...]
    operations: tuple[str, ...]
    """What the candidates can be asked."""
    near: tuple[str, ...]
    """What may have been meant."""


def make_rows(
    said: Explanation,
    known: Sequence[Description],
    direct: Mapping[str, Probed],
    wanted: Where | None,
) -> tuple[Row, ...]:
    """Return the candidates of an explanation with the filter's and their own word."""
    described = {description.instance: description for description in known}
    return tuple(
        Row(
            name=candidate.name,
            instance=candidate.instance,
            version=candidate.version,
            state=candidate.state,
            offers=candidate.offers,
            suspect=candidate.suspect,
            missing=candidate.missing,
            fits=None if wanted is None else wanted.matches(described[candidate.instance]),
            probe=direct.get(candidate.instance),
        )
        for candidate in said.candidates
        if candidate.instance in described
    )


def judge(
    said: Explanation, server: Mapping[str, Probed], rows: Sequence[Row], wanted: Where | None
) -> Finding:
    """Return the finding: the two sides and what follows."""
    takers = [row for row in rows if row.takes]
    interests = {probed.interest for probed in server.values()}
    heard = "answers" in interests or ("silent" in interests and bool(_answering(takers)))
    reachable = heard and (wanted is None or bool(takers))
    return Finding(
        target=said.target,
        kind=said.kind,
        operation=said.operation,
        reachable=reachable,
        reason=said.reason,
        verdict=" ".join(_sentences(said, server, rows, wanted)),
        server=dict(server),
        candidates=tuple(rows),
        operations=said.operations,
        near=said.near,
    )


def _sentences(
    said: Explanation, server: Mapping[str, Probed], rows: Sequence[Row], wanted: Where | None
) -> list[str]:
    takers = [row for row in rows if row.takes]
    interests = {probed.interest for probed in server.values()}
    if said.reason != "reachable":
        sentences = [said.message if said.message.endswith("?") else f"{said.message}."]
        if said.reason == "paused":
            sentences.append(f"Resume with: agent99 ctl resume {rows[0].name if rows else 'all'}.")
        if "answers" in interests:
            who = next(p.instance for p in server.values() if p.interest == "answers")
            sentences.append(
                f"Yet the server knows a listener, and {_who(who, rows)} answers: it is just coming"
                " or going, or the registry is behind; a request would reach it now."
            )
        return sentences
    if wanted is not None and not takers:
        return [f"None of {count(len(rows), 'candidate')} passes the filter {wanted.text!r}."]
    if "answers" not in interests:
        if "silent" in interests and _answering(takers):
            return [_partly_silent(takers), *_doubts(takers)]
        return [_unanswered(takers, silent="silent" in interests)]
    sentences = [_reached(said, server, rows, takers)]
    sentences += _doubts(takers)
    return sentences


def _unanswered(takers: Sequence[Row], *, silent: bool) -> str:
    many = count(len(takers), "instance")
    if silent:
        return (
            f"The registry lists {many} and the server knows listeners, but no probe was answered:"
            " who got it is stuck (its event loop is blocked, or its process is stopped)."
        )
    return (
        f"The registry lists {many}, but the server knows no listener: a process died a moment ago"
        " (the registry forgets it within 10 s), or is leaving."
    )


def _partly_silent(takers: Sequence[Row]) -> str:
    if not _silent(takers):
        return (
            "The server handed the probe to one that did not answer in time, yet each that is"
            " listed answers: one was busy for a moment, or one hangs that the registry has"
            " given up, and keeps its place until its process ends. Requests to it time out."
        )
    return "The server handed the probe to one that is silent; others answer."


def _answering(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.probe is not None and row.probe.interest == "answers"]


def _silent(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.probe is not None and row.probe.interest == "silent"]


def _reached(
    said: Explanation, server: Mapping[str, Probed], rows: Sequence[Row], takers: Sequence[Row]
) -> str:
    quiet = sorted(verb for verb, probed in server.items() if probed.interest != "answers")
    probed = next(p for p in server.values() if p.interest == "answers")
    what = f"{said.target} {said.operation}".strip()
    fit = " that fits the filter" if any(row.fits for row in takers) else ""
    many = f"one of {len(takers)} instances" if len(takers) > 1 else "one instance"
    sentence = (
        f"A request for {what!r} reaches {many}{fit}; the server"
        f" handed the probe to {_who(probed.instance, rows)}, which answered in"
        f" {probed.took_ms} ms."
    )
    return f"{sentence} Not answered: {', '.join(quiet)}." if quiet else sentence


def _doubts(takers: Sequence[Row]) -> list[str]:
    sentences: list[str] = []
    lost = [row for row in takers if row.probe is not None and row.probe.interest != "answers"]
    if lost:
        shown = ", ".join(f"{row.name} {short(row.instance)}" for row in lost)
        sentences.append(f"Listed, but not answering: {shown}.")
    if silent := _silent(takers):
        sentences.append(f"About {len(silent)} of {len(takers)} requests will time out.")
    missing = sorted({capability for row in takers for capability in row.missing})
    if missing:
        sentences.append(f"Some are degraded: nobody offers {', '.join(missing)}.")
    return sentences


def _who(instance: str, rows: Sequence[Row]) -> str:
    name = next((row.name for row in rows if row.instance == instance), "an instance")
    return f"{name} {short(instance)}".strip()


def row_cells(row: Row) -> tuple[str, ...]:
    """Return a row for a table: agent, instance, state, version, operation, filter, probe."""
    state = f"{row.state} (missing {', '.join(row.missing)})" if row.missing else row.state
    fits = {None: "-", True: "fits", False: "fails"}[row.fits]
    probe = "-"
    if row.probe is not None:
        probe = row.probe.interest
        if probe == "answers":
            probe = f"answers, {row.probe.took_ms} ms"
        elif probe == "nobody":
            probe = "gone"
    return (
        row.name,
        short(row.instance),
        f"{state}, suspect" if row.suspect else state,
        row.version,
        "offers" if row.offers else "lacks",
        fits,
        probe,
    )
