"""K4: feature maps of a pixel or two through half of the network."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.capacity.weak import behind_a_small_one
from fedlens.diagnosis.signs.reading import early_only, lines, percent
from fedlens.diagnosis.signs.symptom import ails, misses

SMALL = 2  # pixels: a kernel of 3 x 3 then sees mostly what it is padded with


def maps_shrink_too_early(e: Evidence) -> Finding | None:
    """K4: a network for 224 x 224 pixels on 28 x 28: strides leave a pixel or two long before the end.

    Measured by the sizes of feature maps on one batch. A trial speaks for it where a small network of the doctor's,
    trained on the same pooled examples, comes much further. Healthy: larger maps through the first half.
    """
    size = None if e.learning is None else e.learning.half_way
    if size is None or max(size) > SMALL:
        return None
    pair = behind_a_small_one(e)
    words = "one pixel" if max(size) == 1 else f"{size[0]} x {size[1]} pixels"
    told = f"; trained on pooled data it reaches {percent(pair[0])}, a small one {percent(pair[1])}" if pair else ""
    small = Measured("pooled, against a small network", "M18", percent(pair[0]), percent(pair[1])) if pair else None
    certainty = (
        Certainty.SUPPORTED if pair and not early_only(e) else Certainty.CONSISTENT if ails(e) else Certainty.NOTED
    )
    return Finding(
        "K4",
        certainty,
        f"Half-way through the network feature maps have shrunk to {words}{told}.",
        lines(Measured("feature map half-way", "M14", f"{size[0]} x {size[1]}", "larger"), small),
        "Take out strides of the first layers, use the variant for small images, or a smaller network.",
        also=("K1", "K2"),
        weight=misses(e),
        hides=frozenset({"K1"}) if pair else frozenset(),
    )
