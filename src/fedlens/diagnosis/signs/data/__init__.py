"""Faults of the examples themselves (catalogue D).

Knows: what input statistics, order and copies of examples show.
Does not know: how anything was measured.
Offers: SIGNS.
"""

from fedlens.diagnosis.signs.data.leakage import examples_are_copied
from fedlens.diagnosis.signs.data.mismatch import evaluation_prepares_otherwise
from fedlens.diagnosis.signs.data.order import order_is_kept
from fedlens.diagnosis.signs.data.pipelines import pipelines_differ
from fedlens.diagnosis.signs.data.scale import inputs_are_raw
from fedlens.diagnosis.signs.data.signal import labels_are_independent
from fedlens.diagnosis.signs.data.steps import clients_take_no_step

SIGNS = (
    inputs_are_raw,
    pipelines_differ,
    evaluation_prepares_otherwise,
    labels_are_independent,
    examples_are_copied,
    clients_take_no_step,
    order_is_kept,
)

__all__ = ["SIGNS"]
