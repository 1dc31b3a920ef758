"""What `agent99 run` shows of its agents while they run: logs, and metrics on a port."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Annotated

import msgspec
import typer

from agent99.agent import Mesh
from agent99.cli._exits import RefusalError
from agent99.cli._host import set_up_log

PORT_MAX = 65_535


class LogForm(StrEnum):
    """How a line of the log looks."""

    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """What is less important is not logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class ObserveOptions(msgspec.Struct, frozen=True):
    """Options of `agent99 run`: what is seen of the agents while they run."""

    log: Annotated[
        LogForm | None,
        typer.Option(
            "--log", help="Log what becomes of requests too, as lines for people or as JSON."
        ),
    ] = None
    log_level: Annotated[
        LogLevel | None,
        typer.Option(
            "--log-level", case_sensitive=False, help="The least that is logged; else info."
        ),
    ] = None
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port",
            metavar="N",
            min=0,
            max=PORT_MAX,
            help="Serve Prometheus metrics on 127.0.0.1:N; 0: a free port. Worker 2 takes N+1.",
        ),
    ] = None

    def words(self, place: int) -> list[str]:
        """Return the options of one worker; the first has place 0.

        Raises:
            RefusalError: there is no such port.
        """
        words: list[str] = []
        if self.log is not None:
            words += ["--log", self.log]
        if self.log_level is not None:
            words += ["--log-level", self.log_level]
        if self.metrics_port is not None:
            port = self.metrics_port and self.metrics_port + place
            if port > PORT_MAX:
                number = place + 1
                raise RefusalError(f"worker {number} would need --metrics-port {port}")
            words += ["--metrics-port", str(port)]
        return words


def set_up_logs(options: ObserveOptions, *, debug: bool) -> None:
    """Let log lines out on stderr, as they were asked for."""
    level = (options.log_level or LogLevel.INFO).upper()
    if options.log is None:
        set_up_log(debug=debug, level=level)
        return
    from agent99.observe.logs import set_up_logging

    set_up_logging(options.log.value, level=level, logger="")
    if debug:
        logging.getLogger("agent99").setLevel(logging.DEBUG)


@asynccontextmanager
async def observed(mesh: Mesh, options: ObserveOptions) -> AsyncGenerator[list[str]]:
    """Log and count what the mesh tells, meanwhile; gives the addresses of the metrics.

    Raises:
        UsageError: the port is taken, or a library is missing.
    """
    if options.log is not None:
        from agent99.observe.logs import log_records

        log_records(mesh.hooks)  # as long as the mesh lives
    if options.metrics_port is None:
        yield []
        return
    from agent99.observe.prometheus import MetricsServer

    async with MetricsServer(mesh.hooks, port=options.metrics_port) as server:
        yield [server.url]
