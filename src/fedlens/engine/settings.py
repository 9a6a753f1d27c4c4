"""Where and in which precision the work is done, as the user writes it."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import torch
from pydantic import Field

from fedlens.local.compute import Compute
from fedlens.settings import settings

Hands = Annotated[int, Field(ge=1, le=1024, strict=True)]


@settings
class Engine:
    """`kind`: "sequential" trains one client after another, as the papers write it; "workers" several at once, in
    `processes` processes of one thread each ("auto": one a core), with the same results to the last bit as
    "sequential" with one thread; "cuda" captures steps on one GPU (not yet measured on one). "auto" times a few steps
    when a run begins, keeps the fastest of the first two and says which.

    `together`: how many clients of a small model are trained in one pass ("auto": as many as suit the caches, where
    that is faster; 1: each alone): of a fully connected one by hand-written products; with "cuda" of any that treats
    its examples alone and draws nothing, by one captured step. Results differ from one by one by rounding alone.
    `layout`: how images lie in memory during passes, "channels-first" or "channels-last" ("auto": what was timed best).
    `threads`: of PyTorch's operations outside worker processes; "auto" decides when a run begins, and the run folder
    records what it took. `precision`: "bfloat16" computes passes in bfloat16 around float32 weights, which changes
    results; "float64" is for proofs of equality, at two to three times the cost. `states`: where what clients remember
    lies between their visits, "memory" or "disk".
    """

    kind: Literal["auto", "sequential", "workers", "cuda"] = "auto"
    processes: Hands | Literal["auto"] = "auto"
    threads: Hands | Literal["auto"] = "auto"
    together: Hands | Literal["auto"] = "auto"
    layout: Literal["auto", "channels-first", "channels-last"] = "auto"
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    states: Literal["memory", "disk"] = "memory"

    @property
    def dtype(self) -> torch.dtype:
        """What weights and updates are held in."""
        return torch.float64 if self.precision == "float64" else torch.float32

    @property
    def compute(self) -> Compute:
        """How passes are computed."""
        return Compute(self.layout == "channels-last", self.precision == "bfloat16")

    def process_count(self) -> int:
        """Worker processes."""
        return cores() if self.processes == "auto" else self.processes

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
        busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        return max(1, cores() - round(busy))


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
