"""How a module's passes are computed: in which memory layout and in which arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Compute:
    """`channels_last`: images [B, C, H, W] lie pixel by pixel, not channel by channel, and so do layers' outputs.

    `bfloat16`: convolutions and matrix products of a float32 model run in bfloat16 (torch.autocast); parameters,
    gradients, running statistics, the loss and the update stay float32. It changes results, by some percent of an
    update; the layout changes them by rounding alone.
    """

    channels_last: bool = False
    bfloat16: bool = False

    def forward(self, module: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        """The outputs of `module` on `inputs` [B, ...], in the inputs' dtype."""
        if inputs.dim() == 4:  # what augmentation leaves lies in either layout, and convolutions would follow it
            inputs = _channels_last(inputs) if self.channels_last else inputs.contiguous()
        if not self.bfloat16:
            return module(inputs)
        with torch.autocast(inputs.device.type, torch.bfloat16):
            outputs = module(inputs)
        return outputs.to(inputs.dtype)


def _channels_last(images: Tensor) -> Tensor:
    """`images` [B, C, H, W] with strides that say channels last, also for one channel.

    PyTorch takes one channel for either layout and then keeps the strides as they are; convolutions read those.
    """
    if images.shape[1] > 1:
        return images.contiguous(memory_format=torch.channels_last)
    _, _, height, width = images.shape
    return images.contiguous().as_strided(images.shape, (height * width, 1, width, 1))


PLAIN = Compute()
