"""With permissions on, the server proves who asks, and nobody lends out his own rights."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import nats
import pytest

from agent99 import Agent, Mesh, Settings, follow, job
from agent99.envelope import Header, encode_message
from agent99.errors import PermissionDeniedError, UsageError
from agent99.work import Quarantined
from tests._nats_server import NatsServer
from tests._wait import PATIENCE_S, eventually
from tests.agent._agents import Shop

CONFIG = """
authorization {
  users: [
    { user: shopkeeper, password: a, permissions: {
        publish: ["_INBOX.>", "a99.main.*.*.*.shopkeeper", "$JS.API.>", "$KV.>", "evil.>"]
        subscribe: [">"] } }
    { user: alice, password: b, permissions: {
        publish: ["a99.main.cap.*.*.alice", "a99.main.ctl.*.*.*.alice", "$JS.API.>", "$KV.>"]
        subscribe: ["_INBOX.alice.>", "$KV.>", "a99.follow.>", "_deliver.>", ">"] } }
    { user: stock, password: c }
  ]
}
"""


def settings(folder: Path, server: NatsServer, user: str) -> Settings:
    """Return the settings of a process that logs in as `user`."""
    url = f"nats://{user}@127.0.0.1:{server.port}"
    return Settings(project=folder, state_folder=folder, url=url, permissions=True)


async def test_the_user_is_the_sender_and_a_forged_reply_is_dropped(
    tmp_path: Path, start_nats_server: Callable[..., NatsServer]
) -> None:
    """The agent learns who asks; a request that wants its answer elsewhere gets none."""
    server = start_nats_server(config=CONFIG)
    shop = Shop()
    async with (
        Mesh(settings=settings(tmp_path, server, "shopkeeper:a")) as mesh,
        Mesh(settings=settings(tmp_path, server, "alice:b")) as alice,
    ):
        await mesh.host(shop)
        await alice.wait_for("shop")
        assert (await alice.request("shop", "whoami"))["sender"] == "alice"
        stolen: list[bytes] = []
        stock = await nats.connect(server.url, user="stock", password="c")

        async def keep(message: object) -> None:
            stolen.append(getattr(message, "data", b""))

        await stock.subscribe("evil.>", cb=keep)
        header = Header(type="request", from_uuid="x", to_uuid="shop", event_uuid="e", timestamp=1)
        await stock.publish(
            "a99.main.cap.shop.whoami.alice", encode_message(header, b"{}"), reply="evil.inbox"
        )
        await stock.flush()
        running = shop._running
        assert running is not None
        await eventually(lambda: running.dispatcher.statistics().dropped == {"forged_reply": 1})
        assert stolen == []
        await stock.close()


async def test_another_senders_name_is_refused_by_the_server(
    tmp_path: Path, start_nats_server: Callable[..., NatsServer]
) -> None:
    """A denied request is a typed error within a round trip, not a timeout."""
    server = start_nats_server(config=CONFIG)
    async with Mesh(settings=settings(tmp_path, server, "alice:b")) as alice:
        wire = alice._link.wire if alice._link is not None else None
        assert wire is not None
        deadline_s = alice._opening.clock.monotonic_s() + 20
        with pytest.raises(PermissionDeniedError):
            await wire.request(b"a99.main.cap.shop.whoami.bob", b"{}", deadline_s=deadline_s)


async def test_a_comma_in_a_password_parts_nothing(
    tmp_path: Path, start_nats_server: Callable[..., NatsServer]
) -> None:
    """Several addresses are parted where another begins."""
    config = 'authorization { users: [ { user: ada, password: "a,b" } ] }'
    server = start_nats_server(config=config)
    async with Mesh(settings=settings(tmp_path, server, "ada:a,b")) as mesh:
        assert mesh.url == server.url


async def test_permissions_need_a_user(tmp_path: Path) -> None:
    """Without one there is nobody to prove."""
    for url in ("nats://127.0.0.1:9", None):
        with pytest.raises(UsageError, match="must name a user"):
            async with Mesh(
                settings=Settings(
                    project=tmp_path, state_folder=tmp_path, url=url, permissions=True
                )
            ):
                pytest.fail("it has no user")


REGISTRY = """
  "$JS.API.STREAM.CREATE.KV_a99_main_registry", "$JS.API.STREAM.CREATE.KV_a99_main_leases"
  "$JS.API.STREAM.CREATE.KV_a99_main_keeper", "$JS.API.STREAM.INFO.*", "$JS.FC.>"
  "$JS.API.STREAM.MSG.GET.KV_a99_main_keeper", "$JS.API.DIRECT.GET.KV_a99_main_leases"
  "$JS.API.DIRECT.GET.KV_a99_main_keeper.>", "$JS.API.CONSUMER.CREATE.KV_a99_main_registry.*"
  "$JS.API.CONSUMER.DELETE.KV_a99_main_registry.*", "$KV.a99_main_registry.>"
  "$JS.API.CONSUMER.CREATE.KV_a99_main_leases.*", "$KV.a99_main_leases.*"
  "$JS.API.CONSUMER.DELETE.KV_a99_main_leases.*", "$KV.a99_main_keeper.keeper"
"""


def _works_for(name: str) -> str:
    """Return the rights to do the work of a capability, or what comes back to who follows."""
    return f"""
  "$JS.API.STREAM.CREATE.A99_main_JOB_{name}", "$JS.API.CONSUMER.CREATE.A99_main_JOB_{name}.*"
  "$JS.API.CONSUMER.MSG.NEXT.A99_main_JOB_{name}.*", "$JS.ACK.A99_main_JOB_{name}.>"
  "$JS.API.DIRECT.GET.A99_main_JOB_{name}", "$JS.API.STREAM.MSG.DELETE.A99_main_JOB_{name}"
  "$JS.API.STREAM.CREATE.A99_main_DEAD_{name}", "a99.main.dead.{name}.*"
  "$JS.API.CONSUMER.CREATE.A99_ADVISORIES.A99_main_JOB_{name}"
  "$JS.API.CONSUMER.MSG.NEXT.A99_ADVISORIES.A99_main_JOB_{name}"
"""


def _redrives(name: str) -> str:
    """Return the rights to look into a quarantine, and to take out of it."""
    return f"""
  "$JS.API.DIRECT.GET.A99_main_DEAD_{name}", "$JS.API.STREAM.MSG.DELETE.A99_main_DEAD_{name}"
"""


STORED = f"""
authorization {{
  users: [
    {{ user: clerk, password: a, permissions: {{
        publish: [{REGISTRY}
          "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST"
          "a99.main.job.mail.send.clerk", "$JS.API.STREAM.CREATE.A99_main_JOB_mail"
          "a99.main.log.*.clerk.*.order.*", "$JS.API.STREAM.CREATE.A99_main_LOG"
          "a99.main.job.books.note.clerk"
          {_redrives("mail")}{_redrives("books")}
        ]
        subscribe: ["_INBOX.clerk.>"] }} }}
    {{ user: worker, password: b, permissions: {{
        publish: [{REGISTRY}
          "$JS.API.STREAM.NAMES"
          {_works_for("mail")}{_works_for("books")}
          "$JS.API.STREAM.CREATE.A99_main_LOG", "$JS.API.CONSUMER.CREATE.A99_main_LOG.books_BY_note"
          "$JS.API.CONSUMER.MSG.NEXT.A99_main_LOG.books_BY_note"
          "$JS.ACK.A99_main_LOG.books_BY_note.>"
          "$JS.API.STREAM.CREATE.KV_a99_main_tries", "$KV.a99_main_tries.>"
          "$JS.API.DIRECT.GET.KV_a99_main_tries.>"
          "$JS.API.STREAM.CREATE.A99_ADVISORIES", "$JS.ACK.A99_ADVISORIES.>"
        ]
        subscribe: ["_INBOX.worker.>", "a99.main.>", "$SRV.>"] }} }}
  ]
}}
"""


class Mail(Agent):
    """Sends."""

    capabilities = ("mail",)

    def __init__(self) -> None:
        self.sent: list[bool] = []
        self.is_fixed = False

    @job(attempts_max=2, delay_s=0.01)
    async def send(self, bad: bool) -> None:
        """Send, or fail until it is mended."""
        if bad and not self.is_fixed:
            raise ValueError
        self.sent.append(bad)


class Books(Agent):
    """Follows."""

    def __init__(self) -> None:
        self.noted: list[bool] = []
        self.is_fixed = False

    @follow("order.*", attempts_max=2, delay_s=0.01)
    async def note(self, bad: bool) -> None:
        """Note, or fail until it is mended."""
        if bad and not self.is_fixed:
            raise ValueError
        self.noted.append(bad)


async def test_stored_work_needs_the_rights_of_the_table(
    tmp_path: Path, start_nats_server: Callable[..., NatsServer]
) -> None:
    """Posted, appended, done, quarantined, redriven: with what `production.md` lists, no more."""
    server = start_nats_server(config=STORED)
    mail, books = Mail(), Books()
    async with (
        Mesh(settings=settings(tmp_path, server, "clerk:a")) as clerk,
        Mesh(settings=settings(tmp_path, server, "worker:b")) as worker,
    ):
        for bad in (False, True):
            await clerk.post("mail", "send", {"bad": bad})
            await clerk.append("order.placed", {"bad": bad}, key="k")
        await worker.host(mail, books)

        async def quarantined() -> list[Quarantined]:
            return [record async for record in clerk.quarantine.records()]

        async with asyncio.timeout(PATIENCE_S):
            while len(found := await quarantined()) < 2:
                await asyncio.sleep(0)
        mail.is_fixed = books.is_fixed = True
        for record in found:
            await clerk.quarantine.redrive(record)
        await eventually(lambda: mail.sent == books.noted == [False, True])
        with pytest.raises(PermissionDeniedError):
            await clerk.post("other", "send")
    refused = re.findall(r'Publish Violation.*Subject "([^"]+)"', server.log.read_text())
    assert ["a99.main.job.other.send.clerk"] == sorted(set(refused))
