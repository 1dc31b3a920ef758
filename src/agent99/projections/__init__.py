"""Tables that are what all stored events so far make of them, rebuilt while they are read.

Given:       a class that says what an event does to its tables; a mesh, a store.
Gives:       the tables, each event counted once; generations of them, one after the other, and
             readers that never see one go back; LogIncompleteError, UsageError.
May import:  errors clock ids envelope journal store groups agent; msgspec
Never:       shows a generation before it has all that its readers saw, drops an event unseen.
"""

from agent99.projections._options import (
    EventFailure,
    GenerationStatus,
    ProjectionOptions,
    ProjectionStatus,
)
from agent99.projections._projection import Projection
from agent99.projections._projector import Projector
from agent99.projections._tables import Tables

__all__ = [
    "EventFailure",
    "GenerationStatus",
    "Projection",
    "ProjectionOptions",
    "ProjectionStatus",
    "Projector",
    "Tables",
]
