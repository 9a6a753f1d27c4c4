"""One client after another, as the paper writes it. Every other engine must give what this one gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from fedlens.engine.plan import Visit
from fedlens.engine.trainer import Delivery, Record, Trainer
from fedlens.errors import RunError
from fedlens.local import Broken, Diverged
from fedlens.local.statistics import pooled
from fedlens.methods.method import Vectors
from fedlens.server import AnyReducer, Sum
from fedlens.server.collect import Accumulator, for_the_rest, for_updates
from fedlens.tree import Tree


@dataclass
class Outcome:
    """A round's sums: `sums` by upload name, `rest` for what no method touches, integer buffers, a record per visit,
    what was left out, new client states.

    `rest` [P - T] is the weighted update of frozen parameters and buffers. `squares` is the weighted sum of squared
    update norms, for the coherence of the cohort.
    """

    rest: Accumulator
    sums: dict[str, Accumulator] = field(default_factory=dict)
    integers: Mapping[str, Tensor] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    skipped: list[dict[str, object]] = field(default_factory=list)
    memory: dict[int, Vectors] = field(default_factory=dict)
    squares: float = 0.0

    def reduced(self) -> dict[str, Tensor]:
        """The weighted mean of every upload, or what the experiment's rule makes of the updates."""
        return {name: total.mean() for name, total in self.sums.items()}


@dataclass(frozen=True)
class Sequential:
    """The oracle engine: one bound module, reused client by client."""

    trainer: Trainer
    rule: AnyReducer
    skip_failures: bool = False
    recalibrate: bool = False

    def round(self, tree: Tree, received: Vectors, visits: Sequence[Visit], memory: Mapping[int, Vectors]) -> Outcome:
        """Run `visits` from `tree`. `received`: the server's memory; `memory`: the clients' states by number.

        Raises RunError, with client, round, step and rate, where a client's training leaves the finite numbers, unless
        failures are skipped; then the rest of the cohort counts as if the client had not been drawn.
        """
        outcome, most = Outcome(for_the_rest(self.rule)), (-1, 0)
        for visit in visits:
            try:
                delivery = self.trainer.visit(tree, received, visit, memory.get(visit.client, {}))
            except Diverged as failure:
                if not self.skip_failures:
                    raise _told(failure, visit) from None
                outcome.skipped.append({"client": visit.client, "step": failure.step, "why": failure.what})
                continue
            except Broken as failure:
                raise _broken(failure, visit) from failure.__cause__
            self._add(outcome, visit, delivery)
            # Integer buffers are copied from the client with most examples: a choice that no order of clients changes.
            if (visit.examples, -visit.client) > most:
                most, outcome.integers = (visit.examples, -visit.client), delivery.integers
        if not outcome.records:
            raise _all_failed(visits, outcome)
        return outcome

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
        if delivery.memory:
            outcome.memory[visit.client] = delivery.memory


def _told(failure: Diverged, visit: Visit) -> RunError:
    return RunError(
        "local training diverged",
        where=f"client {visit.client}, round {visit.round}, step {failure.step}",
        seen=f"{failure.what}; learning rate {failure.rate:g}",
        do='Lower local.lr, set local.clip_norm, or clients.on_failure = "skip" to go on without such clients.',
    )


def _broken(failure: Broken, visit: Visit) -> RunError:
    cause = failure.__cause__
    do = "Correct the model; -v shows where it raised."
    if "more than 1 value per channel" in str(cause):
        do = "Batch norm cannot train on a batch of one value: raise local.batch, or set model.norm to another."
    return RunError(
        "local training failed",
        where=f"client {visit.client}, round {visit.round}, step {failure.step}",
        seen=f"{type(cause).__name__}: {cause}",
        do=do,
    )


def _all_failed(visits: Sequence[Visit], outcome: Outcome) -> RunError:
    steps = [str(entry["step"]) for entry in outcome.skipped]
    return RunError(
        "every client of the cohort failed",
        where=f"round {visits[0].round}",
        seen=f"{len(visits)} clients, failing at steps {', '.join(steps)}; learning rate {visits[0].rate:g}",
        do="Lower local.lr or set local.clip_norm.",
    )
