"""Durable functions: steps with declared undo, which go on wherever their process dies.

Given:       methods marked with `@saga`; the journal of the mesh.
Gives:       each saga's end: an answer, or an error with everything undone; or stuck, and visible.
May import:  errors clock ids envelope wire journal dispatch registry work agent; msgspec
Never:       does twice what its journal has, goes on with what another instance owns.
"""

from agent99.saga._desk import Desk, Listing
from agent99.saga._door import SAGA_CANCELLED, SAGA_FAILED
from agent99.saga._drive import Drive
from agent99.saga._handle import Saga, Step, Undo
from agent99.saga._history import History, StepState
from agent99.saga._log import Place, SagaLog
from agent99.saga._mark import saga
from agent99.saga._outcome import PENDING, SAGA_STUCK
from agent99.saga._records import Finished, Started, Taken, Undone
from agent99.saga._view import SagaEvent, SagaView, StepView

__all__ = [
    "PENDING",
    "SAGA_CANCELLED",
    "SAGA_FAILED",
    "SAGA_STUCK",
    "Desk",
    "Drive",
    "Finished",
    "History",
    "Listing",
    "Place",
    "Saga",
    "SagaEvent",
    "SagaLog",
    "SagaView",
    "Started",
    "Step",
    "StepState",
    "StepView",
    "Taken",
    "Undo",
    "Undone",
    "saga",
]
