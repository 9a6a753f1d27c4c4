"""One single-thread process per core. They are forked once, share data and weights, and take work as they get free.

On small models two processes with one thread each do up to twice the work of one process with two threads, and lose no
more than their share of a core to a busy neighbour. Results are taken in the order of the visits, whoever was first, so
that a run is the same to the last bit for every number of processes, and the same as the sequential engine's with one
thread.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from fedlens.engine.plan import Visit
from fedlens.engine.sequential import Dispatch, Given, Sequential
from fedlens.engine.trainer import Delivery
from fedlens.engine.workers.parcel import unpack
from fedlens.engine.workers.pool import Exam, Pool, Task, client_of, examined
from fedlens.errors import ConfigurationError
from fedlens.local.evaluate import BATCH, Tally
from fedlens.server import Mean
from fedlens.tree import Tree

PARTS = 4  # an evaluation is cut into so many parts a process, so that one that is slowed does not hold up the rest


def check_workers() -> None:
    """Raise ConfigurationError where processes cannot be forked."""
    if can_fork():
        return
    inside = multiprocessing.current_process().daemon
    raise ConfigurationError(
        "this process cannot start workers",
        where="engine.kind",
        seen="a daemonic process of a pool" if inside else f"{sys.platform} does not fork",
        do='Set engine.kind = "sequential".',
    )


def can_fork() -> bool:
    """Whether this process may start workers."""
    return "fork" in multiprocessing.get_all_start_methods() and not multiprocessing.current_process().daemon


@dataclass(frozen=True)
class Workers(Sequential):
    """The sequential engine with `processes` processes. Call `close` when the run is over."""

    processes: int = 2

    def work(self, dispatch: Dispatch, groups: Sequence[Sequence[Visit]]) -> Iterator[Given]:
        """What each of `groups` gives, in their order; a vector in it is good until the next is asked for."""
        if len(groups) < 2:  # a process more would only add its overhead
            yield from super().work(dispatch, groups)
            return
        pool, (tree, sends, memory, clip) = self._pool, dispatch
        model = pool.share(tree, sends)
        # Longest first, where all uploads can wait for their turn; else as they are to be taken.
        order = list(range(len(groups)))
        if len(pool.slots) >= len(groups):
            order.sort(key=lambda position: -sum(int(visit.sizes.sum()) for visit in groups[position]))
        free = list(pool.slots)

        def task(position: int) -> Task | None:
            if not free:
                return None
            slot, group = free.pop(), groups[position]
            remembered = {visit.client: memory[visit.client] for visit in group if visit.client in memory}
            flat = {f"{client}/{name}": v for client, state in remembered.items() for name, v in state.items()}
            return Task(group, slot, model, pool.slot(slot).write(flat), clip)

        for sent, parcel in self._whole(pool.run(order, task, client_of)):
            assert isinstance(sent, Task)
            given = unpack(parcel, pool.slot(sent.slot).after(sent.states))
            yield given if not isinstance(given, list) else [self._lasting(one) for one in given]
            free.append(sent.slot)

    def tallies(self, tree: Tree, order: np.ndarray, statistics: Literal["running", "batch"]) -> Iterable[Tally]:
        """What the test examples at `order` come to, in parts that follow one another."""
        batches = -(-len(order) // BATCH)
        parts = min(batches, PARTS * self.processes)
        if parts < 2:
            yield from super().tallies(tree, order, statistics)
            return
        model = self._pool.share(tree, {})
        cuts = [BATCH * (batches * part // parts) for part in range(parts + 1)]
        exams = [Exam(order[a:b], statistics, model) for a, b in pairwise(cuts)]
        for _, found in self._whole(self._pool.run(list(range(parts)), exams.__getitem__, examined)):
            yield found

    def _whole(self, answers: Iterator[Any]) -> Iterator[Any]:
        """`answers`; where they are not asked for to the end, the processes that still owe some are ended."""
        whole = False
        try:
            yield from answers
            whole = True
        finally:
            if not whole:
                self.close()

    def _lasting(self, given: Any) -> Any:
        """Copies of what is looked at later: client states, and uploads under a rule that compares them."""
        if not isinstance(given, Delivery):
            return given
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
        return Pool(self, self.processes)
