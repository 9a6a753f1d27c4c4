"""L4: a head of another width than there are classes."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.labels.refused import refused
from fedlens.diagnosis.signs.reading import listed


def head_is_too_narrow(e: Evidence) -> Finding | None:
    """L4: the network has another number of outputs than there are classes.

    Measured on one batch, or by a loss that refuses the label of a class; more outputs than classes are wasteful and
    harmless, fewer cannot be right unless the number of classes is, and no label reaches beyond them.
    """
    width, classes = None if e.learning is None else e.learning.outputs, e.facts.classes
    lacking = tuple(sorted({one.label for one in refused(e)} & set(range(classes or 0))))
    if width is None and lacking and classes:
        return _narrow(f"fewer than {lacking[0] + 1}", classes, (), lacking)
    if width is None or not classes or width == classes or width == 1:
        return None
    if lacks_classes(e):
        return _narrow(str(width), classes, _holders(e, width), tuple(range(width, classes)))
    return Finding(
        "L4",
        Certainty.NOTED,
        f"The head has {width} outputs for {classes} classes.",
        (Measured("outputs", "M14", str(width), str(classes)),),
        "Give the head one output for each class of the whole federation, also where a client lacks some.",
        weight=0.5,
    )


def lacks_classes(e: Evidence) -> bool:
    """Whether the head has fewer outputs than there are classes, and labels of such classes exist, or may."""
    width = None if e.learning is None else e.learning.outputs
    if width is None or not e.facts.classes or not 1 < width < e.facts.classes:
        return False
    return e.data is None or e.data.high is None or e.data.high >= width


def _holders(e: Evidence, width: int) -> tuple[int, ...]:
    """Clients with examples of classes that have no output."""
    return () if e.data is None else tuple(c for c, counts in e.data.counts.items() if any(counts[width:]))


def _narrow(outputs: str, classes: int, holders: tuple[int, ...], lacking: tuple[int, ...]) -> Finding:
    who = f", which {len(holders)} clients hold ({listed(holders)})" if holders else ""
    beyond = f": none for labels {listed(lacking)}{who}"
    return Finding(
        "L4",
        Certainty.FOUND,
        f"The head has {outputs} outputs for {classes} classes{beyond}.",
        (Measured("outputs", "M14", outputs, str(classes)),),
        "Give the head one output for each class of the whole federation, also where a client lacks some.",
        also=("L3",),
        weight=0.5,
        hides=frozenset({"S5", "D5", "P1", "K1", "O1"}),
    )
