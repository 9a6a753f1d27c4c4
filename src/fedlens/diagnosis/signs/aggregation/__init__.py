"""Faults of the sum that the server makes (catalogue A).

Knows: which coefficients, grids, names and sizes are faults of an aggregate.
Does not know: how coefficients were measured; whether the sum is the declared mean at all is in signs.mean.
Offers: SIGNS.
"""

from fedlens.diagnosis.signs.aggregation.accumulated import sum_is_carried_over
from fedlens.diagnosis.signs.aggregation.crossed import entries_are_crossed
from fedlens.diagnosis.signs.aggregation.divisor import divisor_is_constant
from fedlens.diagnosis.signs.aggregation.dominant import client_dominates
from fedlens.diagnosis.signs.aggregation.inits import clients_begin_apart
from fedlens.diagnosis.signs.aggregation.partial import entries_are_left_out
from fedlens.diagnosis.signs.aggregation.poisoned import not_a_number_is_accepted
from fedlens.diagnosis.signs.aggregation.step import server_steps_wrongly
from fedlens.diagnosis.signs.aggregation.summed import weights_are_no_mean
from fedlens.diagnosis.signs.aggregation.truncated import sum_is_truncated
from fedlens.diagnosis.signs.aggregation.turned import clients_turn_late
from fedlens.diagnosis.signs.aggregation.unheard import clients_count_for_too_little
from fedlens.diagnosis.signs.aggregation.weighting import weighting_is_another

SIGNS = (
    entries_are_crossed,
    sum_is_truncated,
    weights_are_no_mean,
    entries_are_left_out,
    sum_is_carried_over,
    server_steps_wrongly,
    divisor_is_constant,
    weighting_is_another,
    clients_count_for_too_little,
    clients_begin_apart,
    not_a_number_is_accepted,
    client_dominates,
    clients_turn_late,
)

__all__ = ["SIGNS"]
