"""Faults of noise and bounds (catalogue V).

Knows: how much noise rounds bear, and which bounds and noises protect nothing.
Does not know: budgets and their accounting, or how noise was measured.
Offers: SIGNS.
"""

from fedlens.diagnosis.signs.privacy.buffers import noise_is_on_buffers
from fedlens.diagnosis.signs.privacy.clip import updates_are_clipped
from fedlens.diagnosis.signs.privacy.noise import noise_drowns_updates
from fedlens.diagnosis.signs.privacy.sensitivity import noise_without_clip

SIGNS = (noise_is_on_buffers, updates_are_clipped, noise_drowns_updates, noise_without_clip)

__all__ = ["SIGNS"]
