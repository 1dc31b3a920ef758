"""Members in processes of their own, under load: they come, go, are killed and stand still."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

import msgspec

from agent99 import Mesh
from tests.groups._member import open_effects

CHILD = Path(__file__).with_name("_member.py")
KEYS = 128
TICK_S = 0.05
EACH_TICK = 10
WAIT_S = 60.0


class Effect(msgspec.Struct, frozen=True):
    """One effect, as it stands in the store."""

    key: str
    number: int
    part: int
    epoch: int
    stored_us: int
    handed_us: int

    @property
    def pause_s(self) -> float:
        """From when the event was stored until it was handed to a handler."""
        return (self.handed_us - self.stored_us) / 1e6


class Campaign:
    """A load of numbered events, the members that work on it, and what was done to them."""

    def __init__(self, mesh: Mesh, url: str, database: str, seed: int, kind: str) -> None:
        self.mesh = mesh
        self.luck = random.Random(seed)
        self.members: list[Process] = []
        self.appended: dict[str, int] = {}
        self.faults: list[tuple[str, int]] = []
        """What was done, and when, in microseconds since the epoch."""
        self.late_s: dict[tuple[str, int], float] = {}
        """How late the load was at most, after what was done: so long the machine stood still."""
        self._command = (url, mesh.name, database, kind)
        self.kind = kind
        self._database = database
        self._loading: asyncio.Task[None] | None = None
        self._frozen: list[Process] = []

    async def start(self, count: int) -> None:
        """Start members, one after the other, and wait until each is one."""
        self.note(f"{count} join")
        command = (sys.executable, "-W", "error", str(CHILD), *self._command)
        for _ in range(count):
            pipe = asyncio.subprocess.PIPE
            member = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
            self.members.append(member)
            await self._hear(member, "joined")

    def kill(self, count: int) -> None:
        """End members as a crash would."""
        self.note(f"{count} are killed")
        for _ in range(count):
            self._draw().kill()

    async def leave(self, count: int) -> None:
        """Have members leave, one after the other."""
        for _ in range(count):
            self.note("1 leaves")
            member = self._draw()
            member.terminate()
            await self._hear(member, "left")
            await member.wait()

    def freeze(self) -> None:
        """Have a member stand still, with its connections open."""
        self.note("1 stands still")
        member = self.luck.choice(self.members)
        member.send_signal(signal.SIGSTOP)
        self._frozen.append(member)

    def thaw(self) -> None:
        """Let those that stand still go on."""
        self.note("it goes on")
        for member in self._frozen:
            member.send_signal(signal.SIGCONT)
        self._frozen.clear()

    async def work(self, seconds: float) -> None:
        """Let all go on for a while."""
        await asyncio.sleep(seconds)

    def note(self, what: str) -> None:
        """Remember what is done now."""
        self.faults.append((what, time.time_ns() // 1000))

    def load(self) -> None:
        """Append events from now on, for ever."""
        self._loading = asyncio.get_running_loop().create_task(self._load())

    async def settle(self) -> list[Effect]:
        """Append no more; return the effects once there is one of each event, at least."""
        assert self._loading is not None
        self._is_over = True
        await self._loading
        wanted = sum(self.appended.values())
        async with open_effects(self._database) as store, asyncio.timeout(WAIT_S):
            while await store.read(_count) < wanted:
                await asyncio.sleep(0.1)
            return [Effect(*row) for row in await store.read(_effects)]

    async def end(self) -> None:
        """Leave no process behind."""
        if self._loading is not None:
            self._loading.cancel()
        for member in self.members:
            if member.returncode is None:
                member.kill()
            await member.communicate()

    _is_over = False

    async def _load(self) -> None:
        """Append some events every moment, each the next one of its key."""
        while not self._is_over:
            keys = self.luck.sample(range(KEYS), EACH_TICK)
            began_s = time.monotonic()
            await asyncio.sleep(TICK_S)
            await asyncio.gather(*(self._append(f"k{key}") for key in keys))
            late_s = time.monotonic() - began_s - TICK_S
            self.late_s[self.faults[-1]] = max(self.late_s.get(self.faults[-1], 0), late_s)

    async def _append(self, key: str) -> None:
        number = self.appended.get(key, 0)
        await self.mesh.append("order.placed", {"number": number}, key=key)
        self.appended[key] = number + 1

    def _draw(self) -> Process:
        member = self.luck.choice([each for each in self.members if each not in self._frozen])
        self.members.remove(member)
        return member

    async def _hear(self, member: Process, word: str) -> None:
        assert member.stdout is not None
        async with asyncio.timeout(WAIT_S):
            line = (await member.stdout.readline()).decode()
        assert line.startswith(word), f"{os.getpid()}: {line!r} for {word!r}"


def tell(line: str) -> None:
    """Say a figure; `-s` shows it."""
    sys.stdout.write(f"{line}\n")


def _count(transaction: Any) -> int:
    found = transaction.execute("SELECT count(*) FROM (SELECT DISTINCT key, number FROM effect)")
    return int(found.scalar())


def _effects(transaction: Any) -> Any:
    columns = "key, number, part, epoch, stored_us, handed_us"
    return transaction.execute(f"SELECT {columns} FROM effect ORDER BY place").all()


def check(effects: list[Effect], appended: dict[str, int]) -> None:
    """Check that each key's events took effect once, in order, and no epoch after a higher one."""
    by_key: dict[str, list[int]] = {}
    epochs: dict[int, int] = {}
    for effect in effects:
        by_key.setdefault(effect.key, []).append(effect.number)
        assert epochs.get(effect.part, 0) <= effect.epoch, f"a stale effect: {effect}"
        epochs[effect.part] = effect.epoch
    assert by_key == {key: list(range(count)) for key, count in appended.items()}


def check_plain(effects: list[Effect], appended: dict[str, int]) -> tuple[int, int]:
    """Check that nothing is lost, and that each owner went through each key in order.

    Returns:
        How many effects are repeats, and how many came after one of a higher epoch.
    """
    done: dict[str, int] = {}
    by_owner: dict[tuple[str, int], int] = {}
    epochs: dict[int, int] = {}
    repeats = stale = 0
    for effect in effects:
        owner, next_one = (effect.key, effect.epoch), done.get(effect.key, 0)
        assert effect.number <= next_one, f"one before it is lost, or later: {effect}"
        assert effect.number == by_owner.get(owner, effect.number), f"out of order: {effect}"
        repeats += effect.number < next_one
        stale += effect.epoch < epochs.get(effect.part, 0)
        by_owner[owner] = effect.number + 1
        done[effect.key] = max(next_one, effect.number + 1)
        epochs[effect.part] = max(epochs.get(effect.part, 0), effect.epoch)
    assert done == appended
    return repeats, stale


class Pause(msgspec.Struct, frozen=True):
    """How long events waited for a handler after something was done."""

    what: str
    longest_s: float
    usual_s: float
    late_s: float
    """So long the machine itself stood still meanwhile, as the load has seen it."""

    def __str__(self) -> str:
        return (
            f"{self.what}: at most {self.longest_s:.3f} s, usually {self.usual_s:.4f} s"
            f" (the load was late by {self.late_s:.3f} s)"
        )

    @property
    def longest_s_max(self) -> float:
        """What it may be: who hangs is noticed by silence, who is gone at once."""
        is_hang = "still" in self.what or "goes on" in self.what
        return (4.0 if is_hang else 1.0) + 3 * self.late_s


def pauses(campaign: Campaign, effects: list[Effect]) -> list[Pause]:
    """Return how long events waited after each thing that was done, until they first came."""
    firsts: dict[tuple[str, int], Effect] = {}
    for effect in effects:
        firsts.setdefault((effect.key, effect.number), effect)
    faults = campaign.faults
    ends = [at_us for _, at_us in faults[1:]] + [
        max(each.stored_us for each in firsts.values()) + 1
    ]
    found: list[Pause] = []
    for (what, begin_us), end_us in zip(faults, ends, strict=True):
        during = sorted(
            each.pause_s for each in firsts.values() if begin_us <= each.stored_us < end_us
        )
        if during:
            late_s = campaign.late_s.get((what, begin_us), 0.0)
            found.append(Pause(what, during[-1], during[len(during) // 2], late_s))
    return found
