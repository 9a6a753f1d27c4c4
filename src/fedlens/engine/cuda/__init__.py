"""Visits on one GPU: a step is captured once and repeated, several clients train at the same time.

Knows: streams, captured graphs, memory on the device, in what order visits are done.
Does not know: what a method means, how a visit is delivered.
Offers: Cuda, check_cuda.
"""

from fedlens.engine.cuda.cuda import Cuda, check_cuda

__all__ = ["Cuda", "check_cuda"]
