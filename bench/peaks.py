"""What the machine can do at best, beside which GFLOP/s are stated."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.nn.functional import conv2d


class Peaks:
    """Measures GFLOP/s of one product and one convolution; the best of several runs, for a peak is no average."""

    def measured(self, threads: int, dtype: str, quick: bool) -> dict[str, float]:
        """`product`: of two square matrices of 2,048. `convolution`: forward, 3x3, 128 to 128 channels, 32 images of
        32 x 32, in the better of the two layouts."""
        torch.set_num_threads(threads)
        kind = getattr(torch, dtype)
        side, images = (256, 2) if quick else (2048, 32)
        with torch.inference_mode():
            one, other = torch.randn(2, side, side).to(kind)
            inputs, weight = torch.randn(images, 128, 32, 32).to(kind), torch.randn(128, 128, 3, 3).to(kind)
            turned = [part.contiguous(memory_format=torch.channels_last) for part in (inputs, weight)]
            convolution = 2e-9 * images * 128 * 32 * 32 * 128 * 9
            return {
                "product": 2e-9 * side**3 / _best(lambda: one @ other),
                "convolution": convolution
                / min(_best(lambda: conv2d(inputs, weight, padding=1)), _best(lambda: conv2d(*turned, padding=1))),
            }


def _best(work: Callable[[], object], times: int = 8) -> float:
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
