"""E1, E2, E4, E11: what is reported is measured on something else."""

from __future__ import annotations

from fedlens.diagnosis.evidence import Evaluating, Evidence
from fedlens.diagnosis.finding import Certainty, Finding, Measured
from fedlens.diagnosis.signs.reading import percent, place

KINDS = (  # what the reported values are, its cause, and the words for it
    ("test", "", ""),
    ("none", "E2", "no accuracy of the model on the test data"),
    ("train mode", "N4", "the accuracy in training mode"),
    ("train", "E1", "the accuracy on training data"),
    ("hold", "E1", "the accuracy on clients' own hold-outs"),
    ("validation", "E1", "the accuracy on clients' own hold-outs"),
    ("clients' mean", "E4", "the unweighted mean over clients"),
    ("client", "E2", "the accuracy on one client's data"),
    ("part", "E11", "the accuracy on a part of the test set"),
)

OWN = ("train", "hold", "valid", "local", "client", "mean")  # in the name of a metric of clients' own examples
RANDOM = 0.005  # difference of two evaluations of one model from which on that is a fault of its own


def another_metric_is_reported(e: Evidence) -> Finding | None:
    """E1, E2, E4, E11, N4: the value called accuracy is that of training data, one client, a part, or another mode.

    Measured by M27: the doctor's own accuracies of the same models on everything there is; and by M24, the number of
    examples that the values' steps give away and that evaluate is heard to compare. What the declared metric says it
    is, is no fault.
    """
    v = e.evaluating
    if v is None or not v.reported or not v.measured:
        return None
    cause, words = next(((cause, words) for kind, cause, words in KINDS if v.matches.startswith(kind)), ("", ""))
    counted = v.quantum if e.log is None or e.log.n is None else e.log.n
    if v.matches == "none" and (counted is None or 2 * counted > v.n):  # finer steps than one client's examples give
        cause, words = "E1", "the accuracy on other examples, such as clients' hold-outs"
    if v.matches == "none" and v.altered == 0 and v.steady == 0:
        cause, words = "E2", "another number, such as the best so far"
    if v.matches == "none" and (v.altered or (v.steady > 0 and (counted is None or 2 * counted > v.n))):
        return None  # of the same examples, which chance or the evaluation changes: augmentation, dropout (D9)
    own = v.matches == "none" or cause in ("E1", "E4")
    size = e.facts.declared.test_size
    part = (cause == "E11" or _of_fewer(v)) and size is not None and size == v.quantum
    honest = part or (own and of_clients(e))
    off = max(abs(a - b) for a, b in zip(v.reported, v.measured, strict=False))
    # Where the values are exactly another measurement's, chance has no part in it.
    chance = v.matches == "none" and not _of_fewer(v)
    if not cause or honest or off < (max(0.005, 3 * v.error) if chance else 0.002):
        return None
    quantum = () if v.quantum is None else (Measured("examples behind it", "M24", str(v.quantum), str(v.n)),)
    return Finding(
        cause,
        Certainty.FOUND,
        f"'{v.metric}' is {words}, not the model's on the {v.n} test examples: it says {percent(v.reported[-1])}, the "
        f"model reaches {percent(v.measured[-1])}.",
        (
            Measured(f"'{v.metric}' of the same model", "M27", percent(v.reported[-1]), percent(v.measured[-1])),
            *quantum,
        ),
        "Evaluate the global model on the whole test set in evaluation mode, and print that value under that name.",
        also=("E5", "E7") if v.altered == 0 else ("E1", "P3") if v.matches == "none" else _alike(cause),
        treatment="reference-evaluation",
        where=v.where or place(e, "evaluate"),
        weight=off,
        silent=True,
        hides=frozenset({"E7", "E10"} | (set() if v.steady > RANDOM else {"D9"})),
    )


def _of_fewer(v: Evaluating) -> bool:
    """Whether one evaluation was heard to compare fewer labels than half of the test set, as many as the values' steps
    give away: then it is no matter of chance that they are others than the test set's."""
    compared = [count for count, _ in v.label_sets]
    own = any(word in v.metric.lower() for word in (*OWN, "val"))
    same = bool(compared) and v.steady == 0  # not drawn anew for every evaluation
    return same and not own and v.quantum in (max(compared), sum(compared)) and 2 * sum(compared) <= v.n


def of_clients(e: Evidence) -> bool:
    """Whether the declared metric says that it is of clients' own examples."""
    said = (e.facts.declared.metric or "").lower()
    return any(word in said for word in OWN)


def _alike(cause: str) -> tuple[str, ...]:
    return {"E1": ("P3",), "E2": ("E1",), "E4": ("E1",)}.get(cause, ())
