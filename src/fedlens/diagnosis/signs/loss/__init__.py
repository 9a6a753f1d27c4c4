"""Faults of the loss and the head (catalogue H).

Knows: what the loss was given, and what one batch and the first gradient show.
Does not know: how anything was measured.
Offers: SIGNS.
"""

from fedlens.diagnosis.signs.loss.constant import weights_start_alike
from fedlens.diagnosis.signs.loss.detached import loss_has_no_gradient
from fedlens.diagnosis.signs.loss.likelihood import likelihood_of_logits
from fedlens.diagnosis.signs.loss.misfit import one_batch_is_not_learned
from fedlens.diagnosis.signs.loss.proximal import proximal_term_is_wrong
from fedlens.diagnosis.signs.loss.spread import outputs_are_spread
from fedlens.diagnosis.signs.loss.summed import loss_is_a_sum
from fedlens.diagnosis.signs.loss.twice import softmax_comes_twice
from fedlens.diagnosis.signs.loss.unused import declared_term_is_unused

SIGNS = (
    softmax_comes_twice,
    likelihood_of_logits,
    outputs_are_spread,
    loss_is_a_sum,
    weights_start_alike,
    loss_has_no_gradient,
    declared_term_is_unused,
    proximal_term_is_wrong,
    one_batch_is_not_learned,
)

__all__ = ["SIGNS"]
