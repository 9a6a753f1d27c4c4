"""Beside which faults it is still asked what labels mean."""

import pytest
from evidence_of import job

from fedlens.diagnosis import Certainty, Finding, examination
from fedlens.diagnosis.subject.patient import Subject


def broken(monkeypatch: pytest.MonkeyPatch, cause: str, certainty: Certainty = Certainty.FOUND, **more: object) -> bool:
    """Whether examples count as broken where `cause` alone is known."""
    said = Finding(cause, certainty, "It is so.", (), "Mend it.", **more)  # type: ignore[arg-type]
    monkeypatch.setattr(examination, "read", lambda e: ([said], []))
    x = examination.Examination(Subject(lambda: None, "nobody"), lambda stage: None, job())
    return x.examples_are_broken


@pytest.mark.parametrize("cause", ["D7", "D8", "D1", "A1"])
def test_steps_order_and_a_few_other_pipelines_leave_labels_to_be_judged(
    monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    assert not broken(monkeypatch, cause)


@pytest.mark.parametrize("cause", ["L1", "L3", "D2", "D3"])
def test_wrong_labels_and_inputs_of_all_leave_nothing_to_judge_by(monkeypatch: pytest.MonkeyPatch, cause: str) -> None:
    assert broken(monkeypatch, cause) and not broken(monkeypatch, cause, Certainty.SUPPORTED)
