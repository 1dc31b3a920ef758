"""The options of the demo, checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from agent99.errors import UsageError
from agent99.systems.shop._data import EXTRACT
from agent99.systems.shop._declines import DeclineRule, Patience, Regret
from agent99.systems.shop._settings import ShopSettings, settings_in, settings_on

SCARCITY_MAX = 100.0
INSTANCES_MAX = 32
SPEED_MAX = 1_000_000.0
GRACE_S = 2.0


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the shop is to run."""

    data: str | None = None
    """The file to replay; None: the extract in the package."""
    decline_rate: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.05
    """The share of payments that the bank declines."""
    seed: int = 0
    """Which payments those are."""
    scarcity: Annotated[float, Meta(ge=0.0, le=SCARCITY_MAX)] = 1.0
    """Opening stock as a share of what the file sells; at 1.0 nothing runs out."""
    cancel_rate: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    """The share of orders that their customers cancel: one half of them at once, the other half
    when they are confirmed. Confirmed orders leave after a grace, where there are any."""
    back_order_rate: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    """The share of orders whose customers take what there is, and wait for the rest: it is
    delivered then. At a scarcity below 1.0 there are such."""
    instances: Annotated[int, Meta(ge=1, le=INSTANCES_MAX)] = 2
    """Processes of order processing, inventory, and payment each."""
    speed: Annotated[float, Meta(ge=0.0, le=SPEED_MAX)] = 0.0
    """Days of the file in one second; 0: as fast as it goes."""
    chaos: bool = False
    """Kill the agents' processes and the server at random while the orders run."""
    beside: tuple[str, ...] = ()
    """Agents of other systems, as MODULE:CLASS, each in two processes: nodes of the cache, through
    which prices are read then."""
    json: bool = False
    """Print one JSON object and nothing else."""
    debug: bool = False
    """Let the agents' log out on standard error."""
    store: str | None = None
    """A database for all agents, empty; None: SQLite files in a temporary folder."""

    @property
    def path(self) -> Path:
        """The file to replay."""
        return EXTRACT if self.data is None else Path(self.data)

    @property
    def regret(self) -> Regret:
        """Which orders their customers cancel."""
        return Regret(self.cancel_rate, self.seed)

    @property
    def patience(self) -> Patience:
        """Which orders are waited for."""
        return Patience(self.back_order_rate, self.seed)

    @property
    def declines(self) -> DeclineRule:
        """Which payments the bank declines."""
        return DeclineRule(rate=self.decline_rate, seed=self.seed)

    def shop_settings(self, folder: Path) -> ShopSettings:
        """Return what the agents must know, where they keep their data in a folder."""
        grace_s = GRACE_S if self.cancel_rate else 0.0
        if self.store is None:
            settings = settings_in(folder, self.declines)
        else:
            settings = settings_on(self.store, self.declines)
        return msgspec.structs.replace(settings, grace_s=grace_s, is_cached=bool(self.beside))


def read_options(given: Mapping[str, Any]) -> DemoOptions:
    """Return the options.

    Raises:
        UsageError: one is unknown, or its value is out of range; names it.
    """
    known = DemoOptions.__struct_fields__
    for name in given:
        if name not in known:
            message = f"{name!r} is no option of the shop; there are: {', '.join(known)}"
            raise UsageError(message)
    if given.get("data") == "":
        raise UsageError("--data: the name of the file is empty")
    try:
        return msgspec.convert(dict(given), DemoOptions)
    except msgspec.ValidationError as error:
        rule, _, path = str(error).partition(" - at `$.")
        option = path.rstrip("`").replace("_", "-")
        message = f"--{option}: {rule[:1].lower()}{rule[1:]}"
        raise UsageError(message) from None
