"""A remedy for uploads that say too little: more of each is sent, and nothing that is left out is lost."""

from __future__ import annotations

import dataclasses
import statistics

from fedlens.diagnosis.trials.case import Case, Correction, doctors_client
from fedlens.diagnosis.trials.own import Make
from fedlens.diagnosis.trials.parts import Mean
from fedlens.server import Communication, TopK

WHOLE = 0.9  # share of entries from which on an upload is not sparse


def sends_more(case: Case) -> Make | None:
    """As many times the entries of an upload as the treatment's value says, with error feedback; None where uploads
    are not sparse. Of entries that are not among those sent the upload holds zeros."""
    sent = fraction(case)
    if sent is None:
        return None
    clients = doctors_client(case, Correction(communication=Communication(up=TopK(fraction=sent))))
    return lambda patient, seed: dataclasses.replace(clients(patient, seed), aggregate=Mean(case.facts))


def fraction(case: Case) -> float | None:
    """The share of entries to send; None where uploads are not sparse, or are sent whole at fewer times as many."""
    zeros = [visit.zero for one in case.evidence.rounds for visit in one.visits if visit.zero > 0]
    kept = 1 - statistics.median(zeros) if zeros else 1.0
    more = kept * case.number(1.0)
    return None if kept >= WHOLE or more >= 1 else max(more, 1e-4)
