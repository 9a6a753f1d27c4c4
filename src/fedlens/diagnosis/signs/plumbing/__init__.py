"""Faults on the way between server and clients (catalogue B).

Knows: which starts, answers and objects show that models do not get where they should.
Does not know: how clients were watched, or what the sum of their updates is.
Offers: SIGNS.
"""

from fedlens.diagnosis.signs.plumbing.alias import one_object_is_shared
from fedlens.diagnosis.signs.plumbing.altered import upload_is_altered
from fedlens.diagnosis.signs.plumbing.installed import aggregate_is_not_installed
from fedlens.diagnosis.signs.plumbing.loading import clients_do_not_load
from fedlens.diagnosis.signs.plumbing.restored import older_model_is_returned
from fedlens.diagnosis.signs.plumbing.returned import trained_model_is_not_returned
from fedlens.diagnosis.signs.plumbing.teachers import teacher_falls_silent, teacher_speaks_of_others

SIGNS = (
    aggregate_is_not_installed,
    one_object_is_shared,
    clients_do_not_load,
    trained_model_is_not_returned,
    older_model_is_returned,
    upload_is_altered,
    teacher_speaks_of_others,
    teacher_falls_silent,
)

__all__ = ["SIGNS"]
