"""Signs of drift, and of its corrections."""

from dataclasses import replace

from evidence_of import effect, job, outcome, round_of, rounds, trials, visit, watched

from fedlens.diagnosis import Certainty, Evidence, Finding
from fedlens.diagnosis.evidence import Round, Visit
from fedlens.diagnosis.evidence.rounds import Pull
from fedlens.diagnosis.signs.drift.controls import correction_is_wrong
from fedlens.diagnosis.signs.drift.glued import proximal_term_holds
from fedlens.diagnosis.signs.drift.steps import clients_drift
from fedlens.diagnosis.signs.drift.turned import correction_is_turned


def certainty(finding: Finding | None) -> Certainty | None:
    return None if finding is None else finding.certainty


def drifting(gain: float, coherence: float = 0.15, **effects: float) -> Evidence:
    """40 points short; half the steps gain `gain`."""
    tried = {"fewer-steps": effect(gain)} | {name.replace("_", "-"): effect(x) for name, x in effects.items()}
    return job(rounds=rounds(coherence=coherence, gain=0.1), trials=trials(job=outcome(0.45), effects=tried))


def test_drift_is_supported_by_fewer_steps_that_gain() -> None:
    finding = clients_drift(drifting(0.1, server_momentum=0.05))
    assert certainty(finding) is Certainty.SUPPORTED
    assert finding is not None and finding.treatment == "server-momentum=0.9"


def test_an_early_gain_counts_for_no_more_than_what_skew_costs_in_the_end() -> None:
    e = drifting(0.3)
    assert e.trials is not None
    finding = clients_drift(replace(e, trials=replace(e.trials, whole=effect(0.05))))
    assert finding is not None and finding.certainty is Certainty.CONSISTENT and finding.weight == 0.05
    assert "at most 5.0 points can last" in finding.says
    lasts = clients_drift(replace(e, trials=replace(e.trials, whole=effect(0.4))))
    assert lasts is not None and lasts.certainty is Certainty.SUPPORTED and lasts.weight == 0.3


def test_orthogonal_updates_alone_are_no_drift() -> None:
    assert clients_drift(drifting(0.0)) is None
    assert clients_drift(job(rounds=rounds(coherence=0.1))) is None


def test_updates_that_agree_and_whose_mean_gains_are_no_drift() -> None:
    e = drifting(0.1, coherence=0.7)
    agreeing = rounds(coherence=0.7, gain=0.29)
    assert clients_drift(job(rounds=agreeing, trials=e.trials)) is None


def test_late_rounds_say_nothing_of_drift() -> None:
    late = tuple(one for one in rounds(9, coherence=0.05, gain=0.0) if one.number > 5)
    assert clients_drift(job(rounds=late, trials=drifting(0.1).trials)) is None


def test_a_correction_below_its_reference_is_supported_where_the_clients_are_at_fault() -> None:
    sick = trials(job=outcome(0.5), own_clients=outcome(0.52))
    assert certainty(correction_is_wrong(job({"method": "SCAFFOLD"}, trials=sick))) is Certainty.SUPPORTED
    assert correction_is_wrong(job({"method": "fedavg"}, trials=sick)) is None
    assert correction_is_wrong(job({"method": "scaffold"})) is None


def test_clients_that_fail_without_their_own_aggregator_say_nothing_of_a_correction() -> None:
    """The author's aggregator keeps the controls: under another one they never move, and the two halves prove
    nothing."""
    apart = trials(job=outcome(0.7), reference=outcome(0.82), own_clients=outcome(0.1))
    assert correction_is_wrong(job({"method": "scaffold"}, trials=apart)) is None
    together = trials(job=outcome(0.7), reference=outcome(0.82), own_clients=outcome(0.7))
    assert certainty(correction_is_wrong(job({"method": "scaffold"}, trials=together))) is Certainty.SUPPORTED


def test_a_correction_far_below_its_reference_is_supported_where_skewed_data_cost_less() -> None:
    far = trials(job=outcome(0.4), own_clients=None, effects={"iid": effect(0.15)})
    assert certainty(correction_is_wrong(job({"method": "scaffold"}, trials=far))) is Certainty.SUPPORTED
    near = trials(job=outcome(0.7), own_clients=None, effects={"iid": effect(0.05)})
    assert correction_is_wrong(job({"method": "scaffold"}, trials=near)) is None
    skewed = trials(job=outcome(0.4), own_clients=None, effects={"iid": effect(0.5)})
    assert correction_is_wrong(job({"method": "scaffold"}, trials=skewed)) is None


def corrected(along: float, first: float = 0.5, again: bool = True) -> tuple[Round, ...]:
    """Two rounds of three clients; `along`: of what is added at their second visit, `first`: at their first."""

    def visits(cosine: float, clients: range) -> tuple[Visit, ...]:
        pull = Pull(0.1, 1.0, 1.0, 0.1, 0.1, 1.0, None, True, cosine)
        return tuple(visit(c, watched=watched(beside=True, pulls=(pull,) * 3)) for c in clients)

    second = range(3) if again else range(3, 6)
    return round_of(1, visits=visits(first, range(3))), round_of(2, visits=visits(along, second))


def test_a_correction_along_the_clients_own_gradient_has_the_wrong_sign() -> None:
    sick, said = trials(job=outcome(0.2)), {"method": "SCAFFOLD"}
    finding = correction_is_turned(job(said, rounds=corrected(0.6), trials=sick))
    assert finding is not None and (finding.cause, finding.certainty) == ("C2", Certainty.SUPPORTED)
    assert certainty(correction_is_turned(job(said, rounds=corrected(0.6)))) is Certainty.CONSISTENT
    assert correction_is_turned(job(said, rounds=corrected(-0.4), trials=sick)) is None  # as it should be
    assert correction_is_turned(job(said, rounds=corrected(0.05), trials=sick)) is None  # clients are alike
    assert correction_is_turned(job(said, rounds=corrected(0.6, again=False), trials=sick)) is None  # first visits
    assert correction_is_turned(job({"method": "fedprox"}, rounds=corrected(0.6), trials=sick)) is None


def test_a_large_mu_is_consistent_and_a_trial_supports_it() -> None:
    """mu times the sum of ten rates of 0.1: 1 with mu 1."""
    sick = trials(job=outcome(0.5), effects={})
    assert certainty(proximal_term_holds(job({"mu": 1.0}, trials=sick))) is Certainty.CONSISTENT
    assert proximal_term_holds(job({"mu": 0.01}, trials=sick)) is None
    freed = trials(job=outcome(0.5), effects={"mu=0": effect(0.2)})
    assert certainty(proximal_term_holds(job({"mu": 1.0}, trials=freed))) is Certainty.SUPPORTED
    assert proximal_term_holds(job({"mu": 1.0})) is None  # the job is well
    early = replace(freed, knobs={**freed.knobs, "mu=0": outcome(0.7, rounds=6)})
    assert certainty(proximal_term_holds(job({"mu": 1.0}, trials=early))) is Certainty.SUPPORTED
    assert proximal_term_holds(job({"mu": 0.1}, trials=early)) is None  # a tenth undone: slower at first, no more
    assert certainty(proximal_term_holds(job({"mu": 0.1}, trials=freed))) is Certainty.SUPPORTED
    unseen = rounds(visits=tuple(visit(c, watched=watched(rates=())) for c in range(4)))
    assert proximal_term_holds(job({"mu": 1.0}, rounds=unseen, trials=sick)) is None
