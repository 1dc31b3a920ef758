"""An order pipeline on real data: orders, stock and payments that close to the penny.

Given:       orders of customers, as messages; a file of order lines to replay; URLs of databases.
Gives:       five agents, a demo that runs each in a process of its own, and a check of the end
             result that shares no code with them; Failure with the sample's codes, DataFileError.
May import:  errors clock ids settings embedded store dispatch registry agent agent99;
             msgspec polars rich sqlalchemy
Never:       holds money in floats, trusts a client's price, loads SQLAlchemy or polars before it
             needs a database or a file.
"""

from agent99.systems.shop._agents import (
    FulfillmentAgent,
    InventoryAgent,
    NotificationAgent,
    OrderProcessingAgent,
    PaymentAgent,
)
from agent99.systems.shop._check import CheckReport, Finding, Terms, check_shop
from agent99.systems.shop._data import EXTRACT, read_year
from agent99.systems.shop._demo import run_demo
from agent99.systems.shop._errors import DataFileError, IllegalTransitionError, MoneyError
from agent99.systems.shop._settings import ShopSettings, load_shop_settings
from agent99.systems.shop._year import Counts, Invoice, Year, place_order

__all__ = [
    "EXTRACT",
    "CheckReport",
    "Counts",
    "DataFileError",
    "Finding",
    "FulfillmentAgent",
    "IllegalTransitionError",
    "InventoryAgent",
    "Invoice",
    "MoneyError",
    "NotificationAgent",
    "OrderProcessingAgent",
    "PaymentAgent",
    "ShopSettings",
    "Terms",
    "Year",
    "check_shop",
    "load_shop_settings",
    "place_order",
    "read_year",
    "run_demo",
]
