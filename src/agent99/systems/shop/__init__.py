"""An order pipeline on real data: orders, stock and payments that close to the penny.

Given:       orders of customers, as messages; a file of order lines to replay; URLs of databases.
Gives:       five agents, one that checks them and one that tells what became of each order, a
             live stream of an order's steps; a demo that runs each in a process of its own,
             and a check of the end result; neither check shares code with what it checks; Failure
             with the sample's codes, DataFileError.
May import:  errors clock ids settings embedded envelope journal store dispatch registry agent
             saga agent99; msgspec polars rich sqlalchemy
Never:       holds money in floats, trusts a client's price, loads SQLAlchemy or polars before it
             needs a database or a file.
"""

from agent99.systems.shop._agents import InventoryAgent, OrderProcessingAgent, PaymentAgent
from agent99.systems.shop._agents_aftercare import FulfillmentAgent, NotificationAgent
from agent99.systems.shop._check import CheckReport, Terms, check_shop
from agent99.systems.shop._check_findings import Finding
from agent99.systems.shop._check_sources import Databases, Event, read_event
from agent99.systems.shop._checker import CheckerAgent
from agent99.systems.shop._data import EXTRACT, read_year
from agent99.systems.shop._demo import play_for, run_demo
from agent99.systems.shop._errors import DataFileError, IllegalTransitionError, MoneyError
from agent99.systems.shop._events import OrderMoved
from agent99.systems.shop._figures import Figures
from agent99.systems.shop._guest import Guest, Till
from agent99.systems.shop._history_agent import OrderHistoryAgent
from agent99.systems.shop._order_stream import follow_order
from agent99.systems.shop._settings import ShopSettings, load_shop_settings
from agent99.systems.shop._year import Counts, Invoice, Year, place_order

__all__ = [
    "EXTRACT",
    "CheckReport",
    "CheckerAgent",
    "Counts",
    "DataFileError",
    "Databases",
    "Event",
    "Figures",
    "Finding",
    "FulfillmentAgent",
    "Guest",
    "IllegalTransitionError",
    "InventoryAgent",
    "Invoice",
    "MoneyError",
    "NotificationAgent",
    "OrderHistoryAgent",
    "OrderMoved",
    "OrderProcessingAgent",
    "PaymentAgent",
    "ShopSettings",
    "Terms",
    "Till",
    "Year",
    "check_shop",
    "follow_order",
    "load_shop_settings",
    "place_order",
    "play_for",
    "read_event",
    "read_year",
    "run_demo",
]
