"""Which treatment is tried for a cause: where its finding names none, where its own fails, where it names several."""

from __future__ import annotations

from dataclasses import replace

from fedlens.diagnosis.finding import Finding

USUAL = {  # causes whose finding names no treatment, and the part that is replaced
    **dict.fromkeys(("H5", "H6", "B5", "B6", "O4", "O5", "O8", "D7", "S5"), "reference-client"),
    "H4": "loss=cross-entropy",
    "L3": "relabel",
    "L2": "drop-clients",
    "C3": "mu=0",
    "D2": "rescale",
    **dict.fromkeys(("D9", "E3", "E9", "E10", "P3"), "reference-evaluation"),
}
WHOLE = {  # beginnings of causes, and whose part is replaced as a whole where the finding's own treatment fails
    **dict.fromkeys(("B", "H", "O", "D", "N6"), "reference-client"),
    **dict.fromkeys(("A", "B2", "N"), "reference-aggregator"),
}
MOMENTUM = tuple(f"server-momentum=0.9,{rate}" for rate in (1, 0.3, 0.1))  # and the server's rate
CHOICES = {  # treatments of which none helps everywhere: the one ahead on a seed apart is proven
    "server-momentum=0.9": (*MOMENTUM, "fedadam=0.01"),
}


def with_usual(finding: Finding) -> Finding:
    """`finding` with the treatment that is usual for its cause, where it names none."""
    return finding if finding.treatment else replace(finding, treatment=USUAL.get(finding.cause, ""))


def wholesale(finding: Finding) -> Finding | None:
    """`finding` with all of its author's part replaced; None where that is its treatment, or nobody's part is it."""
    known = sorted((cause for cause in WHOLE if finding.cause.startswith(cause)), key=len)
    treatment = WHOLE[known[-1]] if known else ""
    return replace(finding, treatment=treatment) if treatment not in ("", finding.treatment) else None
