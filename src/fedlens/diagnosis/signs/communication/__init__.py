"""Faults of what travels (catalogue X).

Knows: which zeros, grids and missing entries are faults of communication.
Does not know: codecs from within, or what the server does with what arrives.
Offers: SIGNS.
"""

from fedlens.diagnosis.signs.communication.coarse import weights_are_rounded
from fedlens.diagnosis.signs.communication.partial import payload_is_partial
from fedlens.diagnosis.signs.communication.sparse import updates_are_sparsified

SIGNS = (payload_is_partial, weights_are_rounded, updates_are_sparsified)

__all__ = ["SIGNS"]
