"""Labels that mean different things (catalogue L).

Knows: what label ranges, relabelling and the head's width show.
Does not know: how anything was measured.
Offers: SIGNS.
"""

from fedlens.diagnosis.signs.labels.head import head_is_too_narrow
from fedlens.diagnosis.signs.labels.maps import label_maps_differ
from fedlens.diagnosis.signs.labels.noise import labels_are_noisy
from fedlens.diagnosis.signs.labels.outside import labels_leave_the_head
from fedlens.diagnosis.signs.labels.paired import labels_leave_their_inputs
from fedlens.diagnosis.signs.labels.trained import labels_are_changed_in_training

SIGNS = (
    label_maps_differ,
    labels_are_noisy,
    labels_leave_their_inputs,
    labels_are_changed_in_training,
    labels_leave_the_head,
    head_is_too_narrow,
)

__all__ = ["SIGNS"]
