"""Where the agents of the shop keep their data: in the project, or where the environment says.

AGENT99_SHOP_STORE          a database URL for all agents; unset: SQLite files in the project
AGENT99_SHOP_DECLINE_RATE   the share of payments that the bank declines, 0 to 1; unset: 0
AGENT99_SHOP_SEED           which ones; unset: 0
AGENT99_SHOP_HOLD_S         seconds that stock is held for an order, up to 7 days; unset: 900
AGENT99_SHOP_GRACE_S        seconds that a confirmed order can be cancelled before it leaves, up to
                            30 days; unset: 0
AGENT99_SHOP_CACHE          1: prices are read through the mesh's cache, where one is there
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from agent99.errors import UsageError
from agent99.settings import load_settings
from agent99.systems.shop._declines import DeclineRule
from agent99.systems.shop._model import HOLD_BACK_S_MAX, HOLD_S_MAX, HoldBackTime, HoldTime

HOLD_S: Final = 900.0
"""Seconds that stock is held for an order where nobody says for how long."""
_NO_DECLINES = DeclineRule(rate=0.0)
_PARTS = ("orders", "stock", "payments", "shipments", "messages", "history")


class ShopSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the agents of the shop must know before they start.

    Raises:
        UsageError: the time that stock is held makes no sense.
    """

    orders_url: str
    """The database of the orders and the price list; all may be one."""
    stock_url: str
    """The database of the stock."""
    payments_url: str
    """The database of the payments."""
    shipments_url: str
    """The database of the shipments."""
    messages_url: str
    """The database of the messages to customers."""
    history_url: str
    """The database of the read model of the orders."""
    declines: DeclineRule = _NO_DECLINES
    """Which payments the bank declines."""
    hold_s: HoldTime = HOLD_S
    """Seconds that stock is held for an order that does not say for how long."""
    is_cached: bool = False
    """Whether the price list is read through the mesh's cache, where one is there."""
    grace_s: HoldBackTime = 0.0
    """Seconds that a confirmed order stays in the house, where it can be cancelled."""

    def __post_init__(self) -> None:
        if not 0.0 < self.hold_s <= HOLD_S_MAX:
            message = (
                f"stock is held for {self.hold_s} s; it must be more than 0 and at most 7 days"
            )
            raise UsageError(message)
        if not 0.0 <= self.grace_s <= HOLD_BACK_S_MAX:
            message = f"an order waits for {self.grace_s} s; it must be 0 to 30 days"
            raise UsageError(message)

    def __repr__(self) -> str:
        return f"ShopSettings(declines={self.declines!r})"  # the URLs may hold a credential


def settings_on(
    url: str, declines: DeclineRule = _NO_DECLINES, hold_s: float = HOLD_S
) -> ShopSettings:
    """Return settings that keep everything in one database."""
    urls: dict[str, Any] = {f"{name}_url": url for name in _PARTS}
    return ShopSettings(**urls, declines=declines, hold_s=hold_s)


def settings_in(
    folder: Path, declines: DeclineRule = _NO_DECLINES, hold_s: float = HOLD_S
) -> ShopSettings:
    """Return settings that keep everything in SQLite files in a folder, one for each agent."""
    urls: dict[str, Any] = {f"{name}_url": f"sqlite:///{folder / name}.db" for name in _PARTS}
    return ShopSettings(**urls, declines=declines, hold_s=hold_s)


def load_shop_settings(environ: Mapping[str, str] | None = None) -> ShopSettings:
    """Return the settings of the environment; without any, files in the project's state folder.

    Raises:
        UsageError: a variable makes no sense.
    """
    environ = os.environ if environ is None else environ
    declines = DeclineRule(
        rate=_number(environ, "AGENT99_SHOP_DECLINE_RATE", float, 0.0),
        seed=_number(environ, "AGENT99_SHOP_SEED", int, 0),
    )
    hold_s = _number(environ, "AGENT99_SHOP_HOLD_S", float, HOLD_S)
    grace_s = _number(environ, "AGENT99_SHOP_GRACE_S", float, 0.0)
    is_cached = bool(_number(environ, "AGENT99_SHOP_CACHE", int, 0))
    url = environ.get("AGENT99_SHOP_STORE", "")
    if url:
        settings = settings_on(url, declines, hold_s)
        return msgspec.structs.replace(settings, grace_s=grace_s, is_cached=is_cached)
    folder = load_settings(environ=environ).state_folder / "shop"
    settings = settings_in(folder, declines, hold_s)
    settings = msgspec.structs.replace(settings, grace_s=grace_s, is_cached=is_cached)
    folder.mkdir(parents=True, exist_ok=True)
    return settings


def _number(environ: Mapping[str, str], name: str, kind: type[float | int], default: float) -> Any:
    text = environ.get(name, "")
    try:
        return kind(text) if text else default
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        message = f"the variable {name} is {text!r}; it must be {what}"
        raise UsageError(message) from None
