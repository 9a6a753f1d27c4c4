"""K4: feature maps of one pixel half-way through the network."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.symptom import ails, misses


def maps_shrink_too_early(e: Evidence) -> Finding | None:
    """K4: a network for 224 x 224 pixels on 28 x 28: strides leave one pixel long before the end.

    Measured by the sizes of feature maps on one batch.
    """
    if e.learning is None or e.learning.half_way is None or max(e.learning.half_way) > 1:
        return None
    return Finding(
        "K4",
        Certainty.CONSISTENT if ails(e) else Certainty.NOTED,
        "Half-way through the network feature maps have shrunk to one pixel.",
        (Measured("feature map half-way", "M14", "1 x 1", "larger"),),
        "Take out strides of the first layers, or use the variant for small images.",
        weight=misses(e),
    )
