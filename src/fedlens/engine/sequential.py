"""One client after another, as the paper writes it. Every other engine must give what this one gives."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fedlens.engine.failures import Failed, Void, all_failed, attempt
from fedlens.engine.plan import Visit
from fedlens.engine.trainer import Delivery, Record, Trainer
from fedlens.errors import RunError
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
    `within`: of each upload, whether a private mechanism left it as long as it was.
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

    def reduced(self) -> dict[str, Tensor]:
        """The weighted mean of every upload, or what the experiment's rule makes of the updates."""
        return {name: total.mean() for name, total in self.sums.items()}


@dataclass(frozen=True)
class Sequential:
    """The oracle engine: one bound module, reused client by client. `expected`: m, the clients wanted in a round."""

    trainer: Trainer
    rule: AnyReducer
    expected: int
    skip_failures: bool = False
    recalibrate: bool = False

    def round(self, tree: Tree, received: Vectors, visits: Sequence[Visit], memory: Mapping[int, Vectors]) -> Outcome:
        """Run `visits` from `tree`. `received`: the server's memory; `memory`: the clients' states by number.

        Raises RunError, with client, round, step and rate, where a client's training leaves the finite numbers, unless
        failures are skipped; then the rest of the cohort counts as if the client had not been drawn.
        """
        if not visits:
            raise Void("no client took part", do=PASS_OVER)
        outcome, most = Outcome(for_the_rest(self.rule)), (-1, 0)
        clip, kept = _clip(received), self.trainer.kept
        sends: Vectors = {name: received[name] for name in self.trainer.method.sends}
        tree, sends, outcome.bytes_down = self.trainer.sender.received(tree, sends, kept)
        for visit, given in zip(visits, self.deliveries(tree, sends, visits, memory, clip), strict=True):
            if isinstance(given, Failed):
                if given.record is None or not self.skip_failures:
                    raise given.error
                outcome.skipped.append(given.record)
                continue
            self._add(outcome, visit, given)
            # Integer buffers are copied from the client with most examples: a choice that no order of clients changes.
            if (visit.examples, -visit.client) > most:
                most, outcome.integers = (visit.examples, -visit.client), given.integers
        if not outcome.records:
            raise all_failed(visits, outcome.skipped)
        return outcome

    def deliveries(
        self, tree: Tree, sends: Vectors, visits: Sequence[Visit], memory: Mapping[int, Vectors], clip: float
    ) -> Iterator[Delivery | Failed]:
        """What each of `visits` gives, in their order; a vector in it is good until the next is asked for."""
        for visit in visits:
            state = memory.get(visit.client, {})
            yield attempt(visit, lambda: self.trainer.visit(tree, sends, visit, state, clip))  # noqa: B023

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

    def _add(self, outcome: Outcome, visit: Visit, delivery: Delivery) -> None:
        uniform = {name for name, how in self.trainer.method.weights.items() if how == "uniform"}
        for name, vector in delivery.upload.items():
            if name not in outcome.sums:
                outcome.sums[name] = for_updates(self.rule) if name == "update" else Sum()
            outcome.sums[name].add(vector, 1.0 if name in uniform else visit.weight)
        outcome.rest.add(delivery.rest, visit.weight)
        outcome.squares += (1.0 if "update" in uniform else visit.weight) * delivery.record.update_norm**2
        outcome.records.append(delivery.record)
        outcome.bytes_up += delivery.bytes
        outcome.within.append(delivery.within)
        if delivery.memory:
            outcome.memory[visit.client] = delivery.memory


def _clip(memory: Vectors) -> float:
    """The present bound of a private mechanism; infinite where there is none."""
    return float(memory[CLIP]) if CLIP in memory else math.inf
