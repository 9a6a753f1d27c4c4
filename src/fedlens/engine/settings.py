"""Where and in which precision the work is done, as the user writes it."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import torch
from pydantic import Field

from fedlens.settings import settings


@settings
class Engine:
    """`kind`: "sequential" trains one client after another; "workers" trains several at once, in `processes` processes
    of one thread each ("auto": one a core), with the same results to the last bit as "sequential" with one thread.

    `threads`: of PyTorch's operations outside worker processes; "auto" decides when a run begins, and the run folder
    records what it took. `precision`: "float64" is for proofs of equality, at two to three times the cost.
    """

    kind: Literal["sequential", "workers"] = "sequential"
    processes: Annotated[int, Field(ge=1, le=1024, strict=True)] | Literal["auto"] = "auto"
    threads: Annotated[int, Field(ge=1, le=1024, strict=True)] | Literal["auto"] = "auto"
    precision: Literal["float32", "float64"] = "float32"

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64 if self.precision == "float64" else torch.float32

    def process_count(self) -> int:
        """Worker processes."""
        return (os.cpu_count() or 1) if self.processes == "auto" else self.processes

    def thread_count(self, mflop_per_step: float) -> int:
        """Threads for steps of about `mflop_per_step` million operations, forward and backward.

        Steps below some 20 MFLOP (784-200-10 at batch 10: 6.4) gain nothing from a second thread. Larger ones get the
        cores that nobody uses: threads that share a core wait for each other, which makes a round five times slower
        and more beside another busy process.
        """
        if self.threads != "auto":
            return self.threads
        if mflop_per_step < 20:
            return 1
        cores = os.cpu_count() or 1
        busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        return max(1, cores - round(busy))
