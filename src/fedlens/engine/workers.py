"""One single-thread process per core. They are forked once, share data and weights, and take visits as they get free.

On small models two processes with one thread each do up to twice the work of one process with two threads, and lose no
more than their share of a core to a busy neighbour. Results are taken in the order of the visits, whoever was first, so
that a run is the same to the last bit for every number of processes, and the same as the sequential engine's with one
thread.
"""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fedlens.engine.failures import Failed, attempt
from fedlens.engine.plan import Visit
from fedlens.engine.sequential import Sequential
from fedlens.engine.trainer import Delivery, Record, Trainer
from fedlens.errors import ConfigurationError, RunError
from fedlens.methods.method import Vectors
from fedlens.server import Mean
from fedlens.tree import Tree

PR_SET_PDEATHSIG = 1
HELD = 2**28  # bytes of uploads that may wait for their turn


def check_workers() -> None:
    """Raise ConfigurationError where processes cannot be forked."""
    inside = multiprocessing.current_process().daemon
    if "fork" in multiprocessing.get_all_start_methods() and not inside:
        return
    raise ConfigurationError(
        "this process cannot start workers",
        where="engine.kind",
        seen="a daemonic process of a pool" if inside else f"{sys.platform} does not fork",
        do='Set engine.kind = "sequential".',
    )


@dataclass(frozen=True)
class Workers(Sequential):
    """The sequential engine with `processes` hands. Call `close` when the run is over."""

    processes: int = 2

    def deliveries(
        self, tree: Tree, sends: Vectors, visits: Sequence[Visit], memory: Mapping[int, Vectors], clip: float
    ) -> Iterator[Delivery | Failed]:
        """What each of `visits` gives, in their order; a vector in it is good until the next is asked for."""
        if len(visits) == 1:  # a process more would only add its overhead
            yield from super().deliveries(tree, sends, visits, memory, clip)
            return
        whole = False
        try:
            for given in self._pool.run(tree, sends, visits, memory, clip):
                yield given if isinstance(given, Failed) else self._lasting(given)
            whole = True
        finally:
            if not whole:  # answers of this round may still be on their way
                self.close()

    def _lasting(self, given: Delivery) -> Delivery:
        """Copies of what is looked at later: client states, and uploads under a rule that compares them."""
        state = {name: vector.clone() for name, vector in given.memory.items()}
        if isinstance(self.rule, Mean):
            return replace(given, memory=state)
        upload = {name: vector.clone() for name, vector in given.upload.items()}
        return replace(given, memory=state, upload=upload, rest=given.rest.clone())

    def close(self) -> None:
        """End the processes; they start anew where the engine is used again."""
        pool = self.__dict__.pop("_pool", None)
        if pool is not None:
            pool.close()

    @cached_property
    def _pool(self) -> Pool:
        return Pool(self.trainer, self.processes, self.expected)


class Shared:
    """Numbers of one type in memory that parent and children see alike, taken up page by page as they are written."""

    def __init__(self, numbers: int, dtype: torch.dtype) -> None:
        width = torch.empty((), dtype=dtype).element_size()
        self.vector = torch.frombuffer(mmap.mmap(-1, max(1, numbers) * width), dtype=dtype)

    def write(self, named: Vectors) -> list[tuple[str, tuple[int, ...]]]:
        """Lay `named` vectors one after another; returns what `read` needs to find them."""
        at = 0
        for vector in named.values():
            self.vector[at : at + vector.numel()] = vector.reshape(-1)
            at += vector.numel()
        return [(name, tuple(vector.shape)) for name, vector in named.items()]

    def read(self, shapes: Sequence[tuple[str, tuple[int, ...]]]) -> dict[str, Tensor]:
        """The named vectors, as views."""
        found, at = {}, 0
        for name, shape in shapes:
            size = int(np.prod(shape))
            found[name] = self.vector[at : at + size].view(shape)
            at += size
        return found


class Task(NamedTuple):
    """`clip`, and where the model, the server's memory and the client's state lie."""

    visit: Visit
    slot: int
    model: list[tuple[str, tuple[int, ...]]]
    state: list[tuple[str, tuple[int, ...]]]
    integers: dict[str, np.ndarray]
    clip: float


class Answer(NamedTuple):
    """Where the delivery's vectors lie, and all of it that is no vector."""

    shapes: list[tuple[str, tuple[int, ...]]]
    integers: dict[str, np.ndarray]
    record: Record
    bytes: int
    within: bool


class Pool:
    """The processes of one run, each at the other end of a pipe."""

    def __init__(self, trainer: Trainer, processes: int, expected: int) -> None:
        size, dtype = trainer.bound.vector.numel(), trainer.bound.vector.dtype
        optimizer = {"sgd": 1, "adam": 2, "adamw": 2}[trainer.local.optimizer] if trainer.local.keep_optimizer else 0
        # What may travel with a visit: uploads, what method, codec and optimiser remember, a personal model.
        most = size * (8 + len(trainer.method.client_memory) + optimizer) + 64
        fitting = HELD // (2 * size * trainer.bound.vector.element_size() + 1)
        self.slots = [Shared(most, dtype) for _ in range(max(2 * processes + 2, min(expected, fitting)))]
        self.model = Shared(size * (1 + len(trainer.method.sends)) + 64, dtype)
        context = multiprocessing.get_context("fork")
        pipes = [context.Pipe() for _ in range(processes)]
        self.connections: list[Connection] = [ours for ours, _ in pipes]
        self.children: list[Any] = []
        for _, theirs in pipes:
            others = [end for pair in pipes for end in pair if end is not theirs]
            child = context.Process(target=_serve, args=(trainer, theirs, others, self.model, self.slots), daemon=True)
            child.start()
            self.children.append(child)
        for _, theirs in pipes:
            theirs.close()

    def run(
        self, tree: Tree, sends: Vectors, visits: Sequence[Visit], memory: Mapping[int, Vectors], clip: float
    ) -> Iterator[Delivery | Failed]:
        """Deliveries in the order of `visits`; a vector in one is good until the next is asked for."""
        model = self.model.write({"model": tree.vector, **sends})
        integers = {name: value.numpy() for name, value in tree.integers.items()}
        waiting = self._order(visits)
        free, idle = list(range(len(self.slots))), list(self.connections)
        busy: dict[Connection, tuple[int, int]] = {}
        done: dict[int, tuple[int, Answer | Failed]] = {}
        for turn in range(len(visits)):
            while turn not in done:
                while idle and free and waiting:
                    position, slot, connection = waiting.pop(0), free.pop(), idle.pop()
                    visit = visits[position]
                    state = self.slots[slot].write(memory.get(visit.client, {}))
                    with _alive(visit):
                        connection.send(Task(visit, slot, model, state, integers, clip))
                    busy[connection] = position, slot
                for ready in wait(list(busy)):
                    assert isinstance(ready, Connection)
                    position, slot = busy.pop(ready)
                    with _alive(visits[position]):
                        done[position] = slot, ready.recv()
                    idle.append(ready)
            slot, answer = done.pop(turn)
            yield answer if isinstance(answer, Failed) else self._delivery(slot, answer)
            free.append(slot)

    def _order(self, visits: Sequence[Visit]) -> list[int]:
        """The longest first, where all uploads can wait for their turn; else as they are to be taken."""
        order = list(range(len(visits)))
        if len(self.slots) < len(visits):
            return order
        return sorted(order, key=lambda position: -len(visits[position].batches))

    def _delivery(self, slot: int, answer: Answer) -> Delivery:
        found = self.slots[slot].read(answer.shapes)
        upload = {name.removeprefix("upload."): v for name, v in found.items() if name.startswith("upload.")}
        memory = {name.removeprefix("memory."): v for name, v in found.items() if name.startswith("memory.")}
        integers = {name: torch.from_numpy(value) for name, value in answer.integers.items()}
        return Delivery(upload, found["rest"], integers, answer.record, memory, answer.bytes, answer.within)

    def close(self) -> None:
        """End the processes."""
        for connection in self.connections:
            connection.close()  # a child that finds its pipe closed returns
        for child in self.children:
            child.join(timeout=1)
            if child.is_alive():
                child.kill()


@contextmanager
def _alive(visit: Visit) -> Iterator[None]:
    """Tell a process that is not there any more as what it is."""
    try:
        yield
    except (EOFError, ConnectionError):
        where = f"client {visit.client}, round {visit.round}"
        do = "Look for what ended it (often too little memory), then go on with --resume."
        raise RunError("a worker process ended unexpectedly", where=where, do=do) from None


def _serve(trainer: Trainer, mine: Connection, others: list[Connection], model: Shared, slots: list[Shared]) -> None:
    """Answer tasks until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, who lets the round finish
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _die_with_parent()
    for connection in others:
        connection.close()
    torch.set_num_threads(1)
    while True:
        try:
            task: Task = mine.recv()
        except (EOFError, ConnectionError):
            return
        mine.send(attempt(task.visit, lambda: _visited(trainer, task, model, slots[task.slot])))  # noqa: B023


def _die_with_parent() -> None:
    """End at once with the parent, on Linux: a visit that nobody waits for would hold the run's lock."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _visited(trainer: Trainer, task: Task, model: Shared, slot: Shared) -> Answer:
    received = model.read(task.model)
    integers = {name: torch.from_numpy(value) for name, value in task.integers.items()}
    tree = Tree(trainer.bound.layout, received.pop("model"), integers)
    state = {name: vector.clone() for name, vector in slot.read(task.state).items()}
    delivery = trainer.visit(tree, received, task.visit, state, task.clip)
    vectors = {f"upload.{name}": vector for name, vector in delivery.upload.items()}
    vectors |= {"rest": delivery.rest, **{f"memory.{name}": vector for name, vector in delivery.memory.items()}}
    changed = {name: value.numpy() for name, value in delivery.integers.items()}
    return Answer(slot.write(vectors), changed, delivery.record, delivery.bytes, delivery.within)
