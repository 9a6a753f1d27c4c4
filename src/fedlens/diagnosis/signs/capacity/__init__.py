"""A network that cannot, or need not, do better (catalogue K).

Knows: what pooled training, dead units and map sizes show.
Does not know: how anything was measured.
Offers: SIGNS.
"""

from fedlens.diagnosis.signs.capacity.dead import units_are_dead
from fedlens.diagnosis.signs.capacity.stride import maps_shrink_too_early
from fedlens.diagnosis.signs.capacity.weak import model_is_too_weak

SIGNS = (
    model_is_too_weak,
    units_are_dead,
    maps_shrink_too_early,
)

__all__ = ["SIGNS"]
