"""What a remedy may look at, and the doctor's client in the author's place, which most remedies are."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from fedlens.diagnosis.evidence import Evidence, Facts
from fedlens.diagnosis.finding import Finding
from fedlens.diagnosis.subject.patient import Patient, Subject
from fedlens.diagnosis.trials.client import Client
from fedlens.diagnosis.trials.lend import Change, Ward, admit
from fedlens.diagnosis.trials.own import Make, first_upload
from fedlens.diagnosis.trials.parts import Parts, authors
from fedlens.diagnosis.trials.settings import Assumed
from fedlens.server import Communication


class Case(NamedTuple):
    """What a cure may look at. `value`: what stands behind "=" in the treatment's name, or ""."""

    subject: Subject
    evidence: Evidence
    finding: Finding
    settings: Assumed
    value: str = ""

    @property
    def facts(self) -> Facts:
        """What is known without running anything."""
        return self.evidence.facts

    def number(self, default: float) -> float:
        """The value as a number. Raises ValueError where it is none."""
        return float(self.value) if self.value else default


class Correction(NamedTuple):
    """What is put right at the doctor's clients: local work, data, loss, codec; None or False: nothing."""

    assumed: Assumed | None = None
    change: Change | None = None
    cross_entropy: bool = False
    communication: Communication | None = None

    def admit(self, patient: Patient) -> Ward:
        """The ward of a fresh job with its data and loss put right."""
        return admit(patient, self.change, cross_entropy=self.cross_entropy)


NOTHING = Correction()


def doctors_client(case: Case, put_right: Correction = NOTHING) -> Make:
    """The doctor's clients with the author's server."""

    def make(patient: Patient, seed: int) -> Parts:
        ward, assumed = put_right.admit(case.subject.fresh(seed)), put_right.assumed or case.settings
        fit = Client(ward, case.facts, assumed, first_upload(ward.patient), seed, put_right.communication)
        return dataclasses.replace(authors(patient), fit=fit)

    return make
