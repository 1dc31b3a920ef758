"""The distributed cache of a mesh: partitions with owners and copies, kept in its agents' memory.

Given:       keys and values; a mesh whose agents may come, go and die.
Gives:       nodes that hold them, and a client that asks the owner of a key without a detour.
May import:  errors clock ids settings envelope wire embedded journal registry dispatch agent
             agent99; msgspec rich
Never:       serves what was deleted or has expired, acknowledges what one death could lose where
             copies are wanted, grows beyond its budget, writes to a disk.
"""

from agent99.systems.cache._blocking import BlockingCache
from agent99.systems.cache._cache import Cache
from agent99.systems.cache._client import CacheClient
from agent99.systems.cache._coordinator import CacheCoordinator
from agent99.systems.cache._demo import run_demo
from agent99.systems.cache._demo_figures import DemoGoods
from agent99.systems.cache._lock import BlockingLock, Lock, Locked, LockLostError, LockTakenError
from agent99.systems.cache._near import NearStatistics
from agent99.systems.cache._node import CacheNodeAgent
from agent99.systems.cache._overview import CacheTotals, NodeView, Overview, look_at, totals
from agent99.systems.cache._quotas import NamespaceTotals
from agent99.systems.cache._reader import Hit
from agent99.systems.cache._resp_agent import RespAgent
from agent99.systems.cache._resp_parser import RequestBounds
from agent99.systems.cache._resp_server import RespOptions
from agent99.systems.cache._sample import CacheStats, NodeStats
from agent99.systems.cache._spread import Reads

__all__ = [
    "BlockingCache",
    "BlockingLock",
    "Cache",
    "CacheClient",
    "CacheCoordinator",
    "CacheNodeAgent",
    "CacheStats",
    "CacheTotals",
    "DemoGoods",
    "Hit",
    "Lock",
    "LockLostError",
    "LockTakenError",
    "Locked",
    "NamespaceTotals",
    "NearStatistics",
    "NodeStats",
    "NodeView",
    "Overview",
    "Reads",
    "RequestBounds",
    "RespAgent",
    "RespOptions",
    "look_at",
    "run_demo",
    "totals",
]
