"""A model as one contiguous vector with named views, in groups: weights | norm | frozen | buffers.

Knows: names, shapes and offsets of a module's tensors.
Does not know: learning, clients, methods.
Offers: Layout (where each tensor lies), Tree (a vector laid out so, and the integers beside it), bind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from fedlens.errors import ConfigurationError

Group = Literal["weights", "norm", "frozen", "buffers"]
GROUPS: tuple[Group, ...] = ("weights", "norm", "frozen", "buffers")
_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


class Slot(NamedTuple):
    """Where one tensor lies in the vector."""

    name: str
    shape: tuple[int, ...]
    start: int
    size: int
    group: Group


@dataclass(frozen=True)
class Layout:
    """Names, shapes and offsets of a module's floating tensors, grouped: weights, norm, frozen, buffers.

    weights: parameters outside norm layers. norm: scale and shift of norm layers. frozen: parameters that take no
    gradient, so that neither a step nor weight decay reaches them. buffers: floating buffers (running statistics).
    Integer buffers have no place in the vector, because they must never be averaged: `integers` names them.
    """

    slots: tuple[Slot, ...]
    integers: tuple[str, ...]

    @classmethod
    def of(cls, module: nn.Module) -> Layout:
        """The layout of `module`; a tensor shared under two names lies once."""
        in_norm = {
            id(p) for part in module.modules() if isinstance(part, _NORMS) for p in part.parameters(recurse=False)
        }
        named: dict[Group, list[tuple[str, Tensor]]] = {group: [] for group in GROUPS}
        for name, parameter in module.named_parameters():
            group: Group = "norm" if id(parameter) in in_norm else "weights"
            named[group if parameter.requires_grad else "frozen"].append((name, parameter))
        integers = []
        for name, buffer in _stored_buffers(module):
            if buffer.is_floating_point():
                named["buffers"].append((name, buffer))
            else:
                integers.append(name)
        slots, start = [], 0
        for group in GROUPS:
            for name, tensor in named[group]:
                slots.append(Slot(name, tuple(tensor.shape), start, tensor.numel(), group))
                start += tensor.numel()
        if not named["weights"] and not named["norm"]:
            raise ConfigurationError(
                "the model has no parameters to train", where=type(module).__name__, do="Leave some unfrozen."
            )
        return cls(tuple(slots), tuple(integers))

    @property
    def size(self) -> int:
        """P, the entries of the whole vector."""
        return self.slots[-1].start + self.slots[-1].size

    @property
    def trained(self) -> int:
        """The first `trained` entries are what an optimiser moves (weights, then norm)."""
        return sum(slot.size for slot in self.slots if slot.group in ("weights", "norm"))

    def views(self, vector: Tensor) -> dict[str, Tensor]:
        """Names to views of `vector` [..., P], each [..., *shape]; nothing is copied."""
        lead = vector.shape[:-1]
        return {s.name: vector[..., s.start : s.start + s.size].view((*lead, *s.shape)) for s in self.slots}

    def mask(self, chosen: Callable[[Slot], bool]) -> Tensor:
        """Booleans [P], true where `chosen` holds of the tensor that an entry belongs to."""
        mask = torch.zeros(self.size, dtype=torch.bool)
        for slot in self.slots:
            mask[slot.start : slot.start + slot.size] = chosen(slot)
        return mask


@dataclass(frozen=True)
class Tree:
    """A model's state: `vector` [P] laid out as `layout` says, and its integer buffers."""

    layout: Layout
    vector: Tensor
    integers: Mapping[str, Tensor]

    @classmethod
    def of(cls, module: nn.Module, dtype: torch.dtype = torch.float32) -> Tree:
        """A copy of `module`'s state."""
        layout = Layout.of(module)
        state = module.state_dict(keep_vars=True)
        vector = torch.cat([state[slot.name].detach().to(dtype).reshape(-1) for slot in layout.slots])
        return cls(layout, vector, {name: state[name].clone() for name in layout.integers})

    def with_(self, vector: Tensor, integers: Mapping[str, Tensor] | None = None) -> Tree:
        """The same layout around another vector (and other integers)."""
        return replace(self, vector=vector, integers=self.integers if integers is None else integers)

    def state_dict(self) -> dict[str, Tensor]:
        """Names to tensors, as `nn.Module.load_state_dict` takes them; views of the vector."""
        return {**self.layout.views(self.vector), **self.integers}


@dataclass(frozen=True)
class Bound:
    """A module whose parameters and buffers are views of `vector`, and whose gradients are views of `gradient`.

    Loading a global model is then one copy, an SGD step one `add_`, an update one subtraction.
    """

    module: nn.Module
    layout: Layout
    vector: Tensor
    gradient: Tensor
    integers: Mapping[str, Tensor]

    @cached_property
    def parameters(self) -> list[Tensor]:
        """The parameters that are trained, in the order of the vector, to take gradients by."""
        named = dict(self.module.named_parameters())
        return [named[slot.name] for slot in self.layout.slots if slot.start < self.layout.trained]

    @cached_property
    def gradients(self) -> list[Tensor]:
        """The gradient of each of `parameters`, as views of `gradient`."""
        slots = self.layout.slots[: len(self.parameters)]
        return [self.gradient[slot.start : slot.start + slot.size].view(slot.shape) for slot in slots]

    def load(self, tree: Tree) -> None:
        """Take over the state in `tree`, in place."""
        self.vector.copy_(tree.vector)
        for name, value in tree.integers.items():
            self.integers[name].copy_(value)

    def copied_integers(self) -> dict[str, Tensor]:
        """A copy of the module's integer buffers."""
        return {name: value.clone() for name, value in self.integers.items()}


def bind(module: nn.Module, dtype: torch.dtype = torch.float32) -> Bound:
    """Lay `module`'s tensors out in one vector [P] and make them views of it. Changes the module."""
    tree = Tree.of(module, dtype)
    layout, vector = tree.layout, tree.vector
    module.to(dtype)
    gradient = torch.zeros(layout.trained, dtype=dtype)
    parameters = dict(module.named_parameters())
    for slot in layout.slots:
        view = vector[slot.start : slot.start + slot.size].view(slot.shape)
        if slot.group == "buffers":
            owner, _, leaf = slot.name.rpartition(".")
            module.get_submodule(owner)._buffers[leaf] = view
            continue
        parameter = parameters[slot.name]
        parameter.data = view
        if parameter.requires_grad:
            parameter.grad = gradient[slot.start : slot.start + slot.size].view(slot.shape)
    stored = dict(_stored_buffers(module))
    return Bound(module, layout, vector, gradient, {name: stored[name] for name in layout.integers})


def _stored_buffers(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Buffers that belong to the saved state: those that a module declares persistent."""
    saved = module.state_dict(keep_vars=True)
    return [(name, buffer) for name, buffer in module.named_buffers() if name in saved]
