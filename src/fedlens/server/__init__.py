"""One server step: many uploads become one.

Knows: how uploads are weighted and reduced, and how many uploads a rule needs.
Does not know: where uploads came from, or what they mean to a method.
Offers: Server (settings), Sum; AnyReducer, REDUCERS and the kinds in it.
"""

from fedlens.server.codec import QSGD, BFloat16, Float16, Plain, Sign, TopK
from fedlens.server.communication import AnyCodec, Communication, with_feedback
from fedlens.server.krum import Bulyan, Krum, MultiKrum
from fedlens.server.privacy import AnyMechanism, Central, CentralAdaptive, LocalLaplace
from fedlens.server.reduce import Sum
from fedlens.server.robust import GeometricMedian, Mean, Median, NormClip, TrimmedMean
from fedlens.server.settings import REDUCERS, AnyReducer, Server

__all__ = [
    "REDUCERS",
    "AnyCodec",
    "AnyMechanism",
    "AnyReducer",
    "BFloat16",
    "Bulyan",
    "Central",
    "CentralAdaptive",
    "Communication",
    "Float16",
    "GeometricMedian",
    "Krum",
    "LocalLaplace",
    "Mean",
    "Median",
    "MultiKrum",
    "NormClip",
    "Plain",
    "QSGD",
    "Server",
    "Sign",
    "Sum",
    "TopK",
    "TrimmedMean",
    "with_feedback",
]
