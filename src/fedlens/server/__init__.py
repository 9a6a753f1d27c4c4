"""One server step: many uploads become one.

Knows: how uploads are weighted and reduced, and how many uploads a rule needs.
Does not know: where uploads came from, or what they mean to a method.
Offers: Server (settings), Sum; AnyReducer, REDUCERS and the kinds in it.
"""

from fedlens.server.krum import Bulyan, Krum, MultiKrum
from fedlens.server.reduce import Sum
from fedlens.server.robust import GeometricMedian, Mean, Median, NormClip, TrimmedMean
from fedlens.server.settings import REDUCERS, AnyReducer, Server

__all__ = [
    "REDUCERS",
    "AnyReducer",
    "Bulyan",
    "GeometricMedian",
    "Krum",
    "Mean",
    "Median",
    "MultiKrum",
    "NormClip",
    "Server",
    "Sum",
    "TrimmedMean",
]
