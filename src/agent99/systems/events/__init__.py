"""The audit log of a mesh: every stored event once, in a chain that shows any change.

Given:       the stored events of a mesh; the URL of a database.
Gives:       an agent that keeps them and answers for them; the log itself, its entries and whether
             they are what was once written.
May import:  errors clock ids settings envelope journal store groups agent agent99; msgspec
             sqlalchemy
Never:       changes what it has written, keeps an event twice, loads SQLAlchemy before it needs
             the database.
"""

from agent99.systems.events._anchors import Anchors
from agent99.systems.events._audit import (
    AuditAgent,
    AuditAnswer,
    AuditRecord,
    GetAuditLog,
    audit_url,
    reader_of,
    record_of,
)
from agent99.systems.events._log import AuditLog
from agent99.systems.events._query import Query
from agent99.systems.events._verify import Breach, Proof

__all__ = [
    "Anchors",
    "AuditAgent",
    "AuditAnswer",
    "AuditLog",
    "AuditRecord",
    "Breach",
    "GetAuditLog",
    "Proof",
    "Query",
    "audit_url",
    "reader_of",
    "record_of",
]
