"""Contenders in processes of their own, so that memory, threads and pools of one do not disturb another.

This module and the process that measures load no PyTorch: forked from it, every contender begins with nothing, and its
pages are counted in full.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

_context = multiprocessing.get_context("fork")
_ours: set[Connection] = set()  # a child closes them, so that each ends when its own parent's end is closed
EVERY = 0.02  # seconds between two looks at the memory


class Refused(Exception):
    """A contender could not be made, or its work failed; the text says why."""


class Answer(NamedTuple):
    """What a call gave, its wall seconds inside the contender, and, where it was asked for, the peak of memory."""

    value: Any
    seconds: float
    peak: int = 0


class Apart:
    """An object made by `maker` ("module:name") from `values`, in a process of its own, which lives until `close`."""

    def __init__(self, maker: str, *values: Any) -> None:
        self._connection, theirs = _context.Pipe()
        _ours.add(self._connection)
        # Not a daemon: contenders have children of their own.
        self.process = _context.Process(target=_serve, args=(theirs, maker, values))
        self.process.start()
        theirs.close()
        try:
            self._answer(watch=False)
        except BaseException:
            self.close()
            raise

    def ask(self, method: str, *values: Any, watch: bool = False) -> Answer:
        """Call a method of the object. `watch`: look at the memory meanwhile. Raises Refused where it fails."""
        self._connection.send((method, values))
        return self._answer(watch)

    def _answer(self, watch: bool) -> Answer:
        peak = 0
        while watch:  # at least once: short work still holds what it made
            peak = max(peak, resident(self.process.pid))
            watch = not self._connection.poll(EVERY)
        try:
            failed, value, seconds = self._connection.recv()
        except EOFError:
            raise Refused("its process ended unexpectedly") from None
        if failed:
            raise Refused(value)
        return Answer(value, seconds, peak)

    def close(self) -> None:
        """End the process and, by that, its children."""
        _ours.discard(self._connection)
        self._connection.close()
        self.process.join(timeout=10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()

    def __enter__(self) -> Apart:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _serve(connection: Connection, maker: str, values: tuple[Any, ...]) -> None:
    """Make the object, then answer calls until the other end is closed."""
    for end in _ours:
        end.close()
    module, _, name = maker.partition(":")
    subject, work = None, lambda: getattr(importlib.import_module(module), name)(*values)
    while True:
        began = time.perf_counter()
        try:
            value = work()
            seconds = time.perf_counter() - began
            subject = value if subject is None else subject
            connection.send((False, None if value is subject else value, seconds))
        except Exception as error:
            connection.send((True, f"{type(error).__name__}: {error}", 0.0))
        try:
            method, given = connection.recv()
        except (EOFError, ConnectionError):
            break
        work = lambda: getattr(subject, method)(*given)  # noqa: B023, E731
    close = getattr(subject, "close", None)
    if close is not None:
        close()


def resident(process: int | None) -> int:
    """Bytes that `process` and all below it hold in memory; a page that several hold counts once."""
    parents: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = status.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        parents.setdefault(int(after_name[1]), []).append(int(status.parent.name))
    waiting, total = [process or os.getpid()], 0
    while waiting:
        one = waiting.pop()
        waiting += parents.get(one, [])
        total += _pss(one)
    return total


def _pss(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


@contextmanager
def neighbour() -> Iterator[None]:
    """One process beside, which is always busy."""
    process = _context.Process(target=_busy, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def _busy() -> None:
    while True:
        pass


def foreign_load(seconds: float = 1.0) -> float:
    """The share of the machine's cores that others kept busy during `seconds`, in which this process sleeps."""
    before = _ticks()
    time.sleep(seconds)
    idle, total = (now - then for now, then in zip(_ticks(), before, strict=True))
    return 1 - idle / max(1, total)


def _ticks() -> tuple[int, int]:
    """Idle and all ticks of all cores since the machine began."""
    numbers = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return numbers[3] + numbers[4], sum(numbers)
