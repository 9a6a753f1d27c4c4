"""Remedies of the repair room's own: more of an upload is sent, first weights are drawn anew; and which is usual."""

import pytest
import softmax_job as jobs
import torch
from torch import nn

from fedlens.diagnosis.evidence import Evidence, Round, Visit
from fedlens.diagnosis.finding import Certainty, Finding
from fedlens.diagnosis.repair.mended import mended
from fedlens.diagnosis.repair.remedies import NONE, REMEDIES, with_usual
from fedlens.diagnosis.repair.sending import fraction
from fedlens.diagnosis.repair.starting import afresh
from fedlens.diagnosis.repair.treated import Treated
from fedlens.diagnosis.repair.treatment import case_of, treat
from fedlens.diagnosis.subject.patient import Subject
from fedlens.diagnosis.trials.case import Case
from fedlens.diagnosis.trials.settings import Assumed
from fedlens.local import Local

torch.set_num_threads(1)


def finding(cause: str, treatment: str) -> Finding:
    return Finding(cause, Certainty.FOUND, "", (), "", treatment=treatment)


def seen(job: type, zero: float = 0.0) -> Evidence:
    visits = tuple(Visit(client=client, examples=10, size=0.1, norm=0.1, zero=zero) for client in range(3))
    return Evidence(
        facts=Subject(job, "").fresh().facts(), rounds=(Round(number=1, asked=(0, 1, 2), wanted=(), visits=visits),)
    )


def case(job: type, cause: str, treatment: str, zero: float = 0.0) -> Case:
    return case_of(Subject(job, ""), seen(job, zero), finding(cause, treatment), Assumed(Local(lr=0.2, batch=10)))


def tried(job: type, cause: str, treatment: str, zero: float = 0.0) -> Treated | None:
    return treat(Subject(job, ""), seen(job, zero), finding(cause, treatment), length=12)


def test_as_many_times_the_entries_are_sent_as_the_treatment_says():
    assert fraction(case(jobs.Sparse, "X1", "bytes=10", zero=0.99)) == pytest.approx(0.1)
    assert fraction(case(jobs.Sparse, "X1", "bytes=100", zero=0.99)) is None  # that would be all of it
    assert fraction(case(jobs.Softmax, "X1", "bytes=10", zero=0.0)) is None


def test_sending_more_gives_back_what_sparse_uploads_lose_and_says_how_much_more():
    entries = sum(value.numel() for value in Subject(jobs.Sparse, "").fresh().init.values())
    found = tried(jobs.Sparse, "X1", "bytes=10", zero=1 - 1 / entries)
    assert found is not None and found.verified and found.recovered > 0.8 and found.change.startswith("10 times")


def test_a_mended_sender_declares_what_it_sends():
    changed = mended(case(jobs.Sparse, "X1", "bytes=10", zero=0.99))
    assert changed is not None
    said = changed.fresh().declared
    assert said.codec == "topk:0.1" and said.stateful


class Zeros(jobs.Softmax):
    """Two layers that start at zero: nothing can tell their units apart."""

    rounds = 12

    def model(self) -> nn.Module:
        net = nn.Sequential(nn.Linear(jobs.WIDTH, 16), nn.ReLU(), nn.Linear(16, jobs.CLASSES))
        for value in net.parameters():
            nn.init.zeros_(value)
        return net


def test_weights_drawn_anew_let_a_job_learn_that_began_at_zero():
    found = tried(Zeros, "H7", "")
    assert found is not None and found.finding.treatment == "fresh-start"
    assert found.verified and found.before.mean < 0.5 < 0.8 < found.after.mean and found.recovered > 0.8
    assert found.against == "the reference from weights drawn anew"


def test_the_mended_job_begins_with_weights_drawn_anew():
    changed = mended(case(Zeros, "H7", "fresh-start"))
    assert changed is not None
    patient = changed.fresh(0)
    first = patient.init
    assert all(bool(value.any()) for value in first.values())
    one, other = (patient.fit(0, state, 1).upload.state for state in (first, changed.fresh(1).init))
    assert any(not torch.equal(value, other[name]) for name, value in one.items())  # what is sent is what is trained
    assert any(not torch.equal(value, changed.fresh(1).init[name]) for name, value in first.items())


def test_drawing_anew_leaves_the_given_network_and_global_random_state_alone():
    net = Zeros(0).model()
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    assert all(bool(value.any()) for value in afresh(net, 0).parameters())
    assert torch.equal(torch.rand(2), wanted) and not any(bool(value.any()) for value in net.parameters())


def test_a_cause_without_a_remedy_of_its_own_gets_its_part_replaced_as_a_whole():
    assert with_usual(finding("B7", "")).treatment == "reference-client"
    assert with_usual(finding("A3", "")).treatment == "reference-aggregator"
    assert with_usual(finding("A3", "no-clip")).treatment == "no-clip"
    assert {with_usual(finding(cause, "")).treatment for cause in NONE} == {""}
    usual = {with_usual(finding(cause, "")).treatment for cause in ("H7", "H8", "C2", "A10", "L2", "D2")}
    assert {one.partition("=")[0] for one in usual} <= REMEDIES.keys()
