"""One observer: it hears of calls, steps and losses as they happen, and tells what they were when all is over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fedlens.diagnosis.evidence.rounds import Watched
from fedlens.diagnosis.job import State
from fedlens.diagnosis.watch import forwards, losses, trained
from fedlens.diagnosis.watch.clips import Clips
from fedlens.diagnosis.watch.forwards import Root
from fedlens.diagnosis.watch.identity import number_of, number_of_memory
from fedlens.diagnosis.watch.losses import Heard, Losses
from fedlens.diagnosis.watch.noise import Last
from fedlens.diagnosis.watch.steps import ByHand, Steps
from fedlens.diagnosis.watch.terms import Terms
from fedlens.diagnosis.watch.trained import Begun

STATISTICS = 3  # backward calls after which running statistics are looked at
PAIRS, NUMBERS = 512, 2**21  # inputs that are kept beside their labels, and numbers in them


class Watch:
    """What one call does. `received`: the state that it is given; `model_names`: its entries that count, None: all.

    `light` leaves out losses, labels, gradients and what was returned. Nothing that is heard is changed, no random
    number is drawn, and whatever goes wrong in here ends the listening, never the author's code.
    """

    def __init__(self, received: State, model_names: frozenset[str] | None = None, light: bool = False) -> None:
        kept = {name: value for name, value in received.items() if model_names is None or name in model_names}
        self.received = {name: value.detach().cpu() for name, value in kept.items() if value.is_floating_point()}
        self.light, self.thread, self.deaf = light, threading.get_ident(), False
        self.seen = False  # whether the last backward call came after a pass of a known network
        self.pairs: list[tuple[Tensor, Tensor]] = []  # inputs of the first batches, and the labels that the loss had
        self._shapes = {value.shape for value in self.received.values()}
        self._roots: dict[int, Root] = {}
        self._begun: dict[int, Begun] = {}
        self._optimised: set[int] = set()
        self._optimisers: dict[int, Optimizer] = {}
        self._leaves: list[Tensor] = []
        self._latest: tuple[Sequence[Tensor], Sequence[Tensor | None]] = (), ()
        self._suspects: list[Tensor] | None = None
        self._backwards, self._busy, self._depth = 0, False, 0
        self._steps, self._hand = Steps(), ByHand(())
        self._losses, self._clips, self._terms, self._end = Losses(), Clips(), Terms(), Last()
        self._first: float | None = None
        self._last: Tensor | None = None
        self._norm: float | None = None
        self._updating: bool | None = None

    def forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> nn.Module | None:
        """A module is called with gradients on; returns it if it was not known as an outermost one."""
        root, new = self._roots.get(id(module)), None
        if root is None:
            if not forwards.learns(module):
                return None
            root = self._roots[id(module)] = Root(module)
            new = module
        root.heard(args, kwargs)
        return new

    def before(self, outputs: Sequence[Tensor], inputs: Sequence[Tensor] | None) -> bool:
        """Gradients of `outputs` are about to be computed, towards all leaves or `inputs`; False: not of interest."""
        if self._busy or (inputs is not None and (not inputs or inputs[0].shape not in self._shapes)):
            return False
        self._busy = True
        if not self._backwards:
            self._leaves = list(inputs) if inputs is not None else trained.leaves_of(outputs)
            self._begin(self._leaves)
            self._hand = ByHand(self._leaves)
        elif not self._steps.count:
            if self._backwards == 1:
                self._renewed(outputs, inputs)
            self._hand.look()
        if not self.light:
            self._pair()
        taken = self._steps.count - (self._depth > 0)
        committed = [root.commit(taken, self._backwards) for root in self._roots.values()]
        self.seen = any(committed)
        if not self.light:
            self._of_terms(self._terms.look, outputs, inputs is not None, self._begun)
            self._losses.commit()
            if self._first is None and outputs and outputs[0].numel() == 1:
                self._first = float(outputs[0].detach())
            self._last = outputs[0].detach() if outputs else None
        return True

    def after(self, gradients: Sequence[Tensor | None] | None, inputs: Sequence[Tensor]) -> None:
        """They are computed: left in the leaves (None), or given back for `inputs`."""
        self._busy = False
        self._backwards += 1
        given = {id(one): value for one, value in zip(inputs, gradients or (), strict=False)}
        self._latest = (inputs, gradients) if gradients is not None and self._hand.renewed else self._latest
        if not self._steps.count and self._hand.watched:
            self._hand.computed([given.get(id(one), one.grad) for one in self._hand.watched])
        if not self._updating and self._backwards <= STATISTICS and any(one.before for one in self._roots.values()):
            known = [moved for root in self._trained_roots() if (moved := root.moved) is not None]
            self._updating = any(known) if known else None
        if not self.light:
            self._gradients(given)
            self._of_terms(self._terms.computed, self._begun)

    def step(self, optimizer: Optimizer) -> None:
        """An optimiser is about to take a step; one that wraps another takes one step together with it."""
        self._depth += 1
        if self._depth > 1:
            return
        self._steps.heard(optimizer, self._backwards)
        if id(optimizer) not in self._optimisers:
            self._optimisers[id(optimizer)] = optimizer
            parameters = [one for group in optimizer.param_groups for one in group["params"]]
            self._begin(parameters)
            self._optimised |= {id(one) for one in parameters}
        if not self.light:
            self._of_terms(self._terms.step, optimizer, self._begun)

    def stepped(self) -> None:
        """It has taken it."""
        self._depth = max(self._depth - 1, 0)
        if not self.light and not self._depth:
            self._of_terms(self._terms.stepped, self._begun)
            self._end.keep(self._begun)

    def loss(self, name: str, args: Sequence[Any]) -> Heard | None:
        """A loss function of PyTorch is about to be called; returns it if it is one to train a network by."""
        return self._losses.heard(name, args)

    def valued(self, line: Heard, value: Any) -> None:
        """It gave `value`."""
        self._of_terms(self._terms.heard, line.rank, value)

    def clip(self, parameters: Any, bound: float, norm: Tensor) -> None:
        """Gradients of `parameters` with the norm `norm` are about to be scaled down to `bound`."""
        self._clips.heard(parameters, bound, norm, self._steps.count)

    def end(self) -> None:
        """The call is over."""
        if not self._steps.count and self._backwards and not self.deaf:
            self._hand.look()

    def told(self, returned: State | None = None) -> Watched:
        """All of it, and nothing where it went unheard; `returned`: the state that came back."""
        if self.deaf:
            return Watched()
        by_optimizer = self._steps.count > 0
        begun = [one for key, one in self._begun.items() if not by_optimizer or key in self._optimised]
        names = forwards.named_parameters(self._roots.values())
        entries = trained.paired(begun, names, self.received)
        fields: dict[str, Any] = {"start": trained.distance(begun, entries, self.received)}
        fields |= self._told_steps(by_optimizer) | self._told_networks(begun, by_optimizer)
        if returned is not None:
            fields["sent_back"] = trained.sent_back(self._ended(begun), entries, self.received, returned)
        if not self.light:
            fields |= self._told_losses(fields) | self._terms.told(by_optimizer) | self._losses.teachers.told()
            called = {id(one.parameter): name for one, name in zip(begun, entries, strict=True) if name}
            fields["unused"] = tuple(self._name(one, names, called) for one in self._suspects or ())
            if returned is not None:
                fields["outside"] = trained.outside(self._ended(begun), entries, self.received, returned)
                fields |= self._end.told(begun, entries, self.received, returned)
        return Watched(**fields)

    def _ended(self, begun: list[Begun]) -> list[Begun]:
        """`begun` with the weights after the last step where they are made anew at every step: its leaves less its
        gradients at the rate of the first one."""
        leaves, gradients = self._latest
        if self._steps.count or not self._hand.rates or len(leaves) != len(begun):
            return begun
        rate = self._hand.rates[0]
        return [
            Begun(leaf.detach() if gradient is None else leaf.detach() - rate * gradient.detach(), one.start)
            for one, leaf, gradient in zip(begun, leaves, gradients, strict=True)
        ]

    def _of_terms(self, event: Callable[..., None], *said: Any) -> None:
        """Graphs take any form: where one cannot be read, nothing is said of terms, and the rest is heard on."""
        if not self._terms.deaf:
            try:
                event(*said)
            except Exception:
                self._terms.deaf = True

    def _pair(self) -> None:
        """Keep what goes into the network beside its labels, where one pass and one loss belong together."""
        if sum(len(one) for one, _ in self.pairs) >= PAIRS:
            return
        given = [one for root in self._roots.values() if (one := root.only()) is not None]
        labels = self._losses.only()
        if len(given) != 1 or labels is None or not given[0].dim() or len(given[0]) != len(labels):
            return
        if given[0].numel() + sum(one.numel() for one, _ in self.pairs) <= NUMBERS:
            self.pairs.append((given[0].detach().clone(), labels.clone()))

    def _begin(self, parameters: Sequence[Tensor]) -> None:
        for one in parameters:
            if id(one) not in self._begun and one.requires_grad:
                self._begun[id(one)] = Begun(one, one.detach().clone())

    def _renewed(self, outputs: Sequence[Tensor], inputs: Sequence[Tensor] | None) -> None:
        leaves = list(inputs) if inputs is not None else trained.leaves_of(outputs)
        if not {id(one) for one in leaves} & {id(one) for one in self._leaves}:
            first, self._leaves = self._leaves, leaves
            self._hand.renew(leaves, first)

    def _trained_roots(self) -> list[Root]:
        """Networks of which a leaf or an optimised parameter is a part, the one with most of them first."""
        wanted = self._optimised or {id(one) for one in self._leaves}
        shares = [(sum(id(p) in wanted for p in root.module.parameters()), root) for root in self._roots.values()]
        return [root for share, root in sorted(shares, key=lambda pair: -pair[0]) if share and root.passes]

    def _gradients(self, given: Mapping[int, Tensor | None]) -> None:
        if self._norm is None:
            found = [given.get(id(one), one.grad) for one in self._leaves]
            there = [one.detach() for one in found if one is not None]
            if there:
                self._norm = torch.stack(torch._foreach_norm(there)).norm().item()
        if self._suspects is None:
            parameters = [p for root in self._trained_roots() for p in root.module.parameters() if p.requires_grad]
            self._suspects = list({id(one): one for one in (*parameters, *self._leaves)}.values())
        if self._suspects:
            left = [(one, given.get(id(one), one.grad)) for one in self._suspects]
            self._suspects = [one for one, value in left if value is None or not bool(value.any())]

    def _told_steps(self, by_optimizer: bool) -> dict[str, Any]:
        steps = self._steps
        if by_optimizer:
            told: dict[str, Any] = {"steps": steps.count, "rates": tuple(steps.rates), "optimizer": steps.optimizer}
            return told | {"settings": steps.settings, "groups": tuple(steps.groups), "carried": steps.carried}
        if not self._backwards or not self._leaves:
            return {}
        count = self._backwards if self._hand.renewed else self._hand.count
        return {"steps": count, "rates": tuple(self._hand.rates)}

    def _told_networks(self, begun: Sequence[Begun], by_optimizer: bool) -> dict[str, Any]:
        roots = self._trained_roots()
        stuck = dict.fromkeys(name for root in roots for name in root.stuck)
        numbers = [number_of(root.module) for root in roots] + [number_of_memory(one.parameter) for one in begun]
        told: dict[str, Any] = {"stuck": tuple(stuck), "updating": self._updating}
        told["identities"] = tuple(dict.fromkeys(numbers))
        if roots:
            sizes = forwards.batches(roots[0].passes, by_optimizer)
            told |= {"batches": sizes, "samples": sum(sizes) if sizes else None}
            if not self.light:
                told |= forwards.describe(roots[0].first)
        return told

    def _told_losses(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        told: dict[str, Any] = {"loss_first": self._first, "gradient_norm": self._norm}
        if self._last is not None and self._last.numel() == 1:
            told["loss_last"] = float(self._last)
        main = self._losses.main()
        if main is not None:
            told |= losses.told(main)
            if not fields.get("batches"):
                told |= {"batches": tuple(main.sizes), "samples": sum(main.sizes)}
        return told | self._clips.told(fields.get("steps"))

    @staticmethod
    def _name(parameter: Tensor, names: Mapping[int, str], entries: Mapping[int, str]) -> str:
        shape = "x".join(map(str, parameter.shape))
        return entries.get(id(parameter)) or names.get(id(parameter)) or f"a parameter of shape {shape}"
