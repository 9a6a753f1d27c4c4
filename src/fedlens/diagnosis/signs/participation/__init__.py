"""Faults of who takes part (catalogue S).

Knows: which plans, cohorts and answers leave clients or classes out.
Does not know: how a plan was counted, or what clients hold beyond their classes.
Offers: SIGNS.
"""

from fedlens.diagnosis.signs.participation.biased import participation_is_biased
from fedlens.diagnosis.signs.participation.dropped import answers_are_dropped
from fedlens.diagnosis.signs.participation.noise import cohort_is_too_small
from fedlens.diagnosis.signs.participation.small import cohort_is_smaller
from fedlens.diagnosis.signs.participation.subset import clients_are_the_same

SIGNS = (
    clients_are_the_same,
    cohort_is_smaller,
    participation_is_biased,
    answers_are_dropped,
    cohort_is_too_small,
)

__all__ = ["SIGNS"]
