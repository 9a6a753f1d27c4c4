"""Where in the author's code a cause stands: who made the data, who wrote the number, who does the stage's work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Finding
from fedlens.diagnosis.signs.reading import place

INPUTS = frozenset({"D1", "D3"})
LABELS = frozenset({"D5", "L1", "L2"})
DEALT = frozenset({"D6", "P2", "P4"})
OF_DATA = INPUTS | LABELS | DEALT | {"L3"}
# What else has no place of its own: the stage that the cause is a matter of.
STAGES = {
    "A": "aggregate",
    "B": "fit",
    "C": "fit",
    "D": "fit",
    "E": "evaluate",
    "H": "fit",
    "K": "model",
    "N": "model",
    "O": "fit",
    "S": "sample",
    "V": "aggregate",
    "X": "fit",
}
# What is a matter of a part of a client's work, where somebody does that part alone.
CLOSER = {"B1": "load", "A11": "load", "O3": "optimizer", "O4": "optimizer"}
OF_MODEL = frozenset({"L4", "H7"})
NOWHERE = frozenset({"P1", "C1", "E7", "O7", "S4", "N2"})  # no line of code is wrong


def placed(e: Evidence, finding: Finding) -> Finding:
    """`finding` with the line of the author's code that it is about, as far as that is known."""
    closer = place(e, CLOSER.get(finding.cause, "")) if finding.where == place(e, "fit") else ""
    where = closer or _of_data(e, finding) or _of_number(e, finding) or finding.where or _of_stage(e, finding.cause)
    return finding if where == finding.where else replace(finding, where=where)


def _of_data(e: Evidence, finding: Finding) -> str:
    """Who made the data, where it is they that are at fault."""
    o, cause = e.origins, finding.cause
    if o is None:
        return ""
    if cause in INPUTS or (cause == "A10" and "D1" in finding.also):
        return _made(o.inputs, finding.clients)
    if (cause in LABELS and not finding.where) or (cause == "L3" and _stand_in_data(e)):
        whole = cause == "L1" and not finding.clients
        return (o.test_labels if whole else "") or _made(o.labels, finding.clients)
    if cause in DEALT:
        return o.dealt or _made(o.inputs, finding.clients)
    return o.test_inputs if cause == "D2" else ""


def _made(by_client: Mapping[int, str], clients: Iterable[int]) -> str:
    """Who made most of the clients' data; of all of them where none is named or known."""
    some = [where for client in clients if (where := by_client.get(client))]
    count = Counter(some or filter(None, by_client.values()))
    return count.most_common(1)[0][0] if count else ""


def _stand_in_data(e: Evidence) -> bool:
    """Whether labels are out of range before any training."""
    if e.data is None:
        return False
    width = (e.learning.outputs if e.learning is not None else None) or e.facts.classes
    high = e.data.high is not None and width is not None and e.data.high >= max(2, width)
    return e.data.malformed > 0 or (e.data.low or 0) < 0 or high


def _of_number(e: Evidence, finding: Finding) -> str:
    """Where a setting is written that is wrong as a number."""
    said = e.facts.declared
    if finding.cause in ("O1", "O2") and e.trials is not None:
        return written(e, "lr", e.trials.rate)
    if finding.cause == "V1" and said.dp.get("noise"):
        return written(e, "noise", said.dp["noise"])
    if finding.cause in ("V2", "V4") and said.dp.get("clip"):
        return written(e, "clip", said.dp["clip"])
    return written(e, "mu", said.mu) if finding.cause == "C3" else ""


def written(e: Evidence, name: str, value: float | None) -> str:
    """The likeliest file:line where the number `name` is written as `value`; ""."""
    numbers = e.origins.numbers if e.origins is not None and value is not None else ()
    return next((one.where for one in numbers if one.name == name and _equal(one.value, value or 0.0)), "")


def _equal(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-6 * max(abs(one), abs(other))


def _of_stage(e: Evidence, cause: str) -> str:
    if cause in NOWHERE:
        return ""
    return place(e, "model") if cause in OF_MODEL else place(e, STAGES.get(cause[0], ""))
