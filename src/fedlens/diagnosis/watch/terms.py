"""What pulls on the weights beside the supervised loss: further terms of the objective, and changes by hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from fedlens.diagnosis.evidence.rounds import Pull
from fedlens.diagnosis.watch import graphs, pulls
from fedlens.diagnosis.watch.clips import bounded
from fedlens.diagnosis.watch.pulls import At
from fedlens.diagnosis.watch.trained import Begun

MEASURED = 5  # backward calls whose terms are measured
FIRST, EVERY = 30, 16  # calls that are looked at: the first, and one of so many after them
HELD = 8  # losses since the last backward call that are remembered; of more, nothing is said
SEES_LABELS = 2  # highest rank of a loss that is the supervised one
ROUNDING = 1e-3  # share of a change by hand that rounding of the gradient may be


class Given(NamedTuple):
    """What a loss function gave, before anybody added to it in place."""

    rank: int
    node: graphs.Node
    value: Tensor


class Terms:
    """One visit's terms. `found`: something besides the supervised loss acts on the weights; `unsure`: it could, in a
    way that is not seen (hooks, optimisers of the author's, gradients that are handed over); `deaf`: not all was heard;
    `squashed`: the function whose results are taken for logits, or "". `bounded`: steps of those `compared` with the
    gradient that was computed whose numbers were cut at one bound, by hand or by clip_grad_value_.
    """

    def __init__(self) -> None:
        self.found, self.unsure, self.deaf = False, False, False
        self.extra: list[tuple[float, float]] = []
        self.pulls: list[Pull] = []
        self.squashed = ""
        self.bounded, self.compared = 0, 0
        self._losses: deque[Given] = deque(maxlen=HELD + 1)
        self._calls = 0
        self._looked = 0
        self._far = False
        self._in_graph = False
        self._gradients: dict[int, Tensor | None] = {}
        self._weights: dict[int, Tensor] = {}
        self._before: At | None = None

    def heard(self, rank: int, value: Any) -> None:
        """A loss function gave `value`, to be trained by."""
        if rank <= SEES_LABELS and isinstance(value, Tensor) and value.grad_fn is not None:
            self._losses.append(Given(rank, value.grad_fn, value.detach().clone()))

    def look(self, outputs: Sequence[Tensor], towards: bool, begun: Mapping[int, Begun]) -> None:
        """Gradients of `outputs` are about to be computed; `towards`: they will be handed over, not left in leaves."""
        losses = list(self._losses)
        self._losses.clear()
        self._calls += 1
        self.unsure |= towards or any(one.parameter._backward_hooks for one in begun.values())
        if self._weights:
            moved = any(not torch.equal(begun[key].parameter.detach(), kept) for key, kept in self._weights.items())
            self.found |= moved  # someone else than the optimiser has moved them
            self._weights = {}
        later = self._calls <= FIRST or self._calls % EVERY == 0
        if self._calls <= MEASURED or (later and not self.found):
            self._look(outputs, losses, begun)

    def _look(self, outputs: Sequence[Tensor], losses: Sequence[Given], begun: Mapping[int, Begun]) -> None:
        root = outputs[0].grad_fn if len(outputs) == 1 else None
        every = None if root is None or len(losses) > HELD else graphs.reached(root)
        if root is None or every is None:
            self.unsure = True
            return
        if self._calls <= MEASURED and not self.squashed:
            self.squashed = graphs.squashed(every)
        inside = [one for one in losses if one.node in every]
        if not inside:
            self.found = self.found or bool(self._looked)  # a step of another kind
            self.unsure |= not self._looked
            return
        self._looked += 1
        lowest = min(one.rank for one in inside)
        supervised = [one for one in inside if one.rank == lowest]
        self.found |= len(supervised) > 1
        cut = graphs.branches(root, {one.node for one in supervised})
        if cut is None:
            self.unsure = True
            return
        beside = bool(graphs.leaves(cut.beside).keys() & begun.keys())
        self.found |= beside
        if self._calls <= MEASURED and len(supervised) == 1:
            self._measure(outputs[0], supervised[0], cut if beside else None, begun)

    def _measure(self, objective: Tensor, loss: Given, cut: graphs.Branches | None, begun: Mapping[int, Begun]) -> None:
        gone = pulls.distance(begun)
        self._far |= gone > 0
        added = graphs.added(objective.grad_fn, loss.node)
        if added and objective.numel() == loss.value.numel() == 1:
            self.extra.append((gone, objective.item() - loss.value.item()))
        found = None if cut is None else graphs.gradients_beside(objective, cut)
        if found is not None:
            self._in_graph = True
            self._pull(begun, found, added)

    def _pull(
        self, begun: Mapping[int, Begun], gradients: Mapping[int, Tensor], added: bool, along: float | None = None
    ) -> None:
        one = pulls.pull(begun, gradients, added, self._before)
        if one is not None:
            self.pulls.append(one._replace(along=along))
        if one is not None and one.most:
            kept = {key: value.clone() for key, value in gradients.items() if key in begun}
            self._before = At({key: begun[key].parameter.detach().clone() for key in kept}, kept)

    def computed(self, begun: Mapping[int, Begun]) -> None:
        """Gradients were left in the leaves."""
        if self._calls <= MEASURED:
            grads = {key: one.parameter.grad for key, one in begun.items()}
            self._gradients = {key: None if value is None else value.detach().clone() for key, value in grads.items()}

    def step(self, optimizer: Optimizer, begun: Mapping[int, Begun]) -> None:
        """An optimiser is about to take a step: are the gradients those that were computed?"""
        self.unsure |= not type(optimizer).__module__.startswith("torch.optim")
        if not self._gradients:
            return
        changed: dict[int, Tensor] = {}
        taken: list[tuple[Tensor, Tensor]] = []
        sure = True
        for key, kept in self._gradients.items():
            now = begun[key].parameter.grad
            if (now is None) != (kept is None):
                self.found = True
            elif now is not None and kept is not None:
                taken.append((kept, now.detach()))
                if not torch.equal(now.detach(), kept):
                    changed[key] = now.detach() - kept
                    rounding = torch.finfo(kept.dtype).eps * kept.abs().max().item()
                    sure &= rounding < ROUNDING * changed[key].double().square().mean().sqrt().item()
        computed, self._gradients = self._gradients, {}
        self.compared += 1
        if changed:
            self.found = True
            self.bounded += bounded(taken)
            if not self._in_graph and sure:
                self._pull(begun, changed, True, pulls.along(changed, computed))

    def stepped(self, begun: Mapping[int, Begun]) -> None:
        """It has taken it."""
        if self._calls <= MEASURED:
            self._weights = {key: one.parameter.detach().clone() for key, one in begun.items()}

    def told(self, by_optimizer: bool) -> dict[str, Any]:
        """The fields of Watched that speak of terms."""
        if self.deaf:
            return {}
        fields: dict[str, Any] = {"extra": tuple(self.extra), "pulls": tuple(self.pulls), "squashed": self.squashed}
        if self.bounded:
            fields["clipped"] = self.bounded / self.compared
        if self.found:
            return fields | {"beside": True}
        sure = by_optimizer and self._far and bool(self._looked) and not self.unsure
        return fields | {"beside": False if sure else None}
