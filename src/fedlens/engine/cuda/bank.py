"""Several clients of a small model at once on the device: one step moves all of them, and is captured.

A step of a small model is some hundred kernels that are over sooner than a GPU is asked for them, one client or many.
The weights of C clients lie in the rows of one matrix, and so do gradients, optimiser states and what clients remember.
Those with most steps stand first, so that the clients who still train are the first A; a step is captured for every
power of two A and every width of a batch. Rows between the clients who still train and that power go on for nothing:
what came out of a client is laid aside when its last step is done.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fedlens.engine.cuda.device import Lane, Repeated, Uncaptured
from fedlens.engine.cuda.exam import PAUSE
from fedlens.engine.cuda.examples import Examples, height, table
from fedlens.engine.cuda.slot import Job, Shape, bound_on, check_finite
from fedlens.engine.cuda.stack import Stack
from fedlens.engine.cuda.update import Update
from fedlens.engine.failures import Failed, attempt
from fedlens.engine.plan import Visit
from fedlens.engine.trainer import Delivery, Trainer
from fedlens.local import Trained
from fedlens.local.compute import Compute
from fedlens.methods import Client
from fedlens.methods.method import Vectors

WAITING = 2**30  # bytes of results that wait; not what happens to be free: groups say how results are rounded


class Group(NamedTuple):
    """Visits that are done at once, those with most steps first, and on the CPU what their steps read: `table`
    i64 [K, A, rows, width] and the `sizes` i64 [K, A] of batches, ones after a client's last."""

    jobs: list[Job]
    table: Tensor
    sizes: Tensor

    @classmethod
    def of(cls, host: Trainer, jobs: list[Job]) -> Group:
        """The group of `jobs`, in their order; `host` is the trainer on the CPU."""
        shape, rows = Shape.of([job.visit for job in jobs]), height(host.augment)
        whole = torch.zeros(shape.steps, len(jobs), rows, shape.width, dtype=torch.int64)
        sizes = torch.ones(shape.steps, len(jobs), dtype=torch.int64)
        for at, job in enumerate(jobs):
            mine = job.visit.sizes
            whole[: len(mine), at], sizes[: len(mine), at] = table(host, job.visit, shape.width), torch.from_numpy(mine)
        return cls(jobs, whole, sizes)


Begin = Callable[[Sequence[Visit]], Group]
End = Callable[[Job, Trained], Delivery]


class Bank:
    """Places for `places` clients of visits of at most `shape`, and the captured steps over them."""

    def __init__(
        self, there: Trainer, examples: Examples, lane: Lane, shape: Shape, places: int, received: Vectors
    ) -> None:
        self.examples, self.lane, self.shape, self.places = examples, lane, shape, places
        bound = self.bound = bound_on(there.bound.module, there.bound.vector.device, there.bound.vector.dtype)
        # Images lie channel by channel: with weights for each client, a convolution has no other form.
        self.stack = Stack(bound.module.train(), bound.layout, Compute(bfloat16=there.compute.bfloat16))
        first = bound.vector[: bound.layout.trained]
        self.weights = first.repeat(places, 1)
        self.gradient = torch.zeros_like(self.weights)
        self.rate, self.reach = first.new_ones(places, 1), first.new_ones(places, 1)
        # Where nothing stays with the clients, all of them set out from the same weights.
        start = first.clone() if there.method.keeps is None else self.weights.clone()
        memory = {name: torch.zeros_like(self.weights) for name in there.method.client_memory}
        self.client = Client(start, received, memory, self.rate, self.reach)
        self.correct, self.update = there.method.correct, Update(there.local)
        self.state = self.update.start(self.weights)
        if "count" in self.state:
            self.state["count"] = first.new_zeros(places, 1, dtype=torch.float64)
        self.live = {"weights": self.weights} | (self.state if there.local.keep_optimizer else {})
        self.ended = {name: torch.empty_like(rows) for name, rows in self.live.items()}
        self.table = first.new_zeros(shape.steps, places, height(there.augment), shape.width, dtype=torch.int64)
        self.sizes = first.new_ones(shape.steps, places, dtype=torch.int64)
        self.across = torch.arange(shape.width, device=first.device)
        self.counter, self.losses = self.sizes.new_zeros(1), first.new_zeros(shape.steps, places)
        self.steps: dict[tuple[int, int], Repeated] = {}
        self.done: Callable[[], bool] = lambda: True

    def run(self, visits: Sequence[Visit], begin: Begin, end: End, held: int) -> Iterator[Delivery | Failed]:
        """What `visits` give, in their order; about `held` results, or those of a group, may wait for their turn.
        Raises Uncaptured."""
        groups = in_groups([(len(visit.batches), visit.examples) for visit in visits], self.places, held)
        made = (begin([visits[at] for at in group]) for group in groups)
        done, turn = dict[int, Delivery | Failed](), 0
        self.start(next(made))
        self.go()
        for group in groups:
            jobs, ready = self.jobs, next(made, None)  # made while the device is at work on those before
            found = self.finish()
            if ready is not None:
                self.start(ready)
                self.go()
            for at, position in sorted(enumerate(group), key=lambda place: place[1]):
                done[position] = attempt(visits[position], lambda: end(jobs[at], found(at)))  # noqa: B023
                while turn in done:
                    yield done.pop(turn)
                    turn += 1

    def start(self, group: Group) -> None:
        """Take over a group of visits, which begin with the same parameters that no one trains."""
        self._wait()
        self.jobs, self.width, many = group.jobs, group.table.shape[-1], len(group.jobs)
        steps = [len(job.visit.batches) for job in group.jobs]
        self.active = [sum(number < length for length in steps) for number in range(steps[0])]
        self.bound.load(group.jobs[0].begin)
        apart = self.client.start.dim() == 2
        for at, job in enumerate(group.jobs if apart else ()):
            self.client.start[at].copy_(job.client.start)
        if not apart:
            self.client.start.copy_(group.jobs[0].client.start)
        self.weights[:many].copy_(self.client.start[:many] if apart else self.client.start)
        for at, job in enumerate(group.jobs):
            for name, vectors in self.client.memory.items():
                vectors[at].copy_(job.client.memory[name])
            for name, vectors in self.state.items():
                kept = job.state.get(f"optimizer.{name}")
                vectors[at].zero_() if kept is None else vectors[at].copy_(kept)
        for numbers, now in (
            (self.rate, [job.visit.rate for job in group.jobs]),
            (self.reach, [float(job.client.reach) for job in group.jobs]),
        ):
            numbers[:many, 0].copy_(torch.tensor(now, dtype=torch.float64))
        self.table[: steps[0], :many, :, : self.width].copy_(group.table)
        self.sizes[: steps[0], :many].copy_(group.sizes)
        self.counter.zero_()
        self.lane.follow()

    def go(self) -> None:
        """Ask for all steps. Raises Uncaptured, also where the model raises: alone it says at which client."""
        try:
            with self.lane.active():
                for active, left in zip(self.active, [*self.active[1:], 0], strict=True):
                    self._take(min(self.places, 1 << (active - 1).bit_length()))
                    for name, rows in self.live.items() if left < active else ():
                        self.ended[name][left:active].copy_(rows[left:active])
        except Uncaptured:
            raise
        except Exception as error:
            raise Uncaptured(str(error)) from error
        finally:
            self.done = self.lane.mark()

    def finish(self) -> Callable[[int], Trained]:
        """When all steps are done: what came out at a place, which stays when the next group is taken over. To ask for
        it raises Diverged, for the step at which sequential training would."""
        self._wait()
        many, jobs = len(self.jobs), self.jobs
        ended = {name: rows[:many].clone() for name, rows in self.ended.items()}
        rest = self.bound.vector[self.weights.shape[1] :].clone()
        losses, norms = self.losses[: len(self.active), :many].T.tolist(), ended["weights"].norm(dim=1).tolist()

        def found(at: int) -> Trained:
            visit = jobs[at].visit
            mine = losses[at][: len(visit.batches)]
            check_finite(mine, norms[at], visit.rate)
            state = {name: ended[name][at].clone() for name in ended if name != "weights"}
            if "count" in state:
                state["count"] = state["count"].squeeze(0)
            return Trained(torch.cat([ended["weights"][at], rest]), {}, mine, state)

        return found

    def _wait(self) -> None:
        while not self.done():
            time.sleep(PAUSE)

    def _take(self, rows: int) -> None:
        key = rows, self.width
        if key not in self.steps:
            self.steps[key] = Repeated(self.lane, lambda: self._step(*key))
        self.steps[key]()

    def _step(self, rows: int, width: int) -> None:
        """One step of the first `rows` clients, on the batches at the counter; the longest has `width` examples."""
        read = self.table[:, :rows, :, :width].index_select(0, self.counter)[0]
        sizes = self.sizes[:, :rows].index_select(0, self.counter)[0]
        draws = read[:, 2:].transpose(1, 2).flatten(0, 1)
        inputs = self.examples.inputs(read[:, 0].flatten(), draws)
        inputs = inputs.view(rows, width, *inputs.shape[1:])
        own = self.across[:width] < sizes[:, None]
        with torch.no_grad():
            weights, gradient = self.weights[:rows], self.gradient[:rows]
            losses = self.stack.slopes(weights, inputs, read[:, 1], own, into=gradient)
            state = {name: vectors[:rows] for name, vectors in self.state.items()}
            self.update.take(weights, gradient, state, self.rate[:rows], self._corrected)
            self.losses[:, :rows].index_copy_(0, self.counter, losses.to(self.losses.dtype)[None])
            self.counter.add_(1)

    def _corrected(self, gradient: Tensor, weights: Tensor) -> Tensor:
        if self.correct is None:
            return gradient
        rows, client = len(weights), self.client
        memory = {name: vectors[:rows] for name, vectors in client.memory.items()}
        start = client.start if client.start.dim() == 1 else client.start[:rows]
        now = dataclasses.replace(client, start=start, memory=memory, rate=self.rate[:rows], reach=self.reach[:rows])
        return self.correct(gradient, weights, now)


def in_groups(lengths: Sequence[tuple[int, int]], most: int, within: int) -> list[list[int]]:
    """The numbers of visits of such `lengths`, in steps and then examples, in groups of at most `most`: the longest of
    the next `within` visits first, which are no fewer than a group's."""
    groups, span = [], max(most, within)
    for first in range(0, len(lengths), span):
        end = min(first + span, len(lengths))
        some = sorted(range(first, end), key=lambda at: lengths[at], reverse=True)
        size = evenly(len(some), most)
        groups += [some[at : at + size] for at in range(0, len(some), size)]
    return groups


def evenly(count: int, most: int) -> int:
    """How many of `count` are put together, at most `most`, for as few groups as that allows, of about equal size."""
    return math.ceil(count / math.ceil(count / most))
