"""Work on stored events in the order of their keys, by as many members as there are just now.

Given:       a group's name, topics and handler; the journal of the mesh; perhaps a store.
Gives:       each event of a key to one member after the other, in order, at least once; with the
             store, each effect once; UsageError, and what the journal raises.
May import:  errors clock ids envelope wire journal store registry work agent; msgspec
Never:       hands out what another member owns, as far as it can know; acknowledges to a server.
"""

from agent99.groups._batch import Batch
from agent99.groups._batch_lane import Handler
from agent99.groups._broadcast import Broadcast
from agent99.groups._event import CloudEvent, Event, event_of
from agent99.groups._event_group import EventGroup
from agent99.groups._event_lane import EventHandler
from agent99.groups._group import Group
from agent99.groups._inspect import GroupState, inspect_group, list_groups
from agent99.groups._options import Active, EventOptions, GroupOptions, GroupStatistics
from agent99.groups._parts import reader_name
from agent99.groups._read import follow_events, read_events
from agent99.groups._reset import ResetPreview, delete_group, preview_reset, reset_group
from agent99.groups._start import Start, parse_start

__all__ = [
    "Active",
    "Batch",
    "Broadcast",
    "CloudEvent",
    "Event",
    "EventGroup",
    "EventHandler",
    "EventOptions",
    "Group",
    "GroupOptions",
    "GroupState",
    "GroupStatistics",
    "Handler",
    "ResetPreview",
    "Start",
    "delete_group",
    "event_of",
    "follow_events",
    "inspect_group",
    "list_groups",
    "parse_start",
    "preview_reset",
    "read_events",
    "reader_name",
    "reset_group",
]
