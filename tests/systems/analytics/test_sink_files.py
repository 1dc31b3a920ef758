"""Files that are half written, by whoever was killed, gave up or hangs, are seen by nobody."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from agent99.systems.analytics import ParquetSink
from tests._wait import PATIENCE_S, eventually

from ._sinking import TARGET, event, row

UNDER = Path("shops", "v1", "revenue")


class Gate:
    """Holds up, on its thread, the first one who comes; the others pass."""

    def __init__(self) -> None:
        self.is_there = threading.Event()
        self.may_pass = threading.Event()

    def hold(self) -> None:
        """Wait, if nobody came before, until it is opened."""
        if not self.is_there.is_set():
            self.is_there.set()
            assert self.may_pass.wait(PATIENCE_S)


@contextmanager
def gate(monkeypatch: pytest.MonkeyPatch, of: object, name: str) -> Iterator[Gate]:
    """Hold up whoever calls a function of `of` first; it is let go at the end."""
    held, inner = Gate(), getattr(of, name)

    def outer(*arguments: object, **named: object) -> object:
        held.hold()
        return inner(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(of, name, outer)
        try:
            yield held
        finally:
            held.may_pass.set()


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_two_who_write_one_file_spoil_it_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was taken over from, in the same process, and ends late, shows no half of a file."""
    rows = [row(minute) for minute in range(50)]
    sink = ParquetSink(tmp_path)
    async with sink.open(TARGET) as old, sink.open(TARGET) as new:
        with gate(monkeypatch, os, "fsync") as late:
            given_up = asyncio.ensure_future(old.write(rows, event()))
            await eventually(late.is_there.is_set)
            with gate(monkeypatch, pl.DataFrame, "write_parquet") as half:
                taken_over = asyncio.ensure_future(new.write(rows, event()))
                await eventually(half.is_there.is_set)
                late.may_pass.set()
                await given_up
                assert 50 == len(pl.read_parquet(tmp_path / UNDER))
            await taken_over
    assert 50 == len(pl.read_parquet(tmp_path / UNDER))
    assert 1 == len(_files(tmp_path))


async def test_who_ends_late_finds_it_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who ends when another one has written the same file has done so, and leaves nothing."""
    sink = ParquetSink(tmp_path)
    async with sink.open(TARGET) as old, sink.open(TARGET) as new:
        with gate(monkeypatch, os, "fsync") as late:
            given_up = asyncio.ensure_future(old.write([row()], event()))
            await eventually(late.is_there.is_set)
            await new.write([row()], event())
            late.may_pass.set()
            assert [] == await given_up
    assert 1 == len(_files(tmp_path))


async def test_what_a_killed_one_left_is_no_file_of_the_folder(tmp_path: Path) -> None:
    """Half a file is never in the folder that is read, and goes when its event comes again."""
    sink = ParquetSink(tmp_path)
    async with sink.open(TARGET) as writer:
        await writer.write([row()], event(1))
        (whole,) = _files(tmp_path)
        left = tmp_path / ".parts" / UNDER / f"{whole.name}.left"
        left.write_bytes(b"half of")
        assert 1 == len(pl.read_parquet(tmp_path / UNDER))
        await writer.write([row()], event(1))
    assert [whole] == _files(tmp_path)


async def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that fails leaves no file, whole or half, and the next one writes it."""

    def is_full(_number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with ParquetSink(tmp_path).open(TARGET) as writer:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", is_full)
            with pytest.raises(OSError, match="No space"):
                await writer.write([row()], event())
            assert [] == _files(tmp_path)
        await writer.write([row()], event())
    assert 1 == len(pl.read_parquet(tmp_path / UNDER))


async def test_a_disk_that_hangs_takes_no_thread_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many attempts are given up on a disk that hangs: threads of others are free."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
    async with ParquetSink(tmp_path).open(TARGET) as writer:
        with gate(monkeypatch, os, "fsync") as disk:
            for _ in range(5):
                attempt = asyncio.ensure_future(writer.write([row()], event()))
                await eventually(disk.is_there.is_set)
                attempt.cancel()
                await asyncio.wait([attempt])
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.to_thread(int)
        async with asyncio.timeout(PATIENCE_S):
            await writer.write([row()], event())
    assert 1 == len(_files(tmp_path))


async def test_new_folders_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders that a sink makes are made to stay, each in the one that it is in."""
    synced: list[str] = []
    inner = os.fsync

    def fsync(number: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{number}").readlink()))
        inner(number)

    monkeypatch.setattr(os, "fsync", fsync)
    async with ParquetSink(tmp_path / "lake").open(TARGET):
        pass
    lake = tmp_path / "lake"
    assert {str(one) for one in (tmp_path, lake, lake / "shops", lake / "shops" / "v1")} <= set(
        synced
    )
