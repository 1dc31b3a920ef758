"""What the events of a whole shop came to, for programmes and for people. Pure."""

from __future__ import annotations

import msgspec

from agent99.groups import GroupState


class EventsFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the events of a run came to."""

    ok: bool
    events: int
    """In the mesh's log, each once."""
    repeats: int
    """That an outbox sent twice; they are kept as such."""
    audit_entries: int
    audit_sound: bool
    audit_head: str
    """The hash of the chain's end."""
    anchors: int
    """Ends of the chain that the mesh remembers."""
    days: int
    orders: int
    """Confirmed, by the projection."""
    revenue_pence: int
    """Gross, by the projection; the books must say the same."""
    books_pence: int
    rebuilt: bool
    """Both projections were built anew, while the shop worked and at the end, and are the same."""
    generations: int
    best_day: str
    best_day_pence: int
    an_order: tuple[str, ...]
    """The topics of one order's history."""
    groups: tuple[GroupState, ...]
    findings: tuple[str, ...]


def rows_of(figures: EventsFigures) -> list[tuple[str, str]]:
    """Return the figures in words."""
    how = "sound" if figures.audit_sound else "not sound"
    return [
        ("events in the log", f"{figures.events:,}"),
        ("  that were stored twice", f"{figures.repeats:,}"),
        ("audit entries", f"{figures.audit_entries:,}"),
        ("  their chain", f"{how}, head {figures.audit_head[:12]}, {figures.anchors:,} anchors"),
        ("orders confirmed, by the projection", f"{figures.orders:,}"),
        ("revenue, by the projection", _pounds(figures.revenue_pence)),
        ("revenue, by the books", _pounds(figures.books_pence)),
        ("days with a sale", f"{figures.days:,}"),
        ("  the best", f"{figures.best_day}: {_pounds(figures.best_day_pence)}"),
        ("built anew, live and at the end", "identical" if figures.rebuilt else "different"),
        ("one order", " → ".join(figures.an_order)),
    ]


def verdict_of(figures: EventsFigures) -> str:
    """Return in a sentence whether all is well."""
    if figures.ok:
        return (
            "Every event of every order is in the audit log, once and unchanged; the shop's books"
            " close by it, and the projections say the same, to the penny."
        )
    return f"The events do not agree: {len(figures.findings)} kinds of difference."


def _pounds(pence: int) -> str:
    return f"£{pence / 100:,.2f}"
