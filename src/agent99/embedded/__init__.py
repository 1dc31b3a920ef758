"""The nats-server from the wheel and its supervisor: start, find, share, stop.

Given:       settings: a project's state folder, and how the server should be.
Gives:       the address of a server that answers, held up while it is in use; EmbeddedServerError.
May import:  errors clock settings; msgspec
Never:       speaks NATS beyond "are you there", knows of agents, leaves a process behind.
"""

from agent99.embedded._control import (
    ServerInfo,
    ServerStatus,
    find_server,
    reset_server,
    server_logs,
    server_status,
    stop_server,
)
from agent99.embedded._server import EmbeddedServer, acquire_server
from agent99.embedded._temporary import temporary_server

__all__ = [
    "EmbeddedServer",
    "ServerInfo",
    "ServerStatus",
    "acquire_server",
    "find_server",
    "reset_server",
    "server_logs",
    "server_status",
    "stop_server",
    "temporary_server",
]
