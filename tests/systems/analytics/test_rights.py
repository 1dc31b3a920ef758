"""With permissions on, who ingests, keeps and asks needs the rights that the guide lists alone."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path

import msgspec

from agent99 import Mesh, Settings
from agent99.groups import Event
from agent99.systems.analytics import (
    Analytics,
    AnalyticsProcessor,
    DataIngestionAgent,
    FunctionSink,
    Producer,
    ProducerOptions,
    Refused,
    WindowRow,
)
from tests._nats_server import NatsServer
from tests.agent.test_permissions import REGISTRY

from ._sales import SALES, counts_when, job, revenue, rows_when, sale
from ._sinking import sink_when

_LOG, _GROUPS = "A99_main_LOG", "KV_a99_main_groups"
_SINK = "shops-v1-revenue-called"


def _answers(agent: str, *capabilities: str) -> list[str]:
    """Return what an agent hears."""
    return [
        *(f"a99.main.cap.{each}.*.* q" for each in capabilities),
        *(f"a99.main.cancel.{each}.*" for each in (agent, *capabilities)),
        *(f"a99.main.name.{agent}.*.* q", f"a99.main.one.{agent}.>"),
        *(f"a99.main.ctl.{agent}.>", "a99.main.ctl._all._all.>"),
        *("$SRV.*", f"$SRV.*.{agent}", f"$SRV.*.{agent}.*"),
    ]


def _appends(user: str, *topics: str) -> list[str]:
    """Return the rights to append events."""
    topical = [f"a99.main.log.*.{user}.*.{topic}" for topic in topics]
    return [*topical, f"$JS.API.STREAM.CREATE.{_LOG}", "$JS.API.STREAM.NAMES"]


def _takes_part(user: str, group: str) -> list[str]:
    """Return the rights of a member of a group."""
    api = [
        *(f"STREAM.{what}.{_LOG}" for what in ("CREATE", "INFO")),
        *(f"CONSUMER.{what}.{_LOG}.*" for what in ("CREATE", "MSG.NEXT", "DELETE")),
        *(f"STREAM.CREATE.{_GROUPS}", f"DIRECT.GET.{_GROUPS}", f"DIRECT.GET.{_GROUPS}.>"),
        *(f"CONSUMER.{what}.{_GROUPS}.*" for what in ("CREATE", "DELETE")),
    ]
    own = [f"a99.main.one.{group}.*.ping.{user}", f"$KV.a99_main_groups.{group}.>"]
    return [*own, "_INBOX.>", "$JS.FC.>", *(f"$JS.API.{each}" for each in api)]


def _user(name: str, publish: list[str], subscribe: list[str]) -> str:
    allowed = "\n".join(f'"{each}"' for each in publish)
    heard = "\n".join(f'"{each}"' for each in (f"_INBOX.{name}.>", *subscribe))
    return f"""{{ user: {name}, password: a, permissions: {{
        publish: {{ allow: [ {REGISTRY} {allowed} ] }}
        subscribe: {{ allow: [ {heard} ] }} }} }}"""


TILLS = _user(
    "tills",
    [
        *("_INBOX.>", *_appends("tills", "records.sales")),
        *(f"$JS.API.DIRECT.GET.{_LOG}", f"$JS.API.STREAM.MSG.GET.{_LOG}"),
    ],
    _answers("tills", "data_ingestion", "stream_processing"),
)
KEEPER = _user(
    "keeper",
    [
        *_appends("keeper", "windows.shops.*", "late.shops.*"),
        *_takes_part("keeper", "shops-v1"),
        *_takes_part("keeper", _SINK),
        *(f"$JS.API.DIRECT.GET.{_LOG}", f"$JS.API.STREAM.MSG.GET.{_LOG}"),
        *(f"$JS.API.STREAM.CREATE.A99_main_DEAD_{each}" for each in ("shops-v1", _SINK)),
        *(f"a99.main.dead.{each}.*" for each in ("shops-v1", _SINK)),
        "a99.main.evt.keeper.analytics.folded.shops-v1",
        "a99.main.evt.keeper.analytics.turned.shops-v1.*",
        "a99.main.one.analytics-processor.*.query.keeper",
    ],
    [
        *_answers("analytics-processor", "analytics_processor"),
        *(f"a99.main.one.{group}.>" for group in ("shops-v1", _SINK)),
        "a99.main.evt.*.analytics.folded.shops-v1",
    ],
)
VIEWER = _user(
    "viewer",
    [
        "a99.main.one.analytics-processor.*.*.viewer",
        "a99.main.cap.data_ingestion.*.viewer",
    ],
    ["a99.main.evt.*.analytics.turned.shops-v1.*"],
)
CONFIG = f"authorization {{ users: [ {TILLS}, {KEEPER}, {VIEWER} ] }}"


class Tills(DataIngestionAgent):
    """Takes sales."""


async def test_analytics_needs_the_rights_of_the_table(
    tmp_path: Path, start_nats_server: Callable[..., NatsServer]
) -> None:
    """Records are ingested, folded, told, brought to a sink and asked for, by these alone."""
    server = await asyncio.to_thread(start_nats_server, config=CONFIG)

    def mesh(user: str) -> Mesh:
        url = f"nats://{user}@127.0.0.1:{server.port}"
        place = {"project": tmp_path, "state_folder": tmp_path}
        return Mesh(settings=Settings(**place, url=url, permissions=True))

    async def refuse(rows: Sequence[WindowRow], _event: Event) -> Sequence[Refused]:
        return [Refused(at, "dear") for at, row in enumerate(rows) if row.values["pence"] > 100]

    pipeline = revenue(sinks=(FunctionSink("called", refuse),))
    url = f"sqlite:///{tmp_path}/system.db"
    async with (
        mesh("tills:a") as tills,
        mesh("viewer:a") as viewer,
        mesh("keeper:a") as one,
        mesh("keeper:a") as two,
    ):
        await tills.host(Tills(sources=(SALES,)))
        for keeper in (one, two):
            await keeper.host(AnalyticsProcessor(job(pipeline), url))
        await viewer.wait_for("data_ingestion")
        async with Producer(viewer, SALES, options=ProducerOptions(shard=0)) as producer:
            for at in range(4):
                await producer.send(sale(60 * at, "north", 100 + at))
                await producer.send(sale(60 * at, "south", 100))
            await producer.flush()
            await producer.send(sale(1, "south"))  # too late
            await producer.flush()
        again = {"data": [msgspec.to_builtins(sale(200, "south"))], "batch_id": "again"}
        for _ in range(2):
            await viewer.request("data_ingestion", "ingest", again)
        await tills.append(SALES.topic, {"no": "batch"}, key="sales.0")
        figures = Analytics(viewer, "shops")
        await rows_when(figures, lambda rows: len(rows) == 8, state="all")
        await viewer.request("data_ingestion", "finish", {"source": "sales"})
        await rows_when(figures, lambda rows: len(rows) == 8, state="closed")
        stats = await sink_when(figures, lambda one: one.delivered + one.refused == 8, "called")
        assert (4, 4) == (stats.delivered, stats.refused)
        counts = await counts_when(figures, 10)
        assert (1, 1) == (counts.dropped, counts.refused_events)
        async with aclosing(figures.follow("revenue")) as changes:
            assert 8 == len((await anext(changes)).rows)
    assert [] == re.findall(r'Violation.*Subject "([^"]+)"', server.log.read_text())
