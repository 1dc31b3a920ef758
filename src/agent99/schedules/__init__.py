"""Append events at a moment, every so often, or by cron: over restarts of everything.

Given:       a topic, an event and a rule of moments; the journal of the mesh.
Gives:       each moment's event, stored once; UsageError, and what the journal raises.
May import:  errors clock ids envelope wire journal work agent; msgspec cronsim
Never:       keeps a moment in memory alone, elects anybody, handles an event.
"""

from agent99.schedules._rule import At, Cron, Every, Missed, Rule
from agent99.schedules._schedule import Schedule
from agent99.schedules._schedules import Schedules
from agent99.schedules._tally import SchedulesStatistics

__all__ = [
    "At",
    "Cron",
    "Every",
    "Missed",
    "Rule",
    "Schedule",
    "Schedules",
    "SchedulesStatistics",
]
