"""Where and in which precision the work is done, as the user writes it."""

from __future__ import annotations

import os
from typing import Literal

import torch

from fedlens.settings import Count, settings


@settings
class Engine:
    """`threads`: of PyTorch's operations; "auto" takes one where a step is too small to share, else all cores.

    `precision`: "float64" is for proofs of equality, at two to three times the cost.
    """

    threads: Count | Literal["auto"] = "auto"
    precision: Literal["float32", "float64"] = "float32"

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64 if self.precision == "float64" else torch.float32

    def thread_count(self, mflop_per_step: float) -> int:
        """Threads for steps of about `mflop_per_step` million operations, forward and backward.

        On two cores a second thread gains nothing below some 20 MFLOP a step (784-200-10 at batch 10: 6.4) and makes
        rounds five times slower and more when another process is busy.
        """
        if self.threads != "auto":
            return self.threads
        return (os.cpu_count() or 1) if mflop_per_step > 20 else 1
