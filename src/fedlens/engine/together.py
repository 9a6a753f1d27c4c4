"""Several clients of a small, fully connected model in one pass: hand-written products in place of autograd.

One step of such a model takes less time than Python takes to ask for it. Clients are put together by their number of
steps; what they give differs from one by one by rounding alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fedlens.engine.failures import Failed, attempt
from fedlens.engine.plan import Visit
from fedlens.engine.sequential import Dispatch, Given, Hand, OneByOne, Outcome
from fedlens.engine.trainer import Delivery, Record, Trainer
from fedlens.local import Optimizer, Trained
from fedlens.local.chain import Chain, Chunk, Stacked, chain_of, pays, sums, walk
from fedlens.methods import Client
from fedlens.methods.method import send_update
from fedlens.server import AnyReducer, Mean, Plain, Sum
from fedlens.tree import Tree

# Clients in a pass. Sums of plain updates take large products well; weights for each client must stay in the caches.
SUMMED, HELD = 50, 5


def in_groups(trainer: Trainer, rule: AnyReducer, many: int) -> Hand:
    """A hand for `many` clients at once where there can be one, else for each alone."""
    return together(trainer, rule, many) or OneByOne(trainer)


def together(trainer: Trainer, rule: AnyReducer, many: int | None = None) -> Together | None:
    """A hand for `many` clients at once (None: as many as suit the work); None where the model, the method or the work
    has no such form."""
    chain = chain_of(trainer.bound.module, trainer.bound.layout)
    method, local = trainer.method, trainer.local
    alone = (method.loss, method.perturb, method.keeps, method.own, trainer.privacy, trainer.augment)
    if chain is None or any(one is not None for one in alone) or method.phases:
        return None
    if local.scale_lr_by_size or (local.keep_optimizer and not Optimizer(local).plain):
        return None
    hand = Together(trainer, chain, rule, 1)
    return dataclasses.replace(hand, many=many or (SUMMED if hand.summed else HELD))


@dataclass(frozen=True)
class Together:
    """`many` visits in one pass."""

    trainer: Trainer
    chain: Chain
    rule: AnyReducer
    many: int

    def groups(self, visits: Sequence[Visit]) -> list[Sequence[Visit]]:
        """Those with most steps first, so that clients of a group end at about the same time."""
        order = sorted(visits, key=lambda visit: (-len(visit.batches), -visit.examples))
        return [order[start : start + self.many] for start in range(0, len(order), self.many)]

    def work(self, dispatch: Dispatch, group: Sequence[Visit]) -> Given:
        """What the visits of `group` give: one sum, where nobody looks at single uploads."""
        chunk = Chunk.of([list(visit.batches) for visit in group])
        chosen = torch.from_numpy(chunk.chosen)
        data, dtype = self.trainer.data, self.trainer.bound.vector.dtype
        images, labels = data.rows(chosen)
        inputs = data.normalise(images, dtype).flatten(1)
        if self.summed:
            part = self._sum(dispatch.tree, group, chunk, inputs, labels)
            return self._alone(dispatch, group) if part is None else part
        tree, sends, memory, _ = dispatch
        clients = [self.trainer.client(tree, sends, visit, memory.get(visit.client, {})) for visit in group]
        trained = self._train(tree, group, clients, chunk, inputs, self._seen(group, chunk, labels))
        return [
            attempt(visit, lambda: self._delivery(dispatch, visit, client, trained, at))  # noqa: B023
            for at, (visit, client) in enumerate(zip(group, clients, strict=True))
        ]

    @property
    def room(self) -> int:
        """Visits whose vectors lie in what a group gives."""
        return 1 if self.summed else self.many

    @cached_property
    def summed(self) -> bool:
        """Whether a sum says all: plain SGD, updates as they are, and no one who changes or compares them."""
        method, sender = self.trainer.method, self.trainer.sender
        plain = method.finish is send_update and method.correct is None and not method.client_memory
        open_ = sender.mechanism is None and not sender.attackers and isinstance(sender.communication.up, Plain)
        return plain and open_ and Optimizer(self.trainer.local).plain and isinstance(self.rule, Mean)

    def _alone(self, dispatch: Dispatch, group: Sequence[Visit]) -> Outcome:
        """The sum of visits that are done alone, as one left the finite numbers: for the step at which it did."""
        part = Outcome(Sum())
        for visit in group:
            (one,) = OneByOne(self.trainer).work(dispatch, [visit])
            if isinstance(one, Failed):
                part.failed.append(one)
            else:
                part.add(visit, one, self.trainer.method.uniform, self.rule)
        return part

    def _sum(self, tree: Tree, group: Sequence[Visit], chunk: Chunk, inputs: Tensor, labels: Tensor) -> Outcome | None:
        uniform = "update" in self.trainer.method.uniform
        weights = torch.tensor([visit.weight for visit in group], dtype=torch.float64)
        counted = torch.ones_like(weights) if uniform else weights
        made = sums(self.chain, tree.vector, inputs, labels, chunk, counted.to(inputs.dtype), group[0].rate)
        if not made.finite.all():
            return None
        losses, last = made.losses, torch.from_numpy(chunk.steps) - 1
        ends = losses.gather(1, last[:, None]).squeeze(1).tolist()
        rows = zip(group, losses[:, 0].tolist(), ends, made.norms.tolist(), strict=True)
        part = Outcome(Sum.of(tree.vector.new_zeros(0), float(weights.sum())))
        part.sums["update"] = Sum.of(made.update, float(counted.sum()))
        for visit, begin, end, norm in rows:
            samples, steps = int(visit.sizes.sum()), len(visit.batches)
            part.records.append(Record(visit.client, visit.examples, samples, steps, begin, end, norm))
        part.squares = float((counted * made.norms.double().square()).sum())
        part.bytes_up = len(group) * made.update.nbytes
        part.within = [True] * len(group)
        return part

    def _seen(self, group: Sequence[Visit], chunk: Chunk, labels: Tensor) -> Tensor:
        """`labels` as those see them who flip theirs."""
        sender, classes = self.trainer.sender, len(self.trainer.data.classes)
        flips = np.array([visit.client in sender.attackers for visit in group])
        seen = torch.from_numpy(np.repeat(flips, chunk.sizes))
        return torch.where(seen, sender.attack.labels(labels, classes), labels) if flips.any() else labels

    def _train(
        self,
        tree: Tree,
        group: Sequence[Visit],
        clients: Sequence[Client],
        chunk: Chunk,
        inputs: Tensor,
        labels: Tensor,
    ) -> Stacked:
        method, optimizer, rate = self.trainer.method, Optimizer(self.trainer.local), group[0].rate
        if method.correct is None and optimizer.plain and pays(self.chain, chunk):
            return walk(self.chain, tree.vector, inputs, labels, chunk, rate).stacked()
        hook, correct = method.correct, None
        if hook is not None:
            whole = _stacked(clients)
            correct = lambda gradient, weights: hook(gradient, weights, _first(whole, len(weights)))  # noqa: E731
        return self.chain.train(tree.vector, inputs, labels, chunk, rate, optimizer, correct)

    def _delivery(self, dispatch: Dispatch, visit: Visit, client: Client, trained: Stacked, at: int) -> Delivery:
        tree, sends, memory, clip = dispatch
        state, vector, losses = memory.get(visit.client, {}), trained.weights[at], trained.losses[at]
        losses = losses[: len(visit.batches)]
        if not (torch.isfinite(losses).all() and torch.isfinite(vector.norm())):
            return self.trainer.visit(tree, sends, visit, state, clip)  # which says at what step it diverged
        alone = Trained(vector, {}, losses.tolist(), {})
        return self.trainer.delivery(tree, visit, client, state, alone, clip)


def _stacked(clients: Sequence[Client]) -> Client:
    """One client of [C, T] vectors and [C, 1] numbers."""
    memory = {name: torch.stack([client.memory[name] for client in clients]) for name in clients[0].memory}
    reach = torch.tensor([float(client.reach) for client in clients]).to(clients[0].start)[:, None]
    return dataclasses.replace(clients[0], memory=memory, reach=reach)


def _first(clients: Client, active: int) -> Client:
    memory = {name: vectors[:active] for name, vectors in clients.memory.items()}
    assert isinstance(clients.reach, Tensor)
    return dataclasses.replace(clients, memory=memory, reach=clients.reach[:active])
