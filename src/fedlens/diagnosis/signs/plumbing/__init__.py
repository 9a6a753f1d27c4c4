"""Faults on the way between server and clients (catalogue B).

Knows: which starts, answers and objects show that models do not get where they should.
Does not know: how clients were watched, or what the sum of their updates is.
Offers: SIGNS.
"""

from fedlens.diagnosis.signs.plumbing.alias import one_object_is_shared
from fedlens.diagnosis.signs.plumbing.altered import upload_is_altered
from fedlens.diagnosis.signs.plumbing.installed import aggregate_is_not_installed
from fedlens.diagnosis.signs.plumbing.kept import server_keeps_an_older_model
from fedlens.diagnosis.signs.plumbing.loading import clients_do_not_load
from fedlens.diagnosis.signs.plumbing.partway import training_is_thrown_away
from fedlens.diagnosis.signs.plumbing.restored import older_model_is_returned
from fedlens.diagnosis.signs.plumbing.returned import trained_model_is_not_returned
from fedlens.diagnosis.signs.plumbing.scaled import updates_are_scaled
from fedlens.diagnosis.signs.plumbing.teachers import teacher_falls_silent, teacher_speaks_of_others

SIGNS = (
    aggregate_is_not_installed,
    server_keeps_an_older_model,
    one_object_is_shared,
    clients_do_not_load,
    trained_model_is_not_returned,
    older_model_is_returned,
    upload_is_altered,
    updates_are_scaled,
    training_is_thrown_away,
    teacher_speaks_of_others,
    teacher_falls_silent,
)

__all__ = ["SIGNS"]
