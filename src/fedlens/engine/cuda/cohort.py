"""The visits of one round on the device: what each begins with, who does it, what it delivers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fedlens.engine.cuda.bank import WAITING, Group
from fedlens.engine.cuda.device import Uncaptured
from fedlens.engine.cuda.examples import table
from fedlens.engine.cuda.resident import Resident, on, tell
from fedlens.engine.cuda.slot import Job, Slot
from fedlens.engine.failures import Failed, attempt
from fedlens.engine.plan import Visit
from fedlens.engine.trainer import Delivery
from fedlens.local import Trained
from fedlens.methods.method import Vectors
from fedlens.seeds import torch_seed
from fedlens.tree import Tree

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Cohort:
    """Clients who receive `tree` and `sends`, and remember `memory`, all on the CPU. `summed`: whether no one looks at
    single uploads, which then stay on the device."""

    here: Resident
    tree: Tree
    sends: Vectors
    memory: Mapping[int, Vectors]
    clip: float
    summed: bool

    def give(self, visits: Sequence[Visit]) -> Iterator[Delivery | Failed]:
        """What `visits` give, in their order."""
        for name, vector in self.sends.items():
            self.here.received[name].copy_(vector)
        given = 0
        for way in (self._at_once, self._beside, self._one_by_one):
            for one in way(visits[given:]):  # those that are left
                given += 1
                yield one

    def _at_once(self, visits: Sequence[Visit]) -> Iterator[Delivery | Failed]:
        """What `visits` give in a bank, up to where it fails; nothing, where there is none."""
        if self.here.places == 1 or len(visits) < 2:
            return
        try:
            yield from self.here.bank(visits).run(visits, self._group, self._delivered, WAITING // self._size)
        except Uncaptured as cause:
            tell(cause, "clients are trained beside each other, each by steps of its own")
            self.here.places = 1
            self.here.dismiss()

    def _beside(self, visits: Sequence[Visit]) -> Iterator[Delivery | Failed]:
        """What `visits` give in slots, up to where those fail."""
        if not self.here.captures or not visits:
            return
        try:
            held = self.here.device.room() // self._size
            yield from self.here.crew(visits).run(visits, self._begin, self._end, held)
        except Uncaptured as cause:
            tell(cause, "every step is asked for kernel by kernel")
            self.here.captures = False
            self.here.dismiss()

    def _one_by_one(self, visits: Sequence[Visit]) -> Iterator[Delivery | Failed]:
        for visit in visits:
            yield attempt(visit, lambda: self._alone(visit))  # noqa: B023

    @property
    def _size(self) -> int:
        """The bytes of a result that waits for its turn."""
        sent = sum(torch.Size(shape).numel() for shape in self.here.host.parts.values())
        vector = self.tree.vector
        return (sent + vector.numel()) * vector.element_size()

    @cached_property
    def _there(self) -> Tree:
        return self.here.tree(self.tree)

    def _job(self, visit: Visit) -> Job:
        trainer = self.here.trainer
        remembered = self.memory.get(visit.client, {})
        # What a codec remembers is looked at on the CPU alone.
        read = {name: vector for name, vector in remembered.items() if not name.startswith("feedback.")}
        state = on(read, self.here.device.where)
        begin = trainer.personal(self._there, state) if trainer.method.own is None else self._there
        return Job(visit, begin, trainer.client(begin, self.here.received, visit, state), state)

    def _begin(self, slot: Slot, visit: Visit) -> None:
        host, counts = self.here.host, None
        if host.method.loss is not None:
            labels = host.data.labels[torch.from_numpy(np.asarray(visit.indices))]
            counts = torch.bincount(labels, minlength=len(host.data.classes))
        seed = torch_seed(host.seed, "module", visit.round, visit.client)
        slot.start(self._job(visit), table(host, visit, slot.shape.width), counts, seed)

    def _group(self, visits: Sequence[Visit]) -> Group:
        return Group.of(self.here.host, [self._job(visit) for visit in visits])

    def _end(self, slot: Slot) -> Delivery:
        return self._delivered(slot.job, slot.finish())

    def _alone(self, visit: Visit) -> Delivery:
        """The visit as the ordinary trainer does it, on the device."""
        job, trainer, own = self._job(visit), self.here.trainer, None
        with self.here.device.seeded(torch_seed(trainer.seed, "module", visit.round, visit.client)):
            trained = trainer.train(job.begin, visit, job.client, job.state)
            if trainer.method.own is not None:
                second = trainer.personal(self._there, job.state)
                own = trainer.train(second, visit, job.client, {}, trainer.method.own).vector
        return self._delivered(job, trained, own)

    def _delivered(self, job: Job, trained: Trained, own: Tensor | None = None) -> Delivery:
        if self.summed:
            made = self.here.trainer.delivery(job.begin, job.visit, job.client, job.state, trained, self.clip, own)
            return replace(made, memory=on(made.memory, CPU))
        host, visit = self.here.host, job.visit
        state = self.memory.get(visit.client, {})
        begin = host.personal(self.tree, state) if host.method.own is None else self.tree
        integers, optimizer = on(trained.integers, CPU), on(trained.optimizer, CPU)
        vector = trained.vector.to(CPU, copy=True)  # it may be the module's own
        trained = Trained(vector, integers, trained.losses, optimizer)
        client = host.client(begin, self.sends, visit, state)
        return host.delivery(begin, visit, client, state, trained, self.clip, None if own is None else own.cpu())
