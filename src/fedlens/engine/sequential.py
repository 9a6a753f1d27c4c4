"""One client after another, as the paper writes it. Every other engine must give what this one gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fedlens.data import Dataset
from fedlens.engine.plan import Visit
from fedlens.errors import RunError
from fedlens.local import AnyAttack, Batch, Broken, Diverged, Local, Optimizer, Trained, Work, train
from fedlens.local.augment import crop_flip, draw_crop_flip
from fedlens.local.step import Loss
from fedlens.methods import Client, Lesson, Method
from fedlens.methods.method import Vectors
from fedlens.seeds import generator, torch_seed
from fedlens.server import AnyReducer, Sum
from fedlens.server.collect import Accumulator, for_the_rest, for_updates
from fedlens.tree import Bound, Tree

GATHERED = 2**20  # numbers that are gathered at once: 4 MB in float32, which stays in the caches


@dataclass(frozen=True)
class Record:
    """What one visit left behind. `examples`: n_i; `samples`: how many passed through training, epochs counted.

    Losses are means over the first and the last batch, in nats; the norm is over parameters only.
    """

    client: int
    examples: int
    samples: int
    steps: int
    loss_first: float
    loss_last: float
    update_norm: float


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
    """The oracle engine: one bound module, reused client by client.

    A client's state is one dict of vectors: what the method remembers under "method.NAME" and, where it is to be kept,
    what the optimiser does under "optimizer.NAME".
    """

    bound: Bound
    data: Dataset
    local: Local
    method: Method
    seed: int
    rule: AnyReducer
    attack: AnyAttack
    augment: bool = False
    skip_failures: bool = False
    attackers: frozenset[int] = frozenset()

    def round(self, tree: Tree, received: Vectors, visits: Sequence[Visit], memory: Mapping[int, Vectors]) -> Outcome:
        """Run `visits` from `tree`. `received`: the server's memory; `memory`: the clients' states by number.

        Raises RunError, with client, round, step and rate, where a client's training leaves the finite numbers, unless
        failures are skipped; then the rest of the cohort counts as if the client had not been drawn.
        """
        outcome, most = Outcome(for_the_rest(self.rule)), (-1, 0)
        for visit in visits:
            client = self._client(tree, received, visit, memory.get(visit.client, {}))
            try:
                trained = self._train(tree, visit, client, memory.get(visit.client, {}))
            except Diverged as failure:
                if not self.skip_failures:
                    raise _told(failure, visit) from None
                outcome.skipped.append({"client": visit.client, "step": failure.step, "why": failure.what})
                continue
            except Broken as failure:
                raise _broken(failure, visit) from failure.__cause__
            self._add(outcome, tree, visit, client, trained)
            # Integer buffers are copied from the client with most examples: a choice that no order of clients changes.
            if (visit.examples, -visit.client) > most:
                most, outcome.integers = (visit.examples, -visit.client), trained.integers
        if not outcome.records:
            raise _all_failed(visits, outcome)
        return outcome

    def _client(self, tree: Tree, received: Vectors, visit: Visit, kept: Vectors) -> Client:
        start = tree.vector[: tree.layout.trained]
        first = self.method.client_memory
        memory = {name: kept.get(f"method.{name}", torch.full_like(start, first[name])) for name in first}
        reach = Optimizer(self.local).reach(len(visit.batches))
        return Client(start, {name: received[name] for name in self.method.sends}, memory, visit.rate, reach)

    def _train(self, tree: Tree, visit: Visit, client: Client, kept: Vectors) -> Trained:
        state = {
            name.removeprefix("optimizer."): v.clone() for name, v in kept.items() if name.startswith("optimizer.")
        }
        seed, correct = torch_seed(self.seed, "module", visit.round, visit.client), self.method.correct
        hook = None if correct is None else lambda gradient, weights: correct(gradient, weights, client)
        work = Work(self._batches(visit), visit.rate, seed, hook, self._loss(tree, visit))
        return train(self.bound, tree, work, Optimizer(self.local), state or None)

    def _loss(self, tree: Tree, visit: Visit) -> Loss | None:
        loss = self.method.loss
        if loss is None:
            return None
        labels = self.data.labels[torch.from_numpy(visit.indices)]
        counts = torch.bincount(labels, minlength=len(self.data.classes))
        state = tree.state_dict()

        def received(inputs: Tensor) -> Tensor:
            module = self.bound.module
            module.eval()  # training sets the mode of a step before this is called, and it is given back below
            with torch.no_grad():
                outputs: Tensor = torch.func.functional_call(module, state, (inputs,))
            module.train()
            return outputs

        return lambda outputs, labels, inputs: loss(outputs, labels, Lesson(counts, lambda: received(inputs)))

    def _batches(self, visit: Visit) -> Iterator[Batch]:
        rng = generator(self.seed, "augment", visit.round, visit.client)
        for group in self._groups(visit.batches):
            sizes, chosen = [len(indices) for indices in group], torch.from_numpy(np.concatenate(group))
            images = self.data.images[chosen]
            if self.augment:
                images = crop_flip(images, torch.cat([draw_crop_flip(size, rng) for size in sizes]))
            inputs, labels = self.data.normalise(images, self.bound.vector.dtype), self.data.labels[chosen]
            if visit.client in self.attackers:
                labels = self.attack.labels(labels, len(self.data.classes))
            yield from zip(torch.split(inputs, sizes), torch.split(labels, sizes), strict=True)

    def _groups(self, batches: Sequence[np.ndarray]) -> Iterator[Sequence[np.ndarray]]:
        """Batches that are gathered and normalised together: on small models that costs more than a step itself."""
        per_batch = len(batches[0]) * self.data.images[0].numel()
        together = max(1, GATHERED // per_batch)
        for start in range(0, len(batches), together):
            yield batches[start : start + together]

    def _add(self, outcome: Outcome, tree: Tree, visit: Visit, client: Client, trained: Trained) -> None:
        weights, rest = trained.vector.tensor_split([tree.layout.trained])
        upload, remembered = self.method.finish(weights, client)
        if visit.client in self.attackers:
            rng = generator(self.seed, "attack", visit.round, visit.client)
            upload = {**upload, "update": self.attack.update(upload["update"], rng)}
        counted = {name: 1.0 if self.method.weights.get(name) == "uniform" else visit.weight for name in upload}
        for name, vector in upload.items():
            if name not in outcome.sums:
                outcome.sums[name] = for_updates(self.rule) if name == "update" else Sum()
            outcome.sums[name].add(vector, counted[name])
        outcome.rest.add(rest - tree.vector[tree.layout.trained :], visit.weight)
        norm = upload["update"].norm().item()
        outcome.squares += counted["update"] * norm**2
        losses, samples = trained.losses, sum(len(indices) for indices in visit.batches)
        outcome.records.append(Record(visit.client, visit.examples, samples, len(losses), losses[0], losses[-1], norm))
        state = {f"method.{name}": vector for name, vector in remembered.items()}
        if self.local.keep_optimizer:
            state |= {f"optimizer.{name}": vector for name, vector in trained.optimizer.items()}
        if state:
            outcome.memory[visit.client] = state


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
