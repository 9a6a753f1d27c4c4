"""From a finding to a changed experiment: only what is meant changes, and the proof says what it did."""

import math
from types import SimpleNamespace

import pytest

from fedlens.diagnosis import prescription
from fedlens.diagnosis.evidence import Evidence, Facts, Outcome
from fedlens.diagnosis.finding import Certainty, Finding
from fedlens.diagnosis.job import Declared
from fedlens.diagnosis.prescription import prescribe
from fedlens.diagnosis.repair.changes import OF, changed
from fedlens.diagnosis.repair.health import Health
from fedlens.diagnosis.repair.treated import Treated
from fedlens.errors import ConfigurationError
from fedlens.runs import load_experiment
from fedlens.runs.configuration import differences

SMALL = (
    'data.source="small:split"',
    'model.name="small:conv_bn"',
    'model.norm="batch"',
    "model.groups=1",
    "clients.count=6",
    "clients.cohort=3",
    'clients.partition="iid"',
    "local.batch=4",
    "rounds=8",
    "references.centralised=false",
    'engine.kind="sequential"',
    'engine.layout="channels-first"',
    "engine.together=1",
)
FACTS = Facts(
    clients=6,
    cohort=3,
    rounds=8,
    classes=3,
    declared=Declared(),
    entries={},
    where={},
    offers=frozenset(),
)


def experiment(*changes):
    return load_experiment("digits", (*SMALL, *changes))


def prescribed(of, treatment, cause="O1"):
    said = []
    finding = Finding(cause, Certainty.SUPPORTED, "", (), "", treatment=treatment)
    return prescribe(of, Evidence(facts=FACTS), finding, said.append)


def keys(one, other):
    return {problem.where for problem in differences(one, other)}


def settings(of, treatment):
    """What the treatment's changes set, over all that it may mean."""
    name, _, value = treatment.partition("=")
    return [keys(of, changed(of, changes)) for changes in OF[name](of, Evidence(facts=FACTS), value)]


def test_a_rate_far_too_small_is_raised_and_the_gain_is_proven_over_paired_seeds():
    made = prescribed(experiment("local.lr=1e-6"), "rate=0.05")
    assert keys(experiment("local.lr=1e-6"), made.experiment) == {"local.lr"}
    assert made.change == ("local.lr: 1e-06 -> 0.05",)
    treated = made.treated
    assert len(treated.before.values) == len(treated.after.values) == 3
    gains = [b - a for a, b in zip(treated.before.values, treated.after.values, strict=True)]
    assert treated.interval[0] < sum(gains) / 3 < treated.interval[1]
    assert treated.verified == (treated.interval[0] > 0)
    assert treated.recovered == pytest.approx(
        (treated.after.mean - treated.before.mean) / (treated.reference - treated.before.mean)
    )


def test_a_change_that_does_nothing_is_not_proven():
    made = prescribed(experiment("local.lr=1e-6"), "rate=2e-6")
    assert not made.treated.verified
    assert "Not proven" in made.treated.says


def test_without_a_value_the_rate_is_searched_by_powers_of_ten():
    of = experiment("local.lr=1e-3")
    rates = [changes["local.lr"] for changes in OF["rate"](of, Evidence(facts=FACTS), "")]
    assert rates == [0.01, 0.1]


PRIVATE = ('privacy.mechanism={kind="central", clip=50.0, noise=2.0}', 'server.weights="uniform"', 'model.norm="group"')
MEANT = [
    ((), "norm-group", [{"model.norm"}]),
    ((), "recalibrated", [{"server.statistics"}]),
    ((), "full-participation", [{"clients.cohort", "rounds"}]),
    (("local.epochs=4",), "fewer-steps", [{"local.epochs", "rounds", "evaluate_every"}]),
    (("local.epochs=1",), "fewer-steps", []),
    (PRIVATE, "noise=0.5", [{"privacy.mechanism.noise"}]),
    (PRIVATE, "clip=median", [{"privacy.mechanism.clip"}]),
    ((), "noise=0.5", []),
    ((), "clip=median", []),
    (('communication.up={kind="top-k", fraction=0.01}',), "feedback", [{"communication.up.fraction"}]),
]


@pytest.mark.parametrize("changes, treatment, meant", MEANT)
def test_a_treatment_changes_the_settings_that_it_is_about(changes, treatment, meant):
    assert [one - {"model.groups"} for one in settings(experiment(*changes), treatment)] == meant


def test_the_bound_becomes_the_median_of_what_clients_send_without_one():
    (changes,) = OF["clip"](experiment(*PRIVATE), Evidence(facts=FACTS), "median")
    assert 0 < changes["privacy.mechanism.clip"] < 50


def test_fewer_steps_and_everybody_keep_the_number_of_examples():
    of = experiment("local.epochs=4", "rounds=8")
    for treatment in ("fewer-steps", "full-participation"):
        (changes,) = OF[treatment](of, Evidence(facts=FACTS), "")
        new = changed(of, changes)
        work = [one.rounds * one.clients.cohort * one.local.epochs for one in (of, new)]
        assert work[0] == work[1]


def test_what_no_setting_mends_has_no_prescription():
    assert prescribed(experiment(), "relabel", "L1") is None
    assert prescribed(experiment(), "", "A10") is None


def test_skew_is_answered_with_the_best_of_several_methods_against_the_iid_deal():
    of = experiment('clients.partition={kind="shards", per_client=1}', "rounds=4")
    made = prescribed(of, "server-momentum=0.9", "P1")
    assert {key.partition(".")[0] for key in keys(of, made.experiment)} == {"method"}
    assert made.treated.against == "the same examples dealt IID"
    assert all(math.isfinite(value) for value in made.treated.after.values)


def test_settings_that_do_not_go_together_are_refused():
    with pytest.raises(ConfigurationError):
        changed(experiment(), {"clients.cohort": 7})


def test_a_proof_tells_the_worst_client_and_how_far_confidence_is_true_too():
    treated = prescribed(experiment("local.lr=1e-6"), "rate=0.05").treated
    assert [side.name for side in treated.beside] == ["worst client", "calibration error"]
    assert all(0 <= side.before <= 1 and 0 <= side.after <= 1 for side in treated.beside)
    assert f"Beside it: {treated.beside[0]}, {treated.beside[1]}." in treated.says


def test_what_a_change_spoils_keeps_it_from_being_proven(monkeypatch):
    def score(e, twin):
        raised, pooled = e.local.lr == 0.05, twin is prescription._pooled
        return prescription._Score(
            0.9 if raised else 0.2, True, Health(0.5 if pooled or not raised else 0.1, 100, 0.1, 100)
        )

    monkeypatch.setattr(prescription, "_score", score)
    treated = prescribed(experiment("local.lr=1e-6"), "rate=0.05").treated
    assert treated.interval[0] > 0 and not treated.verified
    assert "Not proven: worst client worse" in treated.says


def test_an_exact_finding_that_stands_in_the_changed_run_is_not_mended():
    exact = Finding("A1", Certainty.FOUND, "", (), "")
    same = Outcome((0.1,), 8, 1.0)
    one = Treated(exact, same, same, 1.0, "", 1.0, (0.5, 0.5), True, "all of it", "")
    assert not prescription._seen(one, SimpleNamespace(findings=(exact,))).verified
    assert prescription._seen(one, SimpleNamespace(findings=())).verified
