"""Faults of how data is dealt, and honest skew (catalogue P).

Knows: what counts, copies and an IID re-deal show.
Does not know: how anything was measured.
Offers: SIGNS.
"""

from fedlens.diagnosis.signs.partition.cut import hold_out_is_cut_from_sorted_examples
from fedlens.diagnosis.signs.partition.overlap import examples_are_dealt_twice
from fedlens.diagnosis.signs.partition.skew import labels_are_skewed
from fedlens.diagnosis.signs.partition.tiny import clients_are_empty

SIGNS = (
    labels_are_skewed,
    examples_are_dealt_twice,
    clients_are_empty,
    hold_out_is_cut_from_sorted_examples,
)

__all__ = ["SIGNS"]
