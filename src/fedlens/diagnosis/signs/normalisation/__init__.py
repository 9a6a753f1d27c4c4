"""Faults of norm layers and their buffers (catalogue N).

Knows: what the fates, modes and types of buffers, and trials of other norm layers, show.
Does not know: how buffers were followed, or what becomes of parameters.
Offers: SIGNS.
"""

from fedlens.diagnosis.signs.normalisation.apart import groups_of_one_channel
from fedlens.diagnosis.signs.normalisation.counters import buffers_are_cast
from fedlens.diagnosis.signs.normalisation.frozen import trained_in_evaluation_mode
from fedlens.diagnosis.signs.normalisation.ignored import declared_entries_do_not_exist
from fedlens.diagnosis.signs.normalisation.mode import evaluated_in_training_mode
from fedlens.diagnosis.signs.normalisation.skewed import batch_norm_suffers
from fedlens.diagnosis.signs.normalisation.stepped import statistics_are_stepped
from fedlens.diagnosis.signs.normalisation.unaggregated import statistics_are_not_averaged

SIGNS = (
    statistics_are_stepped,
    statistics_are_not_averaged,
    trained_in_evaluation_mode,
    buffers_are_cast,
    evaluated_in_training_mode,
    batch_norm_suffers,
    declared_entries_do_not_exist,
    groups_of_one_channel,
)

__all__ = ["SIGNS"]
