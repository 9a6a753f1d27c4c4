"""Privacy of examples: per-example clipped, noised gradients (DP-SGD), made at the client.

Source: Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, Algorithm 1: every example's gradient is
clipped to an L2 norm of C over all trained parameters together, the sum gets N(0, (sigma C)^2) per coordinate and is
divided by the expected number of examples, L.
Differs from the paper: batches are consecutive parts of a shuffled pass, not Poisson samples, so an accountant that
assumes Poisson sampling is not exact here. A short last batch is divided by L as well.

What is protected is one example of a client, in the gradients. Not covered: the reported losses, how many examples a
client has, and a loss that itself looks at other examples of the client, such as at its counts of classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from fedlens.errors import ConfigurationError
from fedlens.settings import NonNegative, Positive, settings
from fedlens.tree import Bound

if TYPE_CHECKING:
    from fedlens.local.step import Loss

TOGETHER = 2**26  # entries of per-example gradients that are made at once: 256 MB in float32, held twice


@settings
class PerExample:
    """DP-SGD: `clip` is the L2 bound C of one example's gradient, `noise` the multiplier sigma.

    An example moves the sum of a batch by at most `clip` when it comes or goes, by 2 * clip when it is replaced.
    """

    clip: Positive
    noise: NonNegative


def check_examples_are_separate(module: nn.Module) -> None:
    """Raise ConfigurationError where a norm layer of `module` mixes examples, or remembers them in statistics."""
    for path, part in module.named_modules():
        if isinstance(part, _BatchNorm) or (isinstance(part, _NormBase) and part.track_running_stats):
            raise ConfigurationError(
                "per-example privacy cannot bound one example where a norm layer has statistics of the batch",
                where="privacy.per_example",
                seen=f"layer '{path}' is {type(part).__name__}",
                do='Set model.norm = "group" or "layer".',
            )


def gradient(
    bound: Bound,
    inputs: Tensor,
    labels: Tensor,
    loss: Loss | None,
    privacy: PerExample,
    expected: int,
    rng: np.random.Generator,
) -> tuple[float, Tensor]:
    """The mean loss of a batch, without noise, and its noised mean gradient [T], weights then norm.

    `inputs` [B, ...], `labels` [B]; `loss` as in Work, given one example at a time (None: cross-entropy). The sum is
    divided by `expected`, the planned size of a batch, however many examples came.
    """
    value, total = clipped_sum(bound, inputs, labels, loss, privacy.clip)
    noise = rng.normal(0.0, privacy.noise * privacy.clip, total.numel())
    return value, total.add_(torch.from_numpy(noise).to(total)).div_(expected)


def clipped_sum(bound: Bound, inputs: Tensor, labels: Tensor, loss: Loss | None, clip: float) -> tuple[float, Tensor]:
    """The mean loss of a batch, and the sum [T] of its examples' gradients, each clipped to `clip`, before noise."""
    slots = [slot for slot in bound.layout.slots if slot.start < bound.layout.trained]
    weights = {slot.name: bound.vector[slot.start : slot.start + slot.size].view(slot.shape) for slot in slots}

    def value(weights: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        one, its = image.unsqueeze(0), label.unsqueeze(0)
        outputs = functional_call(bound.module, weights, (one,))
        return F.cross_entropy(outputs, its) if loss is None else loss(outputs, its, one)

    each = vmap(grad_and_value(value), in_dims=(None, 0, 0), randomness="different")
    size = max(1, TOGETHER // bound.layout.trained)
    total, losses = torch.zeros_like(bound.gradient), 0.0
    for some, theirs in zip(torch.split(inputs, size), torch.split(labels, size), strict=True):
        gradients, values = each(weights, some, theirs)
        rows = torch.cat([gradients[slot.name].reshape(len(some), -1) for slot in slots], dim=1)
        total += _sum_of_clipped(rows, clip)
        losses += float(values.sum())
    return losses / len(inputs), total


def _sum_of_clipped(rows: Tensor, clip: float) -> Tensor:
    """The sum [T] of `rows` [B, T], each scaled to a norm of at most `clip`."""
    # One row at a time: along a dimension, a float64 norm of float32 numbers takes ten times as long.
    norms = torch.stack([torch.linalg.vector_norm(row, dtype=torch.float64) for row in rows])
    shorter = 1 - 2 * torch.finfo(rows.dtype).eps  # rounding must not lengthen a gradient beyond the bound
    return torch.where(norms <= clip, 1.0, clip * shorter / norms).to(rows) @ rows
