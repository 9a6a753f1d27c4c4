"""Visits on one GPU: a step is captured once and repeated, several clients train at the same time.

Knows: streams, captured graphs, memory on the device, in what order visits are done.
Does not know: what a method means, how a visit is delivered.
Offers: Cuda, check_cuda; suited, how many clients of a small model to try in one step.
"""

from fedlens.engine.cuda.cuda import Cuda, check_cuda
from fedlens.engine.cuda.resident import suited

__all__ = ["Cuda", "check_cuda", "suited"]
