"""Running statistics of batch norm: held fixed, or measured anew on examples.

Sources: held fixed: Zhong, Chen and Chao, "Making Batch Normalization Great in Federated Deep Learning", 2023 (FixBN).
Measured anew: Wu and Johnson, "Rethinking Batch in BatchNorm", 2021, section 3 (PreciseBN), here over several clients.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Moments = Mapping[str, tuple[Tensor, Tensor]]  # a layer's path: mean and mean square of its inputs, each [channels]


def statistics_layers(module: nn.Module) -> dict[str, _BatchNorm]:
    """The layers of `module` that keep running statistics, by dotted path."""
    parts = module.named_modules()
    return {path: part for path, part in parts if isinstance(part, _BatchNorm) and part.running_mean is not None}


def has_batch_norm(module: nn.Module) -> bool:
    """Whether a layer keeps running statistics."""
    return bool(statistics_layers(module))


@contextmanager
def batch_statistics(module: nn.Module) -> Iterator[None]:
    """Inside, every batch norm layer normalises by the batch; its running statistics keep their values."""
    layers = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    kept = [(part.momentum, part.num_batches_tracked, part.training) for part in layers]
    for part in layers:
        # In training mode a layer normalises by its batch; with momentum 0 the running statistics keep their values.
        part.momentum, part.num_batches_tracked, part.training = 0.0, None, True
    try:
        yield
    finally:
        for part, (momentum, tracked, training) in zip(layers, kept, strict=True):
            part.momentum, part.num_batches_tracked, part.training = momentum, tracked, training


def freeze_statistics(module: nn.Module) -> None:
    """Let a module in training mode normalise by its running statistics, and leave those alone."""
    for layer in statistics_layers(module).values():
        layer.eval()


@torch.inference_mode()
def moments(module: nn.Module, batches: Iterable[Tensor]) -> tuple[Moments, int]:
    """The first two moments of what each batch norm layer is given, over `batches` [B, ...], and how many examples.

    Layers normalise by the batch while they are measured, as in training; running statistics are left alone.
    """
    sums: dict[str, tuple[Tensor, Tensor]] = {}
    count = 0

    def watch(path: str, inputs: Tensor) -> None:
        values = inputs.double().transpose(0, 1).flatten(1)
        mean, square = values.mean(1) * len(inputs), values.square().mean(1) * len(inputs)
        before = sums.get(path, (torch.zeros_like(mean), torch.zeros_like(square)))
        sums[path] = before[0] + mean, before[1] + square

    module.eval()
    with batch_statistics(module), ExitStack() as stack:
        for path, layer in statistics_layers(module).items():
            hook = layer.register_forward_pre_hook(lambda _, given, path=path: watch(path, given[0]))
            stack.callback(hook.remove)
        for inputs in batches:
            count += len(inputs)
            module(inputs)
    return {path: (mean / count, square / count) for path, (mean, square) in sums.items()}, count


def pooled(measured: Sequence[tuple[Moments, int]]) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and variance of each layer over the examples of all clients: between clients counts, too.

    The mean of clients' variances alone, which averaging running statistics gives, leaves out how their means differ.
    """
    total = sum(count for _, count in measured)
    found = {}
    for path in measured[0][0]:
        mean = torch.stack([moments[path][0] * (count / total) for moments, count in measured]).sum(0)
        square = torch.stack([moments[path][1] * (count / total) for moments, count in measured]).sum(0)
        found[path] = mean, (square - mean.square()).clamp_min(0)
    return found
