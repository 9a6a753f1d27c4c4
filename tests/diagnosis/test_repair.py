"""Repairs on top of each other: what is proven is kept, the changed job is examined, and what it shows is next."""

import copy
import math
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import softmax_job as jobs
import torch
from torch import nn

from fedlens.diagnosis.doctor import Diagnosis, diagnose
from fedlens.diagnosis.evidence import Evidence, Outcome
from fedlens.diagnosis.examination import Examination, begun
from fedlens.diagnosis.finding import Certainty, Finding
from fedlens.diagnosis.job import Declared
from fedlens.diagnosis.repair import chain
from fedlens.diagnosis.repair.chain import GONE, LESS, STANDS, UNSEEN, repaired
from fedlens.diagnosis.repair.health import Side
from fedlens.diagnosis.repair.mended import mended
from fedlens.diagnosis.repair.treated import Treated
from fedlens.diagnosis.repair.treatment import BLIND, case_of
from fedlens.diagnosis.stages import examine
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


def test_of_two_faults_both_are_named_and_the_next_is_repaired_on_top_of_the_one_that_gains_alone(told):
    assert [one.cause for one in told.suspects] == ["A1", "O1"]
    alone, first, second = told.treatments
    assert alone.finding.cause == "A1" and not alone.verified  # at such a rate no sum shows
    assert first.finding.cause == "O1" and first.verified and first.after.mean > 0.85 > first.before.mean
    assert [one.cause for one in first.further] == ["A1"] and first.further[0].says in first.remains
    assert second.finding.cause == "A1" and second.verified and second.after.mean > second.before.mean


def test_a_job_whose_faults_are_repaired_has_none(told):
    last = told.treatments[-1]
    assert last.further == () and "no fault" in last.remains
    assert "not found in the changed job" in last.says and "All changes together" in last.says
    assert told.as_dict()["treatments"][-1]["remains"]


def rounds(subject: Subject, count: int) -> dict[str, torch.Tensor]:
    patient = subject.fresh()
    state = patient.init
    for number in range(1, count + 1):
        sent = [patient.fit(client, state, number) for client in patient.sample(number)]
        state = patient.aggregate(state, sent, number)
    return state


class FirstOnly(jobs.FirstOnly):
    """The first upload alone, in few rounds."""

    rounds = 6


def examined(job: type) -> Examination:
    x = begun(Subject(job, job.__name__), lambda part: None)
    examine(x)
    return x


@pytest.fixture(scope="module")
def first_only() -> Examination:
    return examined(FirstOnly)


def test_what_was_broken_must_be_seen_to_be_gone(first_only):
    def fails(changed: Subject) -> Examination:
        raise RuntimeError("no luck")

    (one,) = repaired(first_only, fails)[:1]
    assert one.interval[0] > 0 and one.finding.certainty is Certainty.FOUND
    assert not one.verified and UNSEEN in one.says
    assert any(what.startswith("examination with A") for what, _ in first_only.evidence.unexamined)


def test_what_stands_in_the_changed_job_is_not_mended(first_only):
    (one,) = repaired(first_only, lambda changed: first_only)[:1]
    assert one.interval[0] > 0 and not one.verified and STANDS in one.says


def test_a_fault_that_costs_nothing_here_is_proven_by_what_was_broken_alone(first_only):
    about, same = Finding("D8", Certainty.FOUND, "", (), "", treatment="shuffle"), Outcome((0.89, 0.9, 0.91), 6, 0.5)
    gain = (-0.01, 0.01)
    one = Treated(about, same, same, 0.9, "the reference", math.nan, gain, False, "", "")  # nothing was lost or gained
    sound = SimpleNamespace(findings=list, evidence=first_only.evidence)
    kept = chain._seen(one, sound)
    assert kept.verified and GONE in kept.says and LESS in kept.says
    spoiled = replace(one, beside=(Side("worst client", 0.9, 0.1, 0.01, worse=True),))
    lower = replace(one, after=Outcome((0.79, 0.8, 0.81), 6, 0.5))
    by_chance = replace(one, before=(low := Outcome((0.1,) * 3, 6, 0.5)), after=low, reference=0.1)
    for other in (spoiled, lower, by_chance):
        assert not chain._seen(other, sound).verified


def test_a_healthy_job_is_treated_with_nothing(monkeypatch):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a healthy job was treated")

    monkeypatch.setattr(chain, "treat", never)
    told = diagnose(Subject(jobs.Softmax, "healthy"), fix=True)
    assert told.treatments == () and not any(what.startswith("treatment") for what, _ in told.evidence.unexamined)


class Wild(jobs.Softmax):
    """Two layers at a rate that ends in NaN."""

    lr, rounds = 300.0, 12

    def model(self) -> nn.Module:
        torch.default_generator.manual_seed(self.seed)
        return nn.Sequential(nn.Linear(jobs.WIDTH, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))

    def criterion(self, outputs, labels):
        return 100 * super().criterion(outputs, labels)


def test_where_a_job_leaves_the_finite_numbers_with_its_remedy_too_a_lower_rate_is_tried():
    x = examined(Wild)
    about = Finding("A10", Certainty.FOUND, "", (), "", treatment="drop-clients", clients=(0,))
    found = chain._each(x, x.subject, x.evidence, [about], time.monotonic() + 60)
    assert [one.finding.treatment.partition("=")[0] for one in found] == ["drop-clients", "rate"]
    assert not found[0].after.finite and found[1].finding.clients == ()
    assert float(found[1].finding.treatment.partition("=")[2]) < Wild.lr


def bare(seed: int = 0) -> SimpleNamespace:
    """The same job, which lends nothing to measure by."""
    whole = FirstOnly(seed)
    lent = ("clients", "cohort", "rounds", "classes", "declared", "init", "sample", "fit", "aggregate", "evaluate")
    return SimpleNamespace(**{name: getattr(whole, name) for name in lent})


def test_where_nothing_can_be_measured_a_remedy_is_tried_and_never_proven():
    told = diagnose(Subject(bare, "bare"), fix=True)
    one = told.treatments[0]
    assert one.finding.cause.startswith("A") and not one.verified and math.isnan(one.recovered)
    assert BLIND in one.says and GONE in one.says and "nan" not in one.says
    assert told.as_dict()["treatments"][0]["after"]["values"] == [None]


def test_what_is_searched_for_once_is_not_searched_for_again(first_only, monkeypatch):
    """Skew and drift have the same remedies, found by one search."""
    causes = {"P1": "server-momentum=0.9", "C1": "fewer-steps"}
    suspects = tuple(Finding(cause, Certainty.SUPPORTED, "", (), "", treatment=how) for cause, how in causes.items())
    asked: list[str] = []

    def tried(subject: Subject, evidence: Evidence, finding: Finding) -> Treated:
        asked.append(finding.cause)
        same, about = Outcome((0.5,) * 3, 6, 0.5), replace(finding, treatment="knobs=faster")
        return Treated(about, same, same, 0.9, "", 0.0, (0.0, 0.0), False, "", "")

    monkeypatch.setattr(chain, "treat", tried)
    monkeypatch.setattr(chain, "judged", lambda _: (suspects, ()))
    repaired(first_only, examined)
    assert asked == ["P1"]


def test_no_remedy_is_begun_when_time_is_up(first_only, monkeypatch):
    monkeypatch.setattr(chain, "LATEST", -1.0)
    assert repaired(first_only, examined) == ()
    assert any("took -1 s" in why for _, why in first_only.evidence.unexamined)


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
