"""The visits of one round on the device: what each begins with, who does it, what it delivers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

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
        if self.here.captures:
            try:
                for one in self.here.crew(visits).run(visits, self._begin, self._end, self._held):
                    yield one
                    given += 1
            except Uncaptured as cause:
                tell(cause, "every step is asked for kernel by kernel")
                self.here.captures = False
        if not self.here.captures:
            self.here.dismiss()
        for visit in visits[given:]:
            yield attempt(visit, lambda: self._alone(visit))  # noqa: B023

    @property
    def _held(self) -> int:
        """Results that may wait for their turn."""
        sent = sum(torch.Size(shape).numel() for shape in self.here.host.parts.values())
        vector = self.tree.vector
        return self.here.device.room() // ((sent + vector.numel()) * vector.element_size())

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
