"""L4: a head of another width than there are classes."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured


def head_is_too_narrow(e: Evidence) -> Finding | None:
    """L4: the network has another number of outputs than there are classes.

    Measured on one batch; more outputs than classes are wasteful and harmless, fewer cannot be right unless the number
    of classes is, and no label reaches beyond them.
    """
    width = None if e.learning is None else e.learning.outputs
    if width is None or not e.facts.classes or width == e.facts.classes or width == 1:
        return None
    high = None if e.data is None else e.data.high
    narrow = width < e.facts.classes and (high is None or high >= width)
    return Finding(
        "L4",
        Certainty.FOUND if narrow else Certainty.NOTED,
        f"The head has {width} outputs for {e.facts.classes} classes.",
        (Measured("outputs", "M14", str(width), str(e.facts.classes)),),
        "Give the head one output for each class of the whole federation, also where a client lacks some.",
        weight=0.5,
    )
