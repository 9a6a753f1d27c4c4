"""Remedies tried on faulty jobs: each mends the fault it is for, the wrong one does not, and both are said."""

import math
from dataclasses import replace

import pytest
import softmax_job as jobs
import torch

from fedlens.diagnosis.evidence import Aggregation, DataAudit, Evidence, Inputs, LabelAudit, Outcome, Trials
from fedlens.diagnosis.finding import Certainty, Finding
from fedlens.diagnosis.repair import treatment
from fedlens.diagnosis.repair.proof import interval
from fedlens.diagnosis.repair.remedies import wholesale, with_usual
from fedlens.diagnosis.repair.skew import words
from fedlens.diagnosis.repair.treated import Treated
from fedlens.diagnosis.repair.treatment import learns, treat
from fedlens.diagnosis.subject.patient import Subject
from fedlens.diagnosis.trials.case import Case
from fedlens.diagnosis.trials.cures import CURES
from fedlens.diagnosis.trials.settings import Assumed
from fedlens.local import Local

torch.set_num_threads(1)


class Unhurried(jobs.Careful):
    """The same at a rate at which nothing is learned in two rounds."""

    lr, rounds = 0.002, 30


def finding(cause: str, treatment: str, **more: object) -> Finding:
    return Finding(cause, Certainty.FOUND, "", (), "", treatment=treatment, **more)


def evidence(job: type, **more: object) -> Evidence:
    return Evidence(facts=Subject(job, "").fresh().facts(), **more)


def tried(job: type, cause: str, treatment: str, seen: dict | None = None, **more: object) -> Treated | None:
    subject = Subject(job, job.__name__)
    return treat(subject, evidence(job, **(seen or {})), finding(cause, treatment, **more), length=6)


def scaled(clients: tuple[int, ...], factor: float | None) -> DataAudit:
    """What an audit says of clients whose inputs are scaled by `factor`; None: their moments alone."""
    test, mine = (Inputs((0.0,), (one,), -one, one, 0.0, True) for one in (1.5, 1500.0))
    none = {"sizes": {}, "counts": {}, "apart": {}, "order_run": {}}
    factors = {} if factor is None else dict.fromkeys(clients, factor)
    return DataAudit(looked_at=clients, inputs=dict.fromkeys(clients, mine), test=test, scaled=factors, **none)


def mapped(maps: dict[int, tuple[int, ...]]) -> LabelAudit:
    return LabelAudit(learnable=1, chance=0.25, error=0.01, n=9, identity={}, best={}, gain={}, maps=maps)


def totalling(total: float) -> Aggregation:
    none = {"landed": {}, "fates": {}, "ones": {}, "dtypes": {}}
    return Aggregation(examples=(1,), weights=(total,), wanted=(1.0,), current=1.0, residual=0.0, **none)


RENAMED = {"labels": mapped(dict.fromkeys(jobs.Renamed.bad, jobs.Renamed.back))}
MENDS = [
    (jobs.FirstOnly, "A1", "reference-aggregator", {}, ()),
    (jobs.Careful, "A6", "server-rate=1", {"aggregation": totalling(0.01)}, ()),
    (jobs.Slow, "O1", "rate=0.1", {}, ()),
    (jobs.NeverLoads, "B1", "load-global", {}, ()),
    (jobs.NeverLoads, "B1", "reference-client", {}, ()),
    (jobs.SameFour, "S1", "sample-all", {}, ()),
    (jobs.Renamed, "L1", "relabel", RENAMED, jobs.Renamed.bad),
    (jobs.Renamed, "L1", "drop-clients", {}, jobs.Renamed.bad),
    (jobs.Twice, "H1", "loss=cross-entropy", {}, ()),
    (jobs.Answering, "H1", "loss=cross-entropy", {}, ()),
    (jobs.Bounded, "V2", "clip=median", {}, ()),
    (jobs.Bounded, "V2", "no-clip", {}, ()),
    (jobs.Batched, "N1", "mean-buffers", {}, ()),
]


@pytest.mark.parametrize(("job", "cause", "treatment", "seen", "clients"), MENDS)
def test_the_remedy_of_a_fault_is_proven_on_the_job(job, cause, treatment, seen, clients):
    found = tried(job, cause, treatment, seen, clients=clients)
    assert found.verified and found.after.mean > 0.7 and found.interval[0] > 0
    assert found.recovered > 0.7 and found.reference > found.before.mean
    assert len(found.before.values) == len(found.after.values) >= 3 and found.before.rounds == found.after.rounds == 6
    assert "paired seeds, 6 rounds" in found.says and found.change


@pytest.mark.parametrize(
    ("job", "treatment"),
    [(jobs.FirstOnly, "reference-client"), (jobs.Slow, "reference-aggregator"), (jobs.Softmax, "shuffle")],
)
def test_a_remedy_of_something_else_is_not_proven(job, treatment):
    found = tried(job, "A1", treatment)
    assert not found.verified and "Not proven" in found.says


def test_a_job_that_lacks_nothing_has_nothing_to_recover():
    found = tried(jobs.Softmax, "A1", "reference-aggregator")
    assert math.isnan(found.recovered) and found.after.values == pytest.approx(found.before.values, abs=1e-9)


def test_a_fault_that_flatters_is_proven_by_what_it_broke():
    found = tried(jobs.OneNetwork, "B3", "separate-clients", silent=True)
    assert found.after.mean < found.before.mean and found.verified
    assert "need not cost accuracy: the order of clients changes the model by" in found.says


def test_a_flattering_fault_that_stays_is_not_proven():
    found = tried(jobs.OneNetwork, "B3", "reference-aggregator", silent=True)
    assert not found.verified


def test_a_number_that_is_no_accuracy_is_replaced_and_the_model_is_not():
    found = tried(jobs.Lying, "E5", "reference-evaluation")
    assert found.verified and found.before.values == (0.5,) * 3 and found.after.mean > 0.9
    honest = tried(jobs.Softmax, "E5", "reference-evaluation")
    assert not honest.verified and honest.before.values == pytest.approx(honest.after.values, abs=1e-6)


def test_a_knob_of_the_reference_is_a_remedy_too():
    found = tried(jobs.Skewed, "P1", "full-participation")
    assert found.against == "the same examples dealt again IID" and found.after.mean > found.before.mean


def test_the_job_is_not_run_again_where_the_trials_know_it():
    known = Outcome((0.1, 0.2, 0.3), 6, 1.0)
    trials = Trials(job=known, knobs={}, effects={})
    found = tried(jobs.Careful, "A6", "reference-aggregator", {"trials": trials})
    assert found.before.values[:3] == known.values


@pytest.mark.parametrize("treatment", ["magic", "relabel", "rescale", "drop-clients", "server-rate=1", "codec-off"])
def test_what_cannot_be_tried_is_left(treatment):
    assert tried(jobs.Softmax, "A1", treatment) is None


def test_where_no_part_of_the_job_is_at_fault_nothing_is_tried():
    assert tried(jobs.Softmax, "D5", "") is None


def test_where_no_knob_helps_none_is_proven(monkeypatch):
    monkeypatch.setattr(treatment, "best", lambda score, least, enough: "")
    assert tried(jobs.Skewed, "P1", "server-momentum=0.9") is None


def test_more_seeds_are_taken_where_all_gain_and_three_do_not_tell():
    known = Trials(job=Outcome((0.1, 0.5, 0.85), 6, 1.0), knobs={}, effects={})
    found = tried(jobs.Careful, "A6", "reference-aggregator", {"trials": known})
    assert interval([b - a for a, b in zip(known.job.values, found.after.values, strict=False)])[0] < 0
    assert len(found.before.values) == len(found.after.values) == 6 and found.verified


def test_every_cure_says_what_it_changes():
    assert all(cure.change and cure.change[0].islower() for cure in CURES.values())


def case(job: type, treatment: str, **seen: object) -> Case:
    about = finding("", treatment, clients=job.bad)
    return Case(Subject(job, ""), evidence(job, **seen), about, Assumed(Local()))


@pytest.mark.parametrize("factor", [1000.0, None])
def test_inputs_of_the_named_clients_get_the_scale_of_the_test_set(factor):
    put_right = CURES["rescale"].put_right(case(jobs.Renamed, "rescale", data=scaled(jobs.Renamed.bad, factor)))
    inputs, labels = jobs.examples(8, 0)
    for client, given in ((jobs.Renamed.bad[0], 1000 * inputs), (7, inputs)):
        found, same = put_right.change(client, given, labels)
        torch.testing.assert_close(found, inputs)
        assert same is labels


def test_inputs_that_are_shifted_too_get_the_moments_of_the_test_set():
    test, mine = Inputs((0.0,), (1.0,), -1, 1, 0.0, True), Inputs((33.0,), (78.0,), -45, 111, 0.0, True)
    audit = replace(scaled(jobs.Renamed.bad, 78.0), inputs=dict.fromkeys(jobs.Renamed.bad, mine), test=test)
    put_right = CURES["rescale"].put_right(case(jobs.Renamed, "rescale", data=audit))
    inputs, labels = jobs.examples(8, 0)
    torch.testing.assert_close(put_right.change(jobs.Renamed.bad[0], 78 * inputs + 33, labels)[0], inputs)


def test_labels_of_the_named_clients_get_the_names_that_all_others_have():
    put_right = CURES["relabel"].put_right(case(jobs.Renamed, "relabel", **RENAMED))
    inputs, labels = jobs.examples(8, 0)
    one_hot = torch.nn.functional.one_hot
    for client, given in ((jobs.Renamed.bad[0], (labels + 1) % jobs.CLASSES), (7, labels)):
        assert torch.equal(put_right.change(client, inputs, given)[1], labels)
        rows = put_right.change(client, inputs, one_hot(given, jobs.CLASSES).float())[1]
        assert torch.equal(rows, one_hot(labels, jobs.CLASSES).float())


def test_examples_without_a_label_are_left_out_where_labels_lie_outside():
    about = finding("L3", "relabel")
    given = Case(Subject(jobs.Renamed, ""), evidence(jobs.Renamed, **RENAMED), about, Assumed(Local()))
    put_right = CURES["relabel"].put_right(given)
    inputs, labels = jobs.examples(8, 0)
    outside = torch.tensor([0, 1, 2, 3, 4, 5, -1, 2])
    kept, said = put_right.change(7, inputs, outside)
    assert torch.equal(kept, inputs[[0, 1, 2, 3, 7]]) and said.tolist() == [0, 1, 2, 3, 2]
    rows = torch.nn.functional.one_hot(labels, jobs.CLASSES).float()
    rows[2] = 0.0
    kept, said = put_right.change(7, inputs, rows)
    assert len(kept) == len(said) == 7 and bool((said.sum(dim=1) == 1).all())


def test_what_compression_loses_comes_later():
    subject, about = Subject(jobs.Sparse, ""), finding("X1", "feedback")
    found = treat(subject, evidence(jobs.Sparse), about, length=12)
    assert found.verified and "added to the next upload" in found.change and found.after.mean > found.before.mean + 0.05


def test_a_finding_without_a_treatment_gets_the_usual_one_of_its_cause():
    found = tried(jobs.Slow, "L2", "", clients=jobs.Renamed.bad)
    assert found is not None and found.finding.treatment == "drop-clients"
    assert with_usual(finding("A1", "no-clip")).treatment == "no-clip"


def test_where_a_remedy_fails_the_whole_part_is_replaced():
    assert wholesale(finding("B1", "load-global")).treatment == "reference-client"
    assert wholesale(finding("B2", "load-global")).treatment == "reference-aggregator"
    assert wholesale(finding("B1", "reference-client")) is None and wholesale(finding("P1", "fedadam")) is None


def test_where_a_finding_stands_for_several_remedies_the_one_ahead_is_proven():
    found = tried(jobs.Skewed, "P1", "server-momentum=0.9")
    name, _, value = found.finding.treatment.partition("=")
    assert name == "knobs" and found.change == f"the reference with {words(value)}"
    assert found.after.mean > found.before.mean and found.against == "the same examples dealt again IID"


def test_remedies_for_skew_are_looked_for_and_proven_in_half_of_the_rounds_at_least():
    found = treat(Subject(jobs.Skewed, ""), evidence(jobs.Skewed), finding("P1", "server-momentum=0.9"))
    assert found.before.rounds == found.after.rounds >= jobs.Skewed.rounds // 2


def test_a_dropped_clients_place_goes_to_another():
    job, subject = jobs.Renamed, Subject(jobs.Renamed, "")
    parts = CURES["drop-clients"].make(case(job, "drop-clients"))(subject.fresh(0), 0)
    for number in range(1, 6):
        asked = parts.sample(number)
        assert len(set(asked)) == job.cohort and not set(asked) & set(job.bad)


def test_where_nothing_is_learned_in_a_part_of_the_rounds_all_of_them_are_run():
    known = Trials(reference=Outcome((0.25,), 2, 0.05), knobs={}, effects={})  # two rounds are all that trials had
    about, seen = finding("A6", "server-rate=1"), {"aggregation": totalling(0.01), "trials": known}
    found = treat(Subject(Unhurried, ""), evidence(Unhurried, **seen), about)
    assert found.before.rounds == Unhurried.rounds and found.verified and found.recovered > 0.8
    short = treat(Subject(Unhurried, ""), evidence(Unhurried, **seen), about, length=2)
    assert not short.verified and not learns(short, evidence(Unhurried))
