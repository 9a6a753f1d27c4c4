"""What measured evidence says of the causes of the catalogue: one pure function for each.

Knows: which numbers show which cause, how surely, and which other causes are then mere consequences.
Does not know: how anything was measured, which finding wins on the page, or how a remedy is proven.
Offers: SIGNS, every sign in the order of authority.
"""

from fedlens.diagnosis.finding import Sign
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

__all__ = ["SIGNS"]
