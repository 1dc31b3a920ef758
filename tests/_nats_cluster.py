"""Three real nats-servers in one cluster, on loopback."""

from __future__ import annotations

import random
import socket
from pathlib import Path

from tests._nats_server import HOST, NatsServer

# Apart from the clients' ports, and like them below those of outgoing connections.
_ROUTE_PORTS = range(20_000, 28_000)
_random = random.SystemRandom()


class NatsCluster:
    """Servers `n0`, `n1` and so on, each with JetStream and routes to all others.

    They answer clients before they have elected anybody: ask for a stream until there is one.
    """

    def __init__(self, folder: Path, *, size: int = 3) -> None:
        ports = _free_ports(size)
        routes = ", ".join(f'"nats-route://{HOST}:{port}"' for port in ports)
        self.servers: dict[str, NatsServer] = {}
        try:
            for number, port in enumerate(ports):
                name = f"n{number}"
                config = (
                    f"server_name: {name}\n"
                    f'cluster {{ name: c, listen: "{HOST}:{port}", routes: [{routes}] }}\n'
                )
                self.servers[name] = NatsServer(folder / name, config=config)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"NatsCluster({list(self.servers.values())})"

    @property
    def url(self) -> str:
        """The addresses of all of them."""
        return ",".join(server.url for server in self.servers.values())

    def close(self) -> None:
        """End them all. Idempotent."""
        for server in self.servers.values():
            server.close()


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        port = _random.choice(_ROUTE_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found
