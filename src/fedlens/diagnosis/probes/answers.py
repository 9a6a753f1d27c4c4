"""What an author's network answers, whatever it takes and returns: tensors [N, C], and which of them are right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def readable(network: nn.Module, inputs: Tensor) -> Tensor:
    """`inputs` in the float type of the network, where they are floats, or where it cannot read them otherwise."""
    kind = next((one.dtype for one in network.parameters() if one.is_floating_point()), torch.float32)
    if inputs.is_floating_point():
        return inputs.to(kind)
    try:
        with in_mode(network, training=False), torch.no_grad():
            network(inputs[:2])
    except (RuntimeError, TypeError):
        return inputs.to(kind)
    return inputs


def answers(outputs: Any) -> Tensor:
    """The tensor [N, C] among what a network returns: itself, its logits, or the first of several."""
    while not isinstance(outputs, Tensor):
        if isinstance(outputs, Mapping):
            outputs = outputs.get("logits", next(iter(outputs.values())))
        else:
            outputs = outputs.logits if hasattr(outputs, "logits") else outputs[0]
    return outputs.detach().flatten(1) if outputs.dim() > 1 else outputs.detach().unsqueeze(1)


def right(outputs: Tensor, truth: Tensor) -> Tensor:
    """[N]: which of `outputs` [N, C] say `truth` [N]; a single output says 1 above its middle."""
    if outputs.shape[1] > 1:
        return outputs.argmax(dim=1) == truth
    shares = bool(((outputs >= 0) & (outputs <= 1)).all())
    return (outputs[:, 0] > (0.5 if shares else 0.0)).long() == truth


def class_numbers(labels: Tensor) -> Tensor:
    """[N] whole numbers of labels [N], [N, 1] or one-hot [N, C]; -1 for a row that names no class."""
    if labels.dim() > 1 and labels.shape[-1] > 1:
        return torch.where(labels.flatten(1).abs().sum(dim=1) > 0, labels.flatten(1).argmax(dim=1), -1)
    return labels.flatten().long()


@contextmanager
def in_mode(network: nn.Module, training: bool) -> Iterator[None]:
    """The network in one mode, and every part of it back as it was afterwards."""
    before = [(part, part.training, getattr(part, "momentum", None)) for part in network.modules()]
    network.train(training)
    try:
        yield
    finally:
        for part, mode, momentum in before:
            part.training = mode
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.momentum = momentum
