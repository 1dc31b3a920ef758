"""The event bus of a mesh, and its audit log: each event once, in a chain that shows any change.

Given:       events and subscriptions; the stored events of a mesh; the URL of a database.
Gives:       an agent by which others publish, subscribe and look back; one that keeps what happened
             and answers for it; the log itself, and whether it is what was once written.
May import:  errors clock ids settings envelope journal store dispatch registry work groups
             agent projections schedules agent99; msgspec pyarrow sqlalchemy
Never:       loses what it has acknowledged, changes what it has written, keeps an event twice,
             loads SQLAlchemy before it needs the database, or pyarrow before it writes Parquet.
"""

from agent99.systems.events._anchors import Anchors
from agent99.systems.events._audit import (
    AuditAgent,
    AuditAnswer,
    AuditRecord,
    GetAuditLog,
    Logged,
    audit_url,
    reader_of,
    record_of,
)
from agent99.systems.events._bus import EventBusAgent
from agent99.systems.events._demo import ShopGuest
from agent99.systems.events._demo_figures import EventsFigures, rows_of, verdict_of
from agent99.systems.events._export import whole_file, write_lines, write_parquet
from agent99.systems.events._log import AuditLog
from agent99.systems.events._order_views import DailyRevenue, OrderSteps
from agent99.systems.events._query import Query
from agent99.systems.events._verify import Breach, Proof
from agent99.systems.events._views_agent import History, OrderViewsAgent, Revenue
from agent99.systems.events._words import (
    Events,
    GetEvents,
    Mode,
    Publish,
    Published,
    Subscribe,
    Subscribed,
    Subscription,
    Subscriptions,
)

__all__ = [
    "Anchors",
    "AuditAgent",
    "AuditAnswer",
    "AuditLog",
    "AuditRecord",
    "Breach",
    "DailyRevenue",
    "EventBusAgent",
    "Events",
    "EventsFigures",
    "GetAuditLog",
    "GetEvents",
    "History",
    "Logged",
    "Mode",
    "OrderSteps",
    "OrderViewsAgent",
    "Proof",
    "Publish",
    "Published",
    "Query",
    "Revenue",
    "ShopGuest",
    "Subscribe",
    "Subscribed",
    "Subscription",
    "Subscriptions",
    "audit_url",
    "reader_of",
    "record_of",
    "rows_of",
    "verdict_of",
    "whole_file",
    "write_lines",
    "write_parquet",
]
