"""Faults of the local step (catalogue O).

Knows: what rates, steps, and trials of other rates show.
Does not know: how anything was measured.
Offers: SIGNS.
"""

from fedlens.diagnosis.signs.optimisation.budget import budget_is_too_small
from fedlens.diagnosis.signs.optimisation.clipped import gradients_are_clipped
from fedlens.diagnosis.signs.optimisation.drifts import rate_drifts
from fedlens.diagnosis.signs.optimisation.frozen import parameters_stand_still
from fedlens.diagnosis.signs.optimisation.large import rate_is_too_large
from fedlens.diagnosis.signs.optimisation.small import rate_is_too_small
from fedlens.diagnosis.signs.optimisation.state import optimizer_state
from fedlens.diagnosis.signs.optimisation.unequal import steps_are_unequal
from fedlens.diagnosis.signs.optimisation.ways import few_train_otherwise

SIGNS = (
    rate_is_too_small,
    rate_is_too_large,
    rate_drifts,
    few_train_otherwise,
    optimizer_state,
    gradients_are_clipped,
    budget_is_too_small,
    parameters_stand_still,
    steps_are_unequal,
)

__all__ = ["SIGNS"]
