"""N1: running statistics are not averaged."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import (
    listed,
    lost,
    percent,
    place,
    rounds_watched,
    statistics,
    statistics_gap,
    underperforms,
    visits,
)

LEFT = ("kept", "one", "missing", "sum")
SAME = 2e-3  # accuracy to which two evaluations of one model agree
APART = 0.1  # accuracy between batch and running statistics that no healthy model shows


def statistics_are_not_averaged(e: Evidence) -> Finding | None:
    """N1: the model's running statistics stay those of round 0, or are one client's, while its weights are averaged.

    Measured by M05, what becomes of each buffer, and by M27 in both modes. Healthy: all statistics are the weighted
    mean of the clients'. Statistics declared local, or that clients do not move, are no fault of the server.
    """
    names, fates = statistics(e), _fates(e)
    left = [name for name in names if fates.get(name) in LEFT]
    if not names:
        return _never_sent(e)
    moving = not e.rounds or any(v.watched.updating is not False for v in visits(e))
    if not left or not moving or e.facts.declared.reduce != "mean":
        return None
    gap = statistics_gap(e)
    fate = fates[left[0]]
    how = {"one": "one client's", "kept": "those of the start", "missing": "missing", "sum": "a sum"}[fate]
    lines = [Measured("running statistics that are averaged", "M05", _of(names, left), _of(names, []))]
    if gap is not None:
        told = f"{percent(gap)} apart"
        lines.append(Measured("accuracy with batch statistics against running ones", "M27", told, "about 0"))
    withheld = [name for name in left if any(name in v.missing for v in visits(e))]
    unmoved = not withheld and _sent_as_received(e, left)
    says = f"{len(left)} of {len(names)} running statistics are never averaged ({listed(left, 2)}): they are {how}."
    if unmoved:
        says = (
            f"{len(left)} of {len(names)} running statistics come back from clients as they went ({listed(left, 2)}), "
            "though training moves them: the server, which averages them, has nothing new."
        )
    return Finding(
        "N1",
        Certainty.FOUND,
        says,
        tuple(lines),
        "Send the statistics as training leaves them, in full precision."
        if unmoved
        else "Average the statistics with the parameters (copy whole numbers), or declare them local and evaluate so.",
        source="Hsieh et al. 2020; Li et al. 2021 (FedBN)",
        also=("A4", "X4") if withheld else ("X2", "X4", "N5") if unmoved else ("A4",),
        treatment="reference-client" if withheld or unmoved else "mean-buffers",
        where=place(e, "fit" if withheld or unmoved else "aggregate"),
        weight=max(0.15, lost(e), gap or 0.0),
        hides=frozenset({"N2", "N3", "X4", "E10", "P1", "C1", "K1", "O1", "O7", "O2", "S4"}),
    )


def _sent_as_received(e: Evidence, left: list[str]) -> bool:
    """Whether the server averages `left` where they differ, as made-up uploads show: then clients send nothing new of
    them, rounded to few digits or taken from the model that they received."""
    made_up = {} if e.aggregation is None else e.aggregation.fates
    return _fates(e)[left[0]] == "kept" and all(made_up.get(name) in ("mean", "uniform") for name in left)


def _fates(e: Evidence) -> dict[str, str]:
    """Of each entry: what every round with several clients shows of statistics that move, else made-up uploads."""
    found: dict[str, str] = dict(e.aggregation.fates) if e.aggregation is not None else {}
    several = [one for one in rounds_watched(e) if len(one.visits) > 1 and one.moved]
    if not any(v.watched.updating for one in several for v in one.visits):
        return found
    always = {name for name in several[-1].fates if all(one.fates.get(name) in LEFT for one in several)}
    return found | {name: several[-1].fates[name] for name in always}


def _of(names: tuple[str, ...], left: list[str]) -> str:
    return f"{len(names) - len(left)} of {len(names)}"


def _told_as_examined(e: Evidence) -> bool:
    """Whether the author's own evaluation runs with the statistics of the start too: it reports, in every round that
    the doctor examined, just what such a network reaches."""
    pairs = [(one.exam.accuracy, one.reported) for one in e.rounds if one.exam is not None]
    return len(pairs) > 1 and all(
        any(abs(value / scale - accuracy) < SAME for value in reported.values() for scale in (1.0, 100.0))
        for accuracy, reported in pairs
    )


def _never_sent(e: Evidence) -> Finding | None:
    """States hold parameters only, though the network has batch norm: its statistics stay where they are."""
    layers = sum(count for kind, count in (e.facts.norms or {}).items() if "BatchNorm" in kind)
    gap = statistics_gap(e)
    said = e.facts.declared
    told = _told_as_examined(e)
    if not layers or gap is None or gap < APART or said.local_entries or not (told or underperforms(e)):
        return None
    return Finding(
        "N1",
        Certainty.FOUND if told else Certainty.CONSISTENT,
        f"States hold no running statistics, but the network has {layers} batch norm layers: with batch statistics it "
        f"is {percent(gap)} better.",
        (Measured("accuracy with batch statistics against running ones", "M27", percent(gap), "about 0"),),
        "Send the whole state_dict, not parameters() alone.",
        source="catalogue",
        also=("A4", "X4"),
        where=place(e, "fit"),
        weight=max(gap, lost(e)),
        hides=frozenset({"N2"}),
    )
