"""Know who can: descriptions, leases, look-ups by capability, and choosing one of several.

Given:       descriptions of this process's agents; a journal and a wire.
Gives:       a table of everybody on the mesh, explanations, choices; InvalidFilterError.
May import:  errors clock ids wire envelope journal; msgspec
Never:       carries a request: requests go by the server's interest, not by this table.
"""

from agent99.registry._description import (
    ROUTABLE,
    STATES,
    Description,
    Kind,
    OperationInfo,
    State,
    decode_description,
    encode_description,
)
from agent99.registry._explain import Candidate, Explanation, Reason
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
from agent99.registry._table import Table, TableChange
from agent99.registry._where import Clause, Where, where

__all__ = [
    "ROUTABLE",
    "STATES",
    "Candidate",
    "Clause",
    "Description",
    "Explanation",
    "HashOf",
    "Kind",
    "LeastLoaded",
    "OperationInfo",
    "Reason",
    "Selection",
    "State",
    "Sticky",
    "Table",
    "TableChange",
    "Where",
    "choose",
    "decode_description",
    "encode_description",
    "hash_of",
    "least_loaded",
    "sticky",
    "where",
]
