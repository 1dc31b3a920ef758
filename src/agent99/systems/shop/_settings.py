"""Where the agents of the shop keep their data: in the project, or where the environment says.

AGENT99_SHOP_STORE          a database URL for all agents; unset: SQLite files in the project
AGENT99_SHOP_DECLINE_RATE   the share of payments that the bank declines, 0 to 1; unset: 0
AGENT99_SHOP_SEED           which ones; unset: 0
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from agent99.errors import UsageError
from agent99.settings import load_settings
from agent99.systems.shop._declines import DeclineRule

_NO_DECLINES = DeclineRule(rate=0.0)


class ShopSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the agents of the shop must know before they start."""

    orders_url: str
    """The database of the orders and the price list; the three may be one."""
    stock_url: str
    """The database of the stock."""
    payments_url: str
    """The database of the payments."""
    declines: DeclineRule = _NO_DECLINES
    """Which payments the bank declines."""

    def __repr__(self) -> str:
        return f"ShopSettings(declines={self.declines!r})"  # the URLs may hold a credential


def settings_on(url: str, declines: DeclineRule = _NO_DECLINES) -> ShopSettings:
    """Return settings that keep everything in one database."""
    return ShopSettings(orders_url=url, stock_url=url, payments_url=url, declines=declines)


def settings_in(folder: Path, declines: DeclineRule = _NO_DECLINES) -> ShopSettings:
    """Return settings that keep everything in SQLite files in a folder, one for each agent."""
    urls = {f"{name}_url": f"sqlite:///{folder / name}.db" for name in _PARTS}
    return ShopSettings(**urls, declines=declines)


_PARTS = ("orders", "stock", "payments")


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
    url = environ.get("AGENT99_SHOP_STORE", "")
    if url:
        return settings_on(url, declines)
    folder = load_settings(environ=environ).state_folder / "shop"
    folder.mkdir(parents=True, exist_ok=True)
    return settings_in(folder, declines)


def _number(environ: Mapping[str, str], name: str, kind: type[float | int], default: float) -> Any:
    text = environ.get(name, "")
    try:
        return kind(text) if text else default
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        message = f"the variable {name} is {text!r}; it must be {what}"
        raise UsageError(message) from None
