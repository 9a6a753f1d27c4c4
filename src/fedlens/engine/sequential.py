"""One client after another, as the paper writes it. Every other engine must give what this one gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from fedlens.data import Dataset
from fedlens.engine.failures import Failed, Void, all_failed, attempt
from fedlens.engine.plan import Visit
from fedlens.engine.trainer import Delivery, Record, Trainer
from fedlens.errors import RunError
from fedlens.local.evaluate import Evaluation, Tally, evaluated, in_batches, tally
from fedlens.local.statistics import pooled
from fedlens.methods.method import Vectors
from fedlens.seeds import generator
from fedlens.server import AnyReducer, Sum
from fedlens.server.collect import Accumulator, for_the_rest, for_updates
from fedlens.tree import Tree

CLIP = "privacy.clip"  # the server's memory of a private mechanism's bound
PASS_OVER = 'Let more clients take part, or set clients.on_failure = "skip" to pass over such rounds.'


@dataclass
class Outcome:
    """A round's sums: `sums` by upload name, `rest` for what no method touches, integer buffers, a record per visit,
    what was left out, new client states.

    `rest` [P - T] is the weighted update of frozen parameters and buffers. `squares` is the weighted sum of squared
    update norms, for the coherence of the cohort. `bytes_down` is what one client receives, `bytes_up` what all sent;
    `within`: of each upload, whether a private mechanism left it as long as it was. `failed`: in a part of a cohort,
    the visits that gave nothing.
    """

    rest: Accumulator
    sums: dict[str, Accumulator] = field(default_factory=dict)
    integers: Mapping[str, Tensor] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    skipped: list[dict[str, object]] = field(default_factory=list)
    memory: dict[int, Vectors] = field(default_factory=dict)
    squares: float = 0.0
    bytes_down: int = 0
    bytes_up: int = 0
    within: list[bool] = field(default_factory=list)
    most: tuple[int, int] = (-1, 0)
    failed: list[Failed] = field(default_factory=list)

    def reduced(self) -> dict[str, Tensor]:
        """The weighted mean of every upload, or what the experiment's rule makes of the updates."""
        return {name: total.mean() for name, total in self.sums.items()}

    def merge(self, part: Outcome) -> None:
        """Add a part of the cohort that is summed already: of clients without states and integer buffers."""
        for name, total in part.sums.items():
            mine = self.sums.setdefault(name, Sum())
            assert isinstance(mine, Sum) and isinstance(total, Sum)
            mine.merge(total)
        assert isinstance(self.rest, Sum) and isinstance(part.rest, Sum)
        self.rest.merge(part.rest)
        self.records += part.records
        self.squares += part.squares
        self.bytes_up += part.bytes_up
        self.within += part.within

    def add(self, visit: Visit, delivery: Delivery, uniform: frozenset[str], rule: AnyReducer) -> None:
        """Add one visit's delivery. Of the uploads `uniform` each client counts once, of others by its weight."""
        for name, vector in delivery.upload.items():
            if name not in self.sums:
                self.sums[name] = for_updates(rule) if name == "update" else Sum()
            self.sums[name].add(vector, 1.0 if name in uniform else visit.weight)
        self.rest.add(delivery.rest, visit.weight)
        self.squares += (1.0 if "update" in uniform else visit.weight) * delivery.record.update_norm**2
        self.records.append(delivery.record)
        self.bytes_up += delivery.bytes
        self.within.append(delivery.within)
        # Integer buffers are copied from the client with most examples: a choice that no order of clients changes.
        if (visit.examples, -visit.client) > self.most:
            self.most, self.integers = (visit.examples, -visit.client), delivery.integers
        if delivery.memory:
            self.memory[visit.client] = delivery.memory


class Dispatch(NamedTuple):
    """What the visits of a round begin with: the model and the server's memory, as clients receive them, the clients'
    states by number, the present bound of a private mechanism."""

    tree: Tree
    sends: Vectors
    memory: Mapping[int, Vectors]
    clip: float


Given = list[Delivery | Failed] | Outcome  # of a group of visits: of each, in their order, or already summed


class Hand(Protocol):
    """Does visits, some of them together."""

    @property
    def room(self) -> int:
        """How many visits' vectors what a group gives may hold: 1 for a sum."""

    def groups(self, visits: Sequence[Visit]) -> list[Sequence[Visit]]:
        """`visits`, in the groups that are done together; their order says how sums are rounded."""

    def work(self, dispatch: Dispatch, group: Sequence[Visit]) -> Given:
        """What the visits of `group` give."""


@dataclass(frozen=True)
class OneByOne:
    """Each visit alone."""

    trainer: Trainer
    room: int = 1

    def groups(self, visits: Sequence[Visit]) -> list[Sequence[Visit]]:
        """Each alone, in their order."""
        return [[visit] for visit in visits]

    def work(self, dispatch: Dispatch, group: Sequence[Visit]) -> list[Delivery | Failed]:
        """What each visit of `group` gives."""
        return [attempt(visit, lambda: self._visit(dispatch, visit)) for visit in group]  # noqa: B023

    def _visit(self, dispatch: Dispatch, visit: Visit) -> Delivery:
        tree, sends, memory, clip = dispatch
        return self.trainer.visit(tree, sends, visit, memory.get(visit.client, {}), clip)


def one_by_one(trainer: Trainer, rule: AnyReducer) -> Hand:
    """The hand that does each visit alone, whatever the rule."""
    return OneByOne(trainer)


@dataclass(frozen=True)
class Sequential:
    """The oracle engine: one bound module, reused client by client. `expected`: m, the clients wanted in a round.

    `test`: what models are examined on. `hire` says who does the visits of a trainer whose uploads a rule reduces.
    """

    trainer: Trainer
    rule: AnyReducer
    expected: int
    test: Dataset
    skip_failures: bool = False
    recalibrate: bool = False
    hire: Callable[[Trainer, AnyReducer], Hand] = one_by_one

    def round(self, tree: Tree, received: Vectors, visits: Sequence[Visit], memory: Mapping[int, Vectors]) -> Outcome:
        """Run `visits` from `tree`. `received`: the server's memory; `memory`: the clients' states by number.

        Raises RunError, with client, round, step and rate, where a client's training leaves the finite numbers, unless
        failures are skipped; then the rest of the cohort counts as if the client had not been drawn.
        """
        if not visits:
            raise Void("no client took part", do=PASS_OVER)
        outcome = Outcome(for_the_rest(self.rule))
        clip, kept = _clip(received), self.trainer.kept
        sends: Vectors = {name: received[name] for name in self.trainer.method.sends}
        tree, sends, outcome.bytes_down = self.trainer.sender.received(tree, sends, kept)
        groups = self.hand.groups(visits)
        for group, given in zip(groups, self.work(Dispatch(tree, sends, memory, clip), groups), strict=True):
            self._take(outcome, group, given)
        if not outcome.records:
            raise all_failed(visits, outcome.skipped)
        place = {visit.client: position for position, visit in enumerate(visits)}
        outcome.records.sort(key=lambda record: place[record.client])
        return outcome

    def work(self, dispatch: Dispatch, groups: Sequence[Sequence[Visit]]) -> Iterator[Given]:
        """What each of `groups` gives, in their order; a vector in it is good until the next is asked for."""
        for group in groups:
            yield self.hand.work(dispatch, group)

    @cached_property
    def hand(self) -> Hand:
        """Who does visits."""
        return self.hire(self.trainer, self.rule)

    def evaluate(
        self,
        tree: Tree,
        order: np.ndarray | None = None,
        statistics: Literal["running", "batch"] = "running",
    ) -> Evaluation:
        """`tree` on the test examples at `order` (None: on all, as they lie); see fedlens.local.evaluate."""
        order = np.arange(len(self.test)) if order is None else order
        self.trainer.bound.load(tree)
        return evaluated(self.tallies(tree, order, statistics), len(self.test.classes))

    def tallies(self, tree: Tree, order: np.ndarray, statistics: Literal["running", "batch"]) -> Iterable[Tally]:
        """What the test examples at `order` come to, in parts that follow one another; `tree` is loaded."""
        shown = in_batches(self.test, tree.vector.dtype, order)
        module, compute = self.trainer.bound.module, self.trainer.compute
        yield tally(module, shown, len(self.test.classes), statistics=statistics, compute=compute)

    def close(self) -> None:
        """Give back what the engine holds beside its values: nothing."""

    def reduced(self, outcome: Outcome, memory: Vectors, round: int) -> dict[str, Tensor]:
        """The uploads of `round`, each reduced to one vector; with a private mechanism's noise, where there is one.

        Raises Void where they do not suffice.
        """
        mechanism = self.trainer.sender.mechanism
        if mechanism is None:
            try:
                return outcome.reduced()
            except RunError as error:
                problem = error.problems[0]
                raise Void(problem.what, where=problem.where, seen=problem.seen, do=PASS_OVER) from None
        sums = {name: total.mean() * total.weight for name, total in outcome.sums.items()}
        rng = generator(self.trainer.seed, "noise", round)
        return mechanism.server(sums, self.expected, _clip(memory), rng)

    def after(self, outcome: Outcome, memory: Vectors, round: int) -> dict[str, Tensor]:
        """What the server remembers of `round` beside what the method does: the bound of a private mechanism."""
        mechanism = self.trainer.sender.mechanism
        if mechanism is None:
            return {}
        rng = generator(self.trainer.seed, "count", round)
        clip = mechanism.next_clip(_clip(memory), outcome.within, self.expected, rng)
        return {CLIP: torch.tensor(clip, dtype=torch.float64)}

    def recalibrated(self, tree: Tree, visits: Sequence[Visit]) -> Tree:
        """`tree` with running statistics as the examples of `visits` have them under its parameters."""
        if not self.recalibrate:
            return tree
        vector = tree.vector.clone()
        views = tree.layout.views(vector)
        for path, (mean, variance) in pooled([self.trainer.moments(tree, visit) for visit in visits]).items():
            views[f"{path}.running_mean"].copy_(mean)
            views[f"{path}.running_var"].copy_(variance)
        return tree.with_(vector)

    def _take(self, outcome: Outcome, group: Sequence[Visit], given: Given) -> None:
        if isinstance(given, Outcome):
            for failure in given.failed:
                self._fail(outcome, failure)
            if given.records:
                outcome.merge(given)
            return
        uniform = self.trainer.method.uniform
        for visit, one in zip(group, given, strict=True):
            if isinstance(one, Failed):
                self._fail(outcome, one)
            else:
                outcome.add(visit, one, uniform, self.rule)

    def _fail(self, outcome: Outcome, failure: Failed) -> None:
        if failure.record is None or not self.skip_failures:
            raise failure.error
        outcome.skipped.append(failure.record)


def _clip(memory: Vectors) -> float:
    """The present bound of a private mechanism; infinite where there is none."""
    return float(memory[CLIP]) if CLIP in memory else math.inf
