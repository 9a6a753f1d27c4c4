"""Repairs on top of each other: what is proven is kept, the changed job is examined, and what it shows is next."""

import copy

import pytest
import softmax_job as jobs
import torch

from fedlens.diagnosis.doctor import Diagnosis, diagnose
from fedlens.diagnosis.evidence import Evidence
from fedlens.diagnosis.finding import Certainty, Finding
from fedlens.diagnosis.job import Declared
from fedlens.diagnosis.repair.mended import mended
from fedlens.diagnosis.repair.treatment import case_of
from fedlens.diagnosis.subject.patient import Subject
from fedlens.diagnosis.trials.settings import Assumed
from fedlens.local import Local

torch.set_num_threads(1)


class SlowAndSumming(jobs.Slow):
    """The server adds up, and the local rate is ten thousand times too low."""

    rounds = 6

    def aggregate(self, current, uploads, round):
        return {name: sum(state[name] for state, _ in uploads) for name in current}


def changed(job: type, treatment: str, **about: object) -> Subject:
    subject = Subject(job, job.__name__)
    evidence = Evidence(facts=subject.fresh().facts())
    finding = Finding("A1", Certainty.FOUND, "", (), "", treatment=treatment, **about)
    found = mended(case_of(subject, evidence, finding, Assumed(Local(lr=0.2, batch=10))))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def told() -> Diagnosis:
    """Examined, and repaired until nothing is found."""
    return diagnose(Subject(SlowAndSumming, "two faults"), fix=True)


def test_after_one_repair_the_next_fault_surfaces_and_is_repaired(told):
    first, second = told.treatments
    assert first.further and first.finding.cause not in {one.cause for one in first.further}
    assert second.finding.cause in {one.cause for one in first.further}
    assert second.verified and second.after.mean > 0.85 > first.after.mean
    assert first.further[0].says in first.remains


def test_a_job_whose_faults_are_repaired_has_none(told):
    last = told.treatments[-1]
    assert last.further == () and "no fault" in last.remains
    assert "not found in the changed job" in told.treatments[0].says and "All changes together" in last.says
    assert told.as_dict()["treatments"][0]["remains"]


def rounds(subject: Subject, count: int) -> dict[str, torch.Tensor]:
    patient = subject.fresh()
    state = patient.init
    for number in range(1, count + 1):
        sent = [patient.fit(client, state, number) for client in patient.sample(number)]
        state = patient.aggregate(state, sent, number)
    return state


def test_a_mended_job_is_the_authors_with_one_part_of_the_doctors():
    one, healthy = rounds(changed(jobs.Careful, "reference-aggregator"), 3), rounds(Subject(jobs.Softmax, ""), 3)
    for name, value in healthy.items():
        torch.testing.assert_close(one[name], value, rtol=1e-5, atol=1e-6)
    broken = rounds(Subject(jobs.Careful, ""), 3)
    assert any(not torch.allclose(broken[name], value, atol=1e-3) for name, value in healthy.items())


def test_lines_are_told_of_the_authors_parts_alone():
    where = changed(jobs.Careful, "reference-aggregator").fresh().facts().where
    assert where["aggregate"] == "" and "softmax_job.py" in where["fit"] and "softmax_job.py" in where["sample"]


def test_a_copy_of_a_mended_job_shares_nothing_with_it():
    subject = changed(jobs.NeverLoads, "reference-aggregator")
    made = subject.make(seed=0)
    other = copy.deepcopy(made)
    made.fit(0, made.init(), 1)
    trained, still, first = (one.nets[0][0].weight for one in (made.patient.job, other.patient.job, jobs.NeverLoads(0)))
    assert torch.equal(still, first) and not torch.equal(trained, first)


def test_a_mended_job_says_what_its_remedy_sets():
    def said(job: type, treatment: str, **about: object) -> Declared:
        return changed(job, treatment, **about).fresh().declared

    assert said(jobs.Slow, "rate=0.1").lr == 0.1
    assert said(jobs.Bounded, "no-clip").dp == {} and said(jobs.Bounded, "clip=0.5").dp == {"clip": 0.5}
    assert not said(jobs.Bounded, "clip=median").plain_server
    assert said(jobs.Softmax, "server-momentum=0.5").server_momentum == 0.5


def test_clients_that_are_left_out_are_not_in_the_mended_job():
    patient = changed(jobs.Renamed, "drop-clients", clients=jobs.Renamed.bad).fresh()
    kept = [client for client in range(jobs.Renamed.clients) if client not in jobs.Renamed.bad]
    assert patient.clients == len(kept)
    whole = jobs.Renamed(0)
    for place, client in enumerate(kept):
        assert torch.equal(patient.train_data(place)[1], whole.data[client][1])
    assert all(0 <= client < len(kept) for number in range(1, 6) for client in patient.sample(number))
