"""What a network costs: its size, the work of one image, the bytes of one update."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fedlens.models.probe import outputs_of, weightless


@dataclass(frozen=True)
class Cost:
    """Numbers of a module at one image shape.

    parameters, trainable: entries. buffers: entries of all buffers, integers too. mflop: million floating point
    operations of the forward pass of one image, a multiply and add counted as two (convolutions and products only, as
    `torch.utils.flop_counter` counts; a training step takes about three times as much). update_bytes: of all
    parameters and floating buffers as float32.
    """

    parameters: int
    trainable: int
    buffers: int
    mflop: float
    update_bytes: int


def cost(module: nn.Module, shape: tuple[int, ...]) -> Cost:
    """The cost of `module` for images [N, *shape]; the module is left as it was.

    Nothing is computed where the module runs on the meta device; a module may already lie there
    (`with torch.device("meta"): build(...)` skips the initialisation too).
    """
    parameters, buffers = list(module.parameters()), list(module.buffers())
    floating = sum(b.numel() for b in buffers if b.is_floating_point())
    size = sum(p.numel() for p in parameters)
    return Cost(
        parameters=size,
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        buffers=sum(b.numel() for b in buffers),
        mflop=_flops(module, shape) / 1e6,
        update_bytes=4 * (size + floating),
    )


def _flops(module: nn.Module, shape: tuple[int, ...]) -> float:
    images = 2
    try:
        with FlopCounterMode(display=False) as counter:
            outputs_of(weightless(module), shape, images)
    except Exception:
        # A user's forward may need values (a test of a number, a tensor that it makes): compute then, on a copy.
        with FlopCounterMode(display=False) as counter:
            outputs_of(copy.deepcopy(module), shape, images)
    return float(counter.get_total_flops()) / images
