"""What measured evidence says of the causes of the catalogue: one pure function for each.

Knows: which numbers show which cause, how surely, and which other causes are then mere consequences.
Does not know: how anything was measured, which finding wins on the page, or how a remedy is proven.
Offers: SIGNS, every sign in the order of authority; read, what they say of evidence.
"""

from collections.abc import Sequence

from fedlens.diagnosis.evidence import Evidence, Unexamined
from fedlens.diagnosis.finding import Finding, Sign
from fedlens.diagnosis.signs import (
    aggregation,
    capacity,
    communication,
    data,
    drift,
    evaluation,
    labels,
    loss,
    normalisation,
    optimisation,
    participation,
    partition,
    plumbing,
    privacy,
)
from fedlens.diagnosis.signs.beside import unhidden
from fedlens.diagnosis.signs.few import named
from fedlens.diagnosis.signs.places import placed

# What is exact comes first, and among that what breaks everything after it.
SIGNS: tuple[Sign, ...] = (
    *plumbing.SIGNS,
    *aggregation.SIGNS,
    *communication.SIGNS,
    *privacy.SIGNS,
    *normalisation.SIGNS,
    *labels.SIGNS,
    *loss.SIGNS,
    *data.SIGNS,
    *participation.SIGNS,
    *evaluation.SIGNS,
    *partition.SIGNS,
    *optimisation.SIGNS,
    *capacity.SIGNS,
    *drift.SIGNS,
)


def read(e: Evidence, signs: Sequence[Sign] = SIGNS) -> tuple[list[Finding], list[Unexamined]]:
    """What `signs` say of `e`, and which could not be read: one that stumbles over odd evidence silences no other."""
    found, failed = [], []
    for sign in signs:
        try:
            said = sign(e)
        except Exception as error:
            failed.append(Unexamined(f"the sign {sign.__name__}", f"{type(error).__name__}: {error}"))
        else:
            found += [] if said is None else [placed(e, named(e, said))]
    return unhidden(e, found), failed


__all__ = ["SIGNS", "read"]
