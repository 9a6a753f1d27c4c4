"""What is reported is not what is said (catalogue E).

Knows: what reported values equal, and what a log alone gives away.
Does not know: how anything was measured.
Offers: SIGNS.
"""

from fedlens.diagnosis.signs.evaluation.constant import one_class_is_answered
from fedlens.diagnosis.signs.evaluation.digits import digits_are_made_up
from fedlens.diagnosis.signs.evaluation.flat import the_same_is_reported
from fedlens.diagnosis.signs.evaluation.loss import loss_is_divided_wrongly
from fedlens.diagnosis.signs.evaluation.other import another_metric_is_reported
from fedlens.diagnosis.signs.evaluation.scale import a_count_is_reported
from fedlens.diagnosis.signs.evaluation.single import one_round_is_quoted
from fedlens.diagnosis.signs.evaluation.size import logged_of_fewer_examples, reported_of_training_data
from fedlens.diagnosis.signs.evaluation.unsteady import evaluation_is_random

SIGNS = (
    another_metric_is_reported,
    the_same_is_reported,
    loss_is_divided_wrongly,
    a_count_is_reported,
    one_class_is_answered,
    logged_of_fewer_examples,
    reported_of_training_data,
    digits_are_made_up,
    evaluation_is_random,
    one_round_is_quoted,
)

__all__ = ["SIGNS"]
