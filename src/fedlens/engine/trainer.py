"""One client's visit, from the model it receives to what it sends. Every engine calls this, none repeats it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from fedlens.data import Dataset
from fedlens.engine.feed import Feed
from fedlens.engine.plan import Visit
from fedlens.engine.sender import Sender
from fedlens.errors import RunError
from fedlens.local import Local, Optimizer, Trained, Work, train
from fedlens.local.augment import Augmentation
from fedlens.local.compute import PLAIN, Compute
from fedlens.local.optimizer import Correct
from fedlens.local.private import PerExample
from fedlens.local.statistics import Moments, moments
from fedlens.local.step import Loss, Phase, Private
from fedlens.local.tap import Tap, tapped
from fedlens.methods import Answers, Client, Lesson, Method
from fedlens.methods.method import Vectors
from fedlens.seeds import generator, torch_seed
from fedlens.tree import Bound, Tree

Hook = Callable[[Tensor, Tensor, Client], Tensor]
MEASURED = 100  # examples in a batch whose moments are taken


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


@dataclass(frozen=True)
class Delivery:
    """What a visit gives: the upload by name, the change of what no method touches [P - T], integer buffers, a record,
    the client's new state, the bytes it came in, and whether it was `within` the bound of a private mechanism."""

    upload: Vectors
    rest: Tensor
    integers: Vectors
    record: Record
    memory: Vectors
    bytes: int
    within: bool


@dataclass(frozen=True)
class Trainer:
    """What is the same for all clients: the module, the examples, the local work, the method.

    A client's state is one dict of vectors: what the method remembers under "method.NAME"; where it is to be kept, what
    the optimiser does under "optimizer.NAME"; the entries that never travel under "kept", its own model under "own".
    """

    bound: Bound
    data: Dataset
    local: Local
    method: Method
    seed: int
    sender: Sender
    augment: Augmentation | None = None
    privacy: PerExample | None = None
    compute: Compute = PLAIN

    def visit(self, tree: Tree, received: Vectors, visit: Visit, state: Vectors, clip: float = math.inf) -> Delivery:
        """All of `visit`: train, send (within `clip`, where a private mechanism bounds it), remember.

        Raises Diverged or Broken, and RunError where the upload cannot be used.
        """
        begin = self.personal(tree, state) if self.method.own is None else tree
        client = self.client(begin, received, visit, state)
        trained, own = self.train(begin, visit, client, state), None
        if self.method.own is not None:
            own = self.train(self.personal(tree, state), visit, client, {}, self.method.own).vector
        return self.delivery(begin, visit, client, state, trained, clip, own)

    def delivery(
        self,
        begin: Tree,
        visit: Visit,
        client: Client,
        state: Vectors,
        trained: Trained,
        clip: float,
        own: Tensor | None = None,
    ) -> Delivery:
        """What becomes of a visit that was `trained` from `begin`; `own` [P]: the client's second model."""
        weights, rest = trained.vector.tensor_split([begin.layout.trained])
        change = rest - begin.vector[begin.layout.trained :]
        upload, remembered = (self._lasting(vectors) for vectors in self.method.finish(weights, client))
        _check_parts(upload, self.parts)
        memory = {f"method.{name}": vector for name, vector in remembered.items()}
        if self.local.keep_optimizer:
            memory |= {f"optimizer.{name}": vector for name, vector in trained.optimizer.items()}
        here = None
        if self.kept is not None:
            memory["kept"] = trained.vector[self.kept]
            here, there = self.kept.tensor_split([begin.layout.trained])
            change = change.masked_fill(there, 0.0)
        memory |= {} if own is None else {"own": own}
        sent, passes = self.sender.send(upload, visit, state, clip, here), 1 if own is None else 2
        record = Record(
            visit.client,
            visit.examples,
            samples=passes * int(visit.sizes.sum()),
            steps=passes * len(trained.losses),
            loss_first=trained.losses[0],
            loss_last=trained.losses[-1],
            update_norm=sent.norm,
        )
        size = sent.bytes + self.statistics * change.element_size()
        return Delivery(sent.upload, change, trained.integers, record, {**memory, **sent.memory}, size, sent.within)

    def _lasting(self, vectors: Vectors) -> Vectors:
        """`vectors`, copied where they lie in the module, which the next client trains."""
        here = self.bound.vector.untyped_storage().data_ptr()
        return {n: v.clone() if v.untyped_storage().data_ptr() == here else v for n, v in vectors.items()}

    def personal(self, tree: Tree, state: Vectors) -> Tree:
        """The client's own model, given the server's `tree`; before its first visit that is `tree` itself."""
        if "own" in state:
            return tree.with_(state["own"])
        if "kept" in state and self.kept is not None:
            return tree.with_(tree.vector.masked_scatter(self.kept, state["kept"]))
        return tree

    @cached_property
    def feed(self) -> Feed:
        """Where visits get their examples."""
        return Feed(self.data, self.seed, self.augment, self.sender.attack, self.sender.attackers)

    @cached_property
    def kept(self) -> Tensor | None:
        """Booleans [P], true where entries never leave a client; None where all travel."""
        keeps = self.method.keeps
        return None if keeps is None else self.bound.layout.mask(keeps)

    def moments(self, tree: Tree, visit: Visit) -> tuple[Moments, int]:
        """What batch norm layers are given by the visit's examples, without augmentation, under `tree`."""
        self.bound.load(tree)
        shown = np.array_split(visit.indices, math.ceil(visit.examples / MEASURED))
        images = (self.data.images[torch.from_numpy(part)] for part in shown)
        return moments(self.bound.module, (self.data.normalise(part, tree.vector.dtype) for part in images))

    def tuned(self, tree: Tree, visit: Visit) -> Tensor:
        """`tree` [P] after plain training on `visit`: what a client makes of it for itself."""
        seed = torch_seed(self.seed, "tune", visit.client)
        work = Work(self.feed.batches(visit, self.bound.vector.dtype), visit.rate, seed, compute=self.compute)
        return train(self.bound, tree, work, Optimizer(self.local)).vector

    def traffic(self, tree: Tree) -> tuple[int, int]:
        """The bytes that a visit takes down and up."""
        nobody, start = Visit(0, 0, np.arange(0), (), 1.0, 1.0), tree.vector[: tree.layout.trained]
        here = None if self.kept is None else self.kept[: tree.layout.trained]
        silent = dataclasses.replace(self.sender, mechanism=None, attackers=frozenset())
        up = silent.send(self._still(start), nobody, {}, math.inf, here).bytes
        sends = self._first_sends(start)
        return self.sender.received(tree, sends, self.kept)[2], up + self.statistics * start.element_size()

    @cached_property
    def parts(self) -> dict[str, list[int]]:
        """What every upload must hold: names and shapes."""
        still = self._still(torch.zeros_like(self.bound.gradient))
        return {name: list(vector.shape) for name, vector in still.items()} | {"update": [self.bound.layout.trained]}

    def _still(self, start: Tensor) -> Vectors:
        """The upload of a client that stayed at `start` [T], on its first visit."""
        memory = {name: self._first(name, start) for name in self.method.client_memory}
        return self.method.finish(start, Client(start, self._first_sends(start), memory, 1.0, 1.0))[0]

    def _first_sends(self, start: Tensor) -> Vectors:
        first = self.method.server_memory
        return {name: torch.full_like(start, first[name]) for name in self.method.sends}

    @cached_property
    def statistics(self) -> int:
        """Running statistics that a client sends, in numbers; parameters that no one trains stay where they are."""
        slots = [slot for slot in self.bound.layout.slots if slot.group == "buffers"]
        kept = self.method.keeps
        return sum(slot.size for slot in slots if kept is None or not kept(slot))

    def client(self, tree: Tree, received: Vectors, visit: Visit, state: Vectors) -> Client:
        """What the method may know of `visit`."""
        start = tree.vector[: tree.layout.trained]
        names = {name: f"method.{name}" for name in self.method.client_memory}
        memory = {name: state[key] if key in state else self._first(name, start) for name, key in names.items()}
        reach = Optimizer(self.local).reach(len(visit.batches))
        return Client(start, {name: received[name] for name in self.method.sends}, memory, visit.rate, reach)

    def train(self, tree: Tree, visit: Visit, client: Client, state: Vectors, own: Hook | None = None) -> Trained:
        """Train from `tree`; raises Diverged or Broken. `own` corrects the gradients of a client's second model."""
        kept = {key.removeprefix("optimizer."): v for key, v in state.items() if key.startswith("optimizer.")}
        optimizer = {name: vector.clone() for name, vector in kept.items()} or None
        seed, method = torch_seed(self.seed, "module", visit.round, visit.client), self.method
        with tapped(self.bound.module, wanted=method.loss is not None) as tap:
            loss = self._loss(tree, visit, client, tap)
            correct = _of(client, method.correct if own is None else own)
            perturb, phases = _of(client, method.perturb), self._phases(len(visit.batches))
            work = Work(
                self.feed.batches(visit, self.bound.vector.dtype), visit.rate, seed, correct, loss, perturb, phases
            )
            work = dataclasses.replace(work, frozen_statistics=visit.frozen_statistics, compute=self.compute)
            if self.privacy is not None:
                size = self.local.batch_size(visit.examples)
                expected = size if self.local.batch == "all" else self.local.batch
                rng = generator(self.seed, "per-example", visit.round, visit.client)
                work = dataclasses.replace(work, private=Private(self.privacy, expected, rng))
            keep = self.method.own is not None  # a second training follows, over the first one's weights
            return train(self.bound, tree, work, Optimizer(self.local), optimizer, copy=keep)

    def _phases(self, steps: int) -> tuple[Phase, ...]:
        """The method's phases in steps, shares rounded so that they add up to `steps`."""
        phases, done, share = [], 0, 0.0
        for part in self.method.phases:
            assert self.kept is not None  # the contract: phases move what is kept, or what is not
            kept = self.kept[: self.bound.layout.trained]
            share += part.share
            end = round(share * steps)
            phases.append(Phase(end - done, kept if part.moves == "sent" else ~kept))
            done = end
        return tuple(phases)

    def _first(self, name: str, start: Tensor) -> Tensor:
        """What a client remembers under `name` before its first visit ends."""
        first = self.method.client_memory[name]
        return start.clone() if first == "model" else torch.full_like(start, first)

    def _loss(self, tree: Tree, visit: Visit, client: Client, tap: Tap) -> Loss | None:
        loss = self.method.loss
        if loss is None:
            return None
        labels = self.data.labels[torch.from_numpy(np.asarray(visit.indices))]
        counts = torch.bincount(labels, minlength=len(self.data.classes))

        def value(outputs: Tensor, labels: Tensor, inputs: Tensor) -> Tensor:
            lesson = Lesson(counts, client, tap.features, lambda weights: self._answers(tree, weights, inputs, tap))
            return loss(outputs, labels, lesson)

        return value

    def _answers(self, tree: Tree, weights: Tensor, inputs: Tensor, tap: Tap) -> Answers:
        module = self.bound.module
        state = tree.with_(torch.cat([weights, tree.vector[len(weights) :]])).state_dict()
        module.eval()  # training sets the mode of a step before this is called, and it is given back below
        with torch.no_grad():
            outputs = self.compute.forward(partial(torch.func.functional_call, module, state), inputs)
        module.train()
        return Answers(outputs, outputs if tap.features is None else tap.features)


def _of(client: Client, hook: Hook | None) -> Correct | None:
    """The method's hook for this client."""
    return None if hook is None else lambda gradient, weights: hook(gradient, weights, client)


def _check_parts(upload: Vectors, wanted: dict[str, list[int]]) -> None:
    """All must send the same parts: one that is absent would be a mean over the others, and nobody would know."""
    found = {name: list(vector.shape) for name, vector in upload.items()}
    if found == wanted:
        return
    lacking = [name for name in wanted if name not in found]
    what = f"an upload lacks '{lacking[0]}'" if lacking else "an upload has the wrong shape"
    seen, want = (", ".join(f"{name} {shape}" for name, shape in parts.items()) for parts in (found, wanted))
    do = "Let the method's finish return update = w_i - w, and from every client the same names and shapes."
    raise RunError(what, seen=f"{seen or 'nothing'}; wanted {want}", do=do)
