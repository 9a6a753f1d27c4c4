"""Slots at work: who is free takes the longest visit that waits; results are taken in the order of the visits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from fedlens.engine.cuda.exam import PAUSE
from fedlens.engine.cuda.slot import Shape, Slot
from fedlens.engine.failures import Failed, attempt
from fedlens.engine.plan import Visit
from fedlens.engine.trainer import Delivery

Begin = Callable[[Slot, Visit], None]
End = Callable[[Slot], Delivery]


class Crew:
    """At most `most` slots of one `shape`, made by `make` as they are needed."""

    def __init__(self, shape: Shape, make: Callable[[Shape], Slot], most: int) -> None:
        self.shape, self.make, self.most = shape, make, most
        self.slots: list[Slot] = []

    def run(self, visits: Sequence[Visit], begin: Begin, end: End, held: int) -> Iterator[Delivery | Failed]:
        """What `visits` give, in their order; at most `held` results wait for their turn. Raises Uncaptured."""
        waiting = list(range(len(visits)))
        if held >= len(visits):
            waiting.sort(key=lambda position: (-len(visits[position].batches), -visits[position].examples))
        idle, busy = list(self.slots), dict[int, Slot]()
        done: dict[int, Delivery | Failed] = {}
        for turn in range(len(visits)):
            while turn not in done:
                while waiting and len(busy) < self.most and len(busy) + len(done) < max(1, held):
                    slot = idle.pop() if idle else self._another()
                    busy[waiting[0]] = slot
                    begin(slot, visits[waiting.pop(0)])
                ended = [position for position in busy if self._ended(position, visits[position], busy, end, done)]
                idle += [busy.pop(position) for position in ended]
                if not ended:
                    time.sleep(PAUSE)
            yield done.pop(turn)

    def _ended(
        self, position: int, visit: Visit, busy: dict[int, Slot], end: End, done: dict[int, Delivery | Failed]
    ) -> bool:
        """Ask a slot for more; whether it is through with its visit, one way or another."""
        slot = busy[position]
        through = attempt(visit, slot.go)
        if through is False:
            return False
        done[position] = through if isinstance(through, Failed) else attempt(visit, lambda: end(slot))
        return True

    def _another(self) -> Slot:
        self.slots.append(self.make(self.shape))
        return self.slots[-1]
