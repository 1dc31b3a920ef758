"""Know who can: descriptions, leases, look-ups by capability, and choosing one of several.

Given:       descriptions of this process's agents; a journal and a wire.
Gives:       a table of everybody on the mesh, explanations, choices; InvalidFilterError.
May import:  errors clock ids wire envelope journal; msgspec
Never:       carries a request: requests go by the server's interest, not by this table.
"""

from agent99.registry._description import STATES, Description, OperationInfo, State
from agent99.registry._explain import Candidate, Explanation
from agent99.registry._options import RegistryOptions, RegistryStatistics
from agent99.registry._pulse import is_gone
from agent99.registry._registry import Registry
from agent99.registry._selection import (
    HashOf,
    LeastLoaded,
    Selection,
    Sticky,
    choose,
    hash_of,
    least_loaded,
    sticky,
)
from agent99.registry._services import OperationCounts, Services, ServiceView
from agent99.registry._table import Table, TableChange
from agent99.registry._where import Where, where

__all__ = [
    "STATES",
    "Candidate",
    "Description",
    "Explanation",
    "HashOf",
    "LeastLoaded",
    "OperationCounts",
    "OperationInfo",
    "Registry",
    "RegistryOptions",
    "RegistryStatistics",
    "Selection",
    "ServiceView",
    "Services",
    "State",
    "Sticky",
    "Table",
    "TableChange",
    "Where",
    "choose",
    "hash_of",
    "is_gone",
    "least_loaded",
    "sticky",
    "where",
]
