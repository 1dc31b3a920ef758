"""One running agent, and the mesh that hosts it: the programming model.

Given:       classes with operations; targets, payloads and types.
Gives:       agents that are found and answer; results, surveys, typed errors.
May import:  errors clock ids settings observe wire envelope embedded journal store dispatch
             registry work; msgspec
Never:       parses bytes of the protocol, stores anything of its own, reads a file.
"""

from agent99.agent._agent import Agent, host_of, link_of
from agent99.agent._binding import Binding, Duty, Host
from agent99.agent._blocking import Blocking
from agent99.agent._connect import connect
from agent99.agent._engine import Engine, NatsEngine, Parts, identity_of
from agent99.agent._gather import Answer, Survey
from agent99.agent._log import AgentLog
from agent99.agent._mesh import Mesh
from agent99.agent._operations import bound_operation, control, follow, job, on, operation
from agent99.agent._signature import Signature
from agent99.agent._targets import Named, Peer, Pick, Target, named, pick

__all__ = [
    "Agent",
    "AgentLog",
    "Answer",
    "Binding",
    "Blocking",
    "Duty",
    "Engine",
    "Host",
    "Mesh",
    "Named",
    "NatsEngine",
    "Parts",
    "Peer",
    "Pick",
    "Signature",
    "Survey",
    "Target",
    "bound_operation",
    "connect",
    "control",
    "follow",
    "host_of",
    "identity_of",
    "job",
    "link_of",
    "named",
    "on",
    "operation",
    "pick",
]
