"""Drift between means, and corrections of it (catalogue C).

Knows: which trials and early updates show that clients go apart, or that a correction does harm.
Does not know: what the clients' data are, or the rest of the optimisation.
Offers: SIGNS.
"""

from fedlens.diagnosis.signs.drift.controls import correction_is_wrong
from fedlens.diagnosis.signs.drift.glued import proximal_term_holds
from fedlens.diagnosis.signs.drift.steps import clients_drift
from fedlens.diagnosis.signs.drift.turned import correction_is_turned

SIGNS = (correction_is_turned, correction_is_wrong, clients_drift, proximal_term_holds)

__all__ = ["SIGNS"]
