"""FedGKT's rounds: clients train halves of their own and send what these see, the server learns from it and answers.

Source: He, Annavaram and Avestimehr 2020, Algorithm 1; the losses are in methods.fedgkt, the networks in models.halves.
Differs from the paper: a round has a cohort, not every client; a client that is drawn for the first time starts from
one common draw and has no teacher yet. Logits are kept by example: row j of a client's logits belongs to the j-th of
its sorted indices, whatever order it trains in. What is sent is computed in evaluation mode, of images augmented anew
where training augments (as in the authors' code, where they pass through the training loader). The server's optimiser
is the clients' kind with the server's rate, and goes on from round to round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedlens.data import Dataset
from fedlens.engine.failures import all_failed, broken, skipped, told
from fedlens.engine.plan import Passes, Visit
from fedlens.engine.trainer import Record
from fedlens.errors import RunError
from fedlens.local import Batch, Broken, Diverged, Evaluation, Local, Optimizer, Trained, Work, evaluate, train
from fedlens.local.augment import Augmentation
from fedlens.local.step import Loss
from fedlens.methods.fedgkt import Transfer
from fedlens.methods.method import Vectors
from fedlens.models.halves import Stacked
from fedlens.seeds import generator, torch_seed
from fedlens.tree import Bound, Tree

CHUNK = 100  # examples that pass through a half at once where nothing is trained


@dataclass(frozen=True)
class Knowledge:
    """What clients send, a row for each example: `features` [N, ...], `logits` [N, C], `labels` i64 [N]."""

    features: Tensor
    logits: Tensor
    labels: Tensor

    def rows(self, start: int, stop: int) -> Knowledge:
        """Views of rows `start` to `stop`."""
        return Knowledge(self.features[start:stop], self.logits[start:stop], self.labels[start:stop])

    @property
    def bytes(self) -> int:
        """Its size on the wire, uncompressed."""
        return sum(part.nbytes for part in (self.features, self.logits, self.labels))


@dataclass
class Exchanged:
    """A round: the server's half `tree` and its optimiser `server`, the clients' new states, a record per visit.

    `server_losses`: of every step of the server. `update_norm`: how far the server's parameters moved.
    """

    tree: Tree
    server: Vectors
    memory: dict[int, Vectors] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    skipped: list[dict[str, object]] = field(default_factory=list)
    server_losses: list[float] = field(default_factory=list)
    server_epochs: int = 0
    update_norm: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0

    def facts(self) -> dict[str, Any]:
        """What a round's row says of it; losses are means over a batch, in nats."""
        records = self.records
        return {
            "clients": [record.client for record in records],
            "samples": sum(record.samples for record in records),
            "steps": sum(record.steps for record in records),
            "loss_first": sum(record.loss_first for record in records) / len(records),
            "loss_last": sum(record.loss_last for record in records) / len(records),
            "update_norm": self.update_norm,
            "server_epochs": self.server_epochs,
            "server_steps": len(self.server_losses),
            "server_loss_first": self.server_losses[0],
            "server_loss_last": self.server_losses[-1],
            "bytes_down": self.bytes_down,
            "bytes_up": self.bytes_up,
            "skipped": self.skipped,
        }


@dataclass(frozen=True)
class Exchange:
    """The engine of knowledge transfer: two bound halves, reused client by client and round by round.

    `client` is bound to a models.halves.Stacked, `server` to the half that goes on from its features. `first` is the
    client half that everybody starts from. A client's state is "gkt.model" [P_c], its integer buffers under
    "gkt.integer.NAME", the server's "gkt.logits" [n_i, C] of its examples in the order of their sorted indices and,
    where local.keep_optimizer says so, "optimizer.NAME".
    """

    client: Bound
    server: Bound
    first: Tree
    data: Dataset
    local: Local
    method: Transfer
    seed: int
    rounds: int
    augment: Augmentation | None = None
    skip_failures: bool = False

    def round(self, tree: Tree, received: Vectors, visits: Sequence[Visit], memory: Mapping[int, Vectors]) -> Exchanged:
        """Run `visits`, then the server from `tree` and its own memory `received`; `memory`: states by client.

        Raises RunError where training leaves the finite numbers or breaks; with `skip_failures` a client that diverges
        is left out of the round and keeps its last state.
        """
        done, filled = Exchanged(tree, received), 0
        knowledge = self._room(sum(visit.examples for visit in visits), visits[0])
        parts: list[tuple[int, Knowledge]] = []
        for visit in visits:
            kept = memory.get(visit.client, {})
            done.bytes_down += 0 if kept else self.first.vector.nbytes
            try:
                trained = self._learn(visit, kept)
            except Diverged as failure:
                if not self.skip_failures:
                    raise told(failure, visit) from None
                done.skipped.append(skipped(failure, visit))
                continue
            except Broken as failure:
                raise broken(failure, visit) from failure.__cause__
            part = knowledge.rows(filled, filled + visit.examples)
            self._show(visit, part)
            filled += visit.examples
            parts.append((visit.client, part))
            done.memory[visit.client] = self._state(trained)
            done.records.append(self._record(visit, self._own(kept), trained))
            done.bytes_up += part.bytes
        if not parts:
            raise all_failed(visits, done.skipped)
        self._teach(done, visits[0].round, knowledge.rows(0, filled))
        self._answer(done, parts)
        return done

    def evaluate(
        self, tree: Tree, memory: Mapping[int, Vectors], clients: Sequence[int], batches: Callable[[], Iterator[Batch]]
    ) -> Evaluation:
        """The mean over `clients` of the server's half `tree` on the client's own features, on `batches()` for each.

        All are examined on the same examples, so that the sum of their confusion matrices holds the mean accuracy. A
        client without a state counts with the common first draw.
        """
        self.server.load(tree)
        module = Stacked(self.client.module.get_submodule("extractor"), self.server.module)
        found = []
        for client in clients:
            self.client.load(self._own(memory.get(client, {})))
            found.append(evaluate(module, batches(), len(self.data.classes)))
        confusion: np.ndarray = np.sum([one.confusion for one in found], axis=0)
        return Evaluation(confusion, float(np.mean([one.loss for one in found])))

    def _own(self, kept: Vectors) -> Tree:
        """The model of a client whose state is `kept`."""
        if not kept:
            return self.first
        integers = {name: kept[f"gkt.integer.{name}"] for name in self.first.integers}
        return self.first.with_(kept["gkt.model"], integers)

    def _learn(self, visit: Visit, kept: Vectors) -> Trained:
        """A client's training from its own model, taught by what the server last said of these very examples."""
        rows = np.sort(visit.indices)
        loss = self._loss(self.data.labels[torch.from_numpy(rows)], kept.get("gkt.logits"))
        rng = generator(self.seed, "augment", visit.round, visit.client)
        # What follows the images into the loss are rows, not labels: labels and teacher are then both read by example.
        batches = (
            (self._images(indices, rng), torch.from_numpy(np.searchsorted(rows, indices))) for indices in visit.batches
        )
        seed = torch_seed(self.seed, "module", visit.round, visit.client)
        work = Work(batches, visit.rate, seed, loss=loss, frozen_statistics=visit.frozen_statistics)
        return train(self.client, self._own(kept), work, Optimizer(self.local), _optimizer_of(kept))

    def _loss(self, labels: Tensor, teacher: Tensor | None) -> Loss:
        def value(outputs: Tensor, rows: Tensor, inputs: Tensor) -> Tensor:
            return self.method.objective(outputs, labels[rows], None if teacher is None else teacher[rows])

        return value

    def _images(self, indices: np.ndarray, rng: np.random.Generator) -> Tensor:
        images = self.data.images[torch.from_numpy(indices)]
        if self.augment is not None:
            images = self.augment.apply(images, self.augment.draw(len(indices), images.shape, rng))
        return self.data.normalise(images, self.first.vector.dtype)

    @torch.no_grad()
    def _show(self, visit: Visit, into: Knowledge) -> None:
        """Write what the client that has just been trained sees in all its examples `into` its rows."""
        module, indices = self.client.module.eval(), np.sort(visit.indices)
        extractor, classifier = module.get_submodule("extractor"), module.get_submodule("classifier")
        rng = generator(self.seed, "augment-sent", visit.round, visit.client)
        for start in range(0, len(indices), CHUNK):
            stop = start + CHUNK
            features = extractor(self._images(indices[start:stop], rng))
            into.features[start:stop] = features
            into.logits[start:stop] = classifier(features)
        into.labels.copy_(self.data.labels[torch.from_numpy(indices)])

    @torch.no_grad()
    def _room(self, examples: int, visit: Visit) -> Knowledge:
        """Memory for what `examples` examples give, allocated once: nothing in a round is as large as features."""
        image = self.data.normalise(self.data.images[torch.from_numpy(visit.indices[:1])], self.first.vector.dtype)
        features: Tensor = self.client.module.eval().get_submodule("extractor")(image)
        logits = image.new_empty(examples, len(self.data.classes))
        return Knowledge(
            features.new_empty(examples, *features.shape[1:]), logits, torch.empty(examples, dtype=torch.int64)
        )

    def _state(self, trained: Trained) -> dict[str, Tensor]:
        state = {"gkt.model": trained.vector}
        state |= {f"gkt.integer.{name}": value for name, value in trained.integers.items()}
        if self.local.keep_optimizer:
            state |= {f"optimizer.{name}": vector for name, vector in trained.optimizer.items()}
        return state

    def _record(self, visit: Visit, before: Tree, trained: Trained) -> Record:
        samples, losses = int(visit.sizes.sum()), trained.losses
        moved = _moved(before, trained.vector)
        return Record(visit.client, visit.examples, samples, len(losses), losses[0], losses[-1], moved)

    def _teach(self, done: Exchanged, round: int, knowledge: Knowledge) -> None:
        """Train the server's half on what the cohort sent, shuffled over all clients."""
        examples, method = len(knowledge.labels), self.method
        size, epochs = min(method.server_batch, examples), method.epochs(round)
        steps = epochs * -(-examples // size)
        passes = Passes(np.arange(examples), size, steps, self.seed, "server-order", (round,))
        chosen = map(torch.from_numpy, passes)
        batches = ((knowledge.features[rows], rows) for rows in chosen)
        rate, seed = method.rate(self.local, round, self.rounds), torch_seed(self.seed, "server-module", round)
        work = Work(batches, rate, seed, loss=self._loss(knowledge.labels, knowledge.logits))
        try:
            trained = train(self.server, done.tree, work, Optimizer(self.local), _optimizer_of(done.server))
        except (Diverged, Broken) as failure:
            raise _server_failed(failure, round) from failure.__cause__
        done.update_norm = _moved(done.tree, trained.vector)
        done.tree = done.tree.with_(trained.vector, trained.integers)
        done.server = {f"optimizer.{name}": vector for name, vector in trained.optimizer.items()}
        done.server_losses, done.server_epochs = trained.losses, epochs

    @torch.no_grad()
    def _answer(self, done: Exchanged, parts: Sequence[tuple[int, Knowledge]]) -> None:
        """Give every client of the cohort what the server, now trained, says of each of its examples."""
        module: nn.Module = self.server.module.eval()
        for client, part in parts:
            logits = torch.cat([module(features) for features in torch.split(part.features, CHUNK)])
            done.memory[client] = {**done.memory[client], "gkt.logits": logits}
            done.bytes_down += logits.nbytes


def _optimizer_of(kept: Vectors) -> dict[str, Tensor] | None:
    """A copy of the optimiser's state in `kept`; None where there is none."""
    found = {name.removeprefix("optimizer."): v.clone() for name, v in kept.items() if name.startswith("optimizer.")}
    return found or None


def _moved(before: Tree, after: Tensor) -> float:
    """How far the trained parameters went."""
    trained = before.layout.trained
    return float((after[:trained] - before.vector[:trained]).norm())


def _server_failed(failure: Diverged | Broken, round: int) -> RunError:
    where = f"server, round {round}, step {failure.step}"
    if isinstance(failure, Diverged):
        seen = f"{failure.what}; learning rate {failure.rate:g}"
        do = "Lower method.server_lr or local.lr, or set local.clip_norm."
        return RunError("the server's training diverged", where=where, seen=seen, do=do)
    cause = failure.__cause__
    do = "Correct the model; -v shows where it raised."
    if "more than 1 value per channel" in str(cause):
        do = (
            "Batch norm cannot train on a batch of one value: change method.server_batch, or set model.norm to another."
        )
    return RunError("the server's training failed", where=where, seen=f"{type(cause).__name__}: {cause}", do=do)
