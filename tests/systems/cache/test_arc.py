"""Who must go: the order of the queues, what they learn, and how they do against LRU."""

from __future__ import annotations

import itertools
import random
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent99.systems.cache._arc import Arc, Ghosts
from agent99.systems.cache._fifo import Fifo, Link

SEED = 20_261_127


def fill(queue: Arc[Link] | Fifo[Link], keys: str) -> dict[str, Link]:
    """Push a link of one byte for each letter."""
    links = {key: Link(key=key, size=1) for key in keys}
    for link in links.values():
        queue.push(link)
    return links


def take(queue: Arc[Link] | Fifo[Link]) -> str:
    """Evict one, and name it."""
    link = queue.choose()
    assert link is not None
    queue.remove(link)
    return link.key


def test_what_nobody_reads_goes_oldest_first() -> None:
    """Without reads both are first in, first out."""
    for queue in (Arc[Link](1_000), Fifo[Link]()):
        fill(queue, "abc")
        assert ["a", "b", "c"] == [take(queue) for _ in range(3)]
        assert queue.choose() is None
        assert queue.bytes == len(queue) == 0


def test_what_was_read_stays_longer() -> None:
    """A read moves an entry to those that go last."""
    queue = Arc[Link](1_000)
    links = fill(queue, "abcd")
    queue.touch(links["a"])
    assert ["b", "c", "d", "a"] == [take(queue) for _ in range(4)]


def test_what_is_wanted_again_makes_its_queue_larger() -> None:
    """If what was read once is missed, new entries get room, and what was read twice goes first."""
    queue = Arc[Link](1_000)
    links = fill(queue, "abcdef")
    for key in "ef":
        queue.touch(links[key])
    assert ["a", "b"] == [take(queue) for _ in range(2)]
    fill(queue, "ab")
    assert take(queue) == "e"


def test_what_is_written_is_spared() -> None:
    """Who makes room for an entry does not lose that one, even if it is the only one."""
    for queue in (Arc[Link](1_000), Fifo[Link]()):
        links = fill(queue, "ab")
        chosen = queue.choose(links["a"])
        assert chosen is links["b"]
        queue.remove(chosen)
        assert queue.choose(links["a"]) is None


class QueueMachine(RuleBasedStateMachine):
    """The queue beside two ordered dicts: of what was read, and what was not."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Arc[Link](1_000)
        self.links: dict[str, Link] = {}
        self.count = 0

    @rule(size=st.integers(1, 50), is_old=st.booleans())
    def push(self, size: int, is_old: bool) -> None:
        if not is_old:
            self.count += 1
        key = f"ns:{self.count}"
        if key not in self.links:
            self.links[key] = link = Link(key=key, size=size)
            self.queue.push(link)

    @rule(data=st.data(), size=st.integers(1, 50))
    def touch_or_resize(self, data: st.DataObject, size: int) -> None:
        if self.links:
            link = self.links[data.draw(st.sampled_from(sorted(self.links)))]
            self.queue.resize(link, size)
            if link.moved < self.queue.settled:
                self.queue.touch(link)

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.links:
            self.queue.remove(self.links.pop(data.draw(st.sampled_from(sorted(self.links)))))

    @rule()
    def evict(self) -> None:
        assert bool(self.links) == (self.queue.choose() is not None)
        link = self.queue.choose()
        if link is not None:
            del self.links[link.key]
            self.queue.remove(link)

    @invariant()
    def holds_what_was_pushed(self) -> None:
        assert len(self.links) == len(self.queue)
        assert sum(link.size for link in self.links.values()) == self.queue.bytes


TestQueueMachine = QueueMachine.TestCase


@given(st.lists(st.text(min_size=1), unique=True, max_size=50))
def test_a_ghost_is_taken_once(keys: list[str]) -> None:
    """A ghost is known by its number, until it is taken or another gets its slot."""
    ghosts = Ghosts(1)
    for number, key in enumerate(keys, start=1):
        ghosts.add(key, number)
    for number, key in enumerate(keys, start=1):
        assert ghosts.take(key) in {0, number}
        assert ghosts.take(key) == 0


def read(arc_held: int, trace: list[str]) -> tuple[float, float]:
    """Return the hit ratios of the queue and of LRU on a trace."""
    queue, links = Arc[Link](1_024 * arc_held), dict[str, Link]()
    lru = OrderedDict[str, None]()
    hits, lru_hits = 0, 0
    for key in trace:
        link = links.get(key)
        if link is not None:
            hits += 1
            if link.moved < queue.settled:
                queue.touch(link)
        else:
            if len(queue) == arc_held:
                del links[take(queue)]
            links[key] = link = Link(key=key, size=1)
            queue.push(link)
        lru_hits += key in lru
        lru[key] = None
        lru.move_to_end(key)
        if len(lru) > arc_held:
            lru.popitem(last=False)
    return hits / len(trace), lru_hits / len(trace)


@pytest.mark.slow
def test_it_beats_lru_where_popularity_stays_and_keeps_up_where_it_changes() -> None:
    """With a tenth held: 3 points more than LRU by Zipf's law; where keys swap, within one."""
    keys, reads = 10_000, 100_000
    print(f"seed {SEED}")  # noqa: T201 - whoever sees it fail needs the seed
    draw = random.Random(SEED)
    weights = list(itertools.accumulate(1 / rank for rank in range(1, keys + 1)))
    ranks = draw.choices(range(keys), cum_weights=weights, k=reads)
    names = [f"ns:{number}" for number in range(keys)]
    ours, lru = read(keys // 10, [names[rank] for rank in ranks])
    assert ours >= lru + 0.03
    trace: list[str] = []
    for rank in ranks:
        one, other = int(keys ** draw.random()) - 1, draw.randrange(keys)
        if draw.random() < 0.1:
            names[one], names[other] = names[other], names[one]
        trace.append(names[rank])
    ours, lru = read(keys // 10, trace)
    assert ours >= lru - 0.01
