"""What tests of agents need: a still clock, a link that breaks, the contracts of the ports.

Given:       a way to make an implementation of a port.
Gives:       silence, or AssertionError that names the broken rule.
May import:  errors clock ids envelope wire journal agent store saga; msgspec
Never:       imports a test framework.
"""

from agent99.testing._check_clock import check_clock
from agent99.testing._clock import ManualClock
from agent99.testing._engine import MemoryEngine
from agent99.testing._journal import JOURNAL_CHECKS, check_journal
from agent99.testing._journal_world import JournalWorld, MakeJournal
from agent99.testing._proxy import ChaosProxy
from agent99.testing._saga import SagaStage
from agent99.testing._wire import WIRE_CHECKS, check_wire
from agent99.testing._wire_world import MakeWire, WireWorld

__all__ = [
    "JOURNAL_CHECKS",
    "WIRE_CHECKS",
    "ChaosProxy",
    "JournalWorld",
    "MakeJournal",
    "MakeWire",
    "ManualClock",
    "MemoryEngine",
    "SagaStage",
    "WireWorld",
    "check_clock",
    "check_journal",
    "check_wire",
]
