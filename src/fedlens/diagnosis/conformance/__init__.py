"""One component of somebody's job alone: an aggregator, a client update, a partitioner or a metric.

Knows: how each kind may be called, what a right one does with made-up inputs, and how to tell the kinds apart.
Does not know: whole jobs, causes of their failures, or how a result is printed.
Offers: check, Conformance, Check, KINDS.
"""

from fedlens.diagnosis.conformance.kinds import KINDS, check
from fedlens.diagnosis.conformance.result import Check, Conformance

__all__ = ["KINDS", "Check", "Conformance", "check"]
