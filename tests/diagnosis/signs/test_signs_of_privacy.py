"""Signs of noise and bounds; 384 parameters, so that noise of sigma is 19.6 sigma long."""

import pytest
from evidence_of import aggregation, effect, job, outcome, rounds, trials, visit, watched

from fedlens.diagnosis import Certainty, Evidence, Finding
from fedlens.diagnosis.signs.aggregation.step import server_steps_wrongly
from fedlens.diagnosis.signs.privacy.amount import accumulated, ratio
from fedlens.diagnosis.signs.privacy.buffers import noise_is_on_buffers
from fedlens.diagnosis.signs.privacy.clip import updates_are_clipped
from fedlens.diagnosis.signs.privacy.noise import noise_drowns_updates
from fedlens.diagnosis.signs.privacy.sensitivity import noise_without_clip

LENGTH = 384**0.5


def certainty(finding: Finding | None) -> Certainty | None:
    return None if finding is None else finding.certainty


def private(noise: float, clip: float = 0.5, gain: float | None = None, short: bool = True, **seen: object) -> Evidence:
    """Noise on the sum, as declared, of z = `noise`; 40 points short, of which `gain` without noise."""
    sigma = noise * clip / 4
    effects = {} if gain is None else {"noise-off": effect(gain)}
    made_up = aggregation(noise=sigma, residual=sigma * LENGTH / 0.4)
    off = rounds(residual=sigma * LENGTH / 0.4, unexplained=0.9, weights_error=sigma / 0.5, **seen)
    tried = trials(job=outcome(0.4 if short else 0.85), effects=effects)
    return job({"dp": {"clip": clip, "noise": noise}}, aggregation=made_up, rounds=off, trials=tried)


def test_noise_by_signal_is_what_was_added_beside_the_mean_update() -> None:
    e = private(1.0)  # sigma = 0.125, the mean update is 0.4 long, 20 rounds
    assert ratio(e) == pytest.approx(0.125 * LENGTH / 0.4)
    assert accumulated(e) == pytest.approx(0.125 * LENGTH / 0.4 / 20**0.5)


def test_noise_that_drowns_the_updates_is_supported_by_a_trial() -> None:
    finding = noise_drowns_updates(private(3.0, gain=0.35))
    assert certainty(finding) is Certainty.SUPPORTED and finding is not None and finding.cause == "V1"
    name, _, value = finding.treatment.partition("=")
    assert name == "noise" and accumulated(private(float(value))) == pytest.approx(0.5, rel=0.02)


def test_noise_without_a_trial_is_consistent_and_noise_without_harm_noted() -> None:
    assert certainty(noise_drowns_updates(private(3.0))) is Certainty.CONSISTENT
    assert certainty(noise_drowns_updates(private(1.0, short=False))) is Certainty.NOTED
    assert noise_drowns_updates(private(0.05, short=False)) is None


def test_a_loose_bound_is_named_as_the_reason_of_the_noise() -> None:
    """The bound is 10, the median update 0.59."""
    finding = noise_drowns_updates(private(1.0, clip=10.0, gain=0.35))
    assert finding is not None and finding.cause == "V4" and finding.treatment == "clip=median"


def test_heavy_noise_that_nobody_declared_is_found() -> None:
    seen = aggregation(noise=1.0, residual=40.0)
    assert certainty(noise_drowns_updates(job(aggregation=seen))) is Certainty.FOUND
    assert certainty(noise_drowns_updates(job(aggregation=aggregation(noise=1e-4, residual=0.01)))) is Certainty.NOTED


NORMS = (0.5, 0.7, 0.9, 1.1)
CUT = {
    "visits": tuple(visit(c, norm=norm) for c, norm in enumerate(NORMS)),
    "weights": tuple(0.25 * 0.01 / norm for norm in NORMS),
    "residual": 0.98,
    "total": 0.014,
}


def test_a_bound_that_nobody_declared_is_found_and_no_server_rate() -> None:
    e = job(rounds=rounds(**CUT), aggregation=aggregation(rule="norm-clip", weights=(0.001, 0.002, 0.006)))
    finding = updates_are_clipped(e)
    assert certainty(finding) is Certainty.FOUND and finding is not None and "0.01" in finding.says
    assert server_steps_wrongly(e) is None


def test_a_server_rate_is_no_bound() -> None:
    rate = rounds(visits=CUT["visits"], weights=(0.0025,) * 4, residual=0.99, total=0.01)
    e = job(rounds=rate, aggregation=aggregation(weights=(0.00125, 0.0025, 0.00625)))
    assert updates_are_clipped(e) is None
    assert certainty(server_steps_wrongly(e)) is Certainty.FOUND


def clipped(gain: float | None) -> Evidence:
    effects = {} if gain is None else {"clip-off": effect(gain)}
    return job({"dp": {"clip": 0.01}}, rounds=rounds(**CUT), trials=trials(job=outcome(0.4), effects=effects))


def test_a_declared_bound_takes_a_trial() -> None:
    finding = updates_are_clipped(clipped(0.3))
    assert certainty(finding) is Certainty.SUPPORTED and finding is not None and finding.treatment == "no-clip"
    assert certainty(updates_are_clipped(clipped(None))) is Certainty.CONSISTENT
    assert updates_are_clipped(clipped(0.0)) is None


def test_updates_of_exactly_one_norm_were_clipped_at_the_clients() -> None:
    one = rounds(visits=tuple(visit(c, norm=0.01) for c in range(4)))
    assert certainty(updates_are_clipped(job(rounds=one, trials=trials(job=outcome(0.4))))) is Certainty.FOUND
    assert certainty(updates_are_clipped(job(rounds=one))) is Certainty.NOTED


def test_noise_without_a_bound_protects_nothing() -> None:
    assert certainty(noise_without_clip(job({"dp": {"noise": 1.0}}))) is Certainty.FOUND


def test_updates_above_the_bound_that_keep_their_weight_are_not_clipped() -> None:
    loud = {"visits": tuple(visit(c, norm=5.0) for c in range(4))}
    uncut = private(0.01, clip=0.5, **loud)  # updates of ten times the bound with p_i whole
    assert certainty(noise_without_clip(uncut)) is Certainty.FOUND
    cut = private(0.01, clip=0.5, weights=(0.025,) * 4, **loud)
    assert noise_without_clip(cut) is None


def test_noise_that_is_declared_and_missing_is_found() -> None:
    quiet = job({"dp": {"clip": 1.0, "noise": 1.0}})  # declared sigma 0.25, found none, and uploads are 0.6 long
    assert certainty(noise_without_clip(quiet)) is Certainty.FOUND
    assert noise_without_clip(private(1.0)) is None


def test_noise_on_statistics_is_found() -> None:
    said = {"dp": {"clip": 1.0, "noise": 0.01}}
    assert certainty(noise_is_on_buffers(job(said, rounds=rounds(negative=("2.running_var",))))) is Certainty.FOUND
    odd = rounds(fates={"2.running_mean": "other", "2.running_var": "other"})
    assert certainty(noise_is_on_buffers(job(said, rounds=odd))) is Certainty.FOUND
    assert noise_is_on_buffers(job(rounds=odd)) is None


def test_a_bound_on_weights_is_found() -> None:
    e = job({"dp": {"clip": 1.0}}, aggregation=aggregation(current=0.1, weights=(0.0125, 0.025, 0.0625)))
    assert certainty(noise_is_on_buffers(e)) is Certainty.FOUND


def test_uploads_that_look_like_noise_are_found_unless_noise_is_declared() -> None:
    loud = rounds(visits=tuple(visit(c, noise=0.3) for c in range(4)))
    assert certainty(noise_drowns_updates(job(rounds=loud))) is Certainty.FOUND
    one = rounds(visits=tuple(visit(c, noise=0.3 if c == 1 else 0.0) for c in range(4)))
    assert noise_drowns_updates(job(rounds=one)) is None
    said = job({"dp": {"clip": 1.0, "noise": 0.1}}, rounds=loud)
    assert certainty(noise_drowns_updates(said)) is not Certainty.FOUND


def noised(sigma: float, mean: float = 0.4, **declared: object) -> Evidence:
    """Four clients a round add noise of `sigma` to what they trained; the mean update is `mean` long."""
    return job(declared, rounds=rounds(3, visits=tuple(visit(c, watched=watched(added=sigma)) for c in range(4)),
                                       mean_norm=mean))  # fmt: skip


def test_noise_that_clients_add_undeclared_and_unbounded_is_found() -> None:
    finding = noise_without_clip(noised(0.01))  # 0.196 long on updates of 0.5
    assert certainty(finding) is Certainty.FOUND and finding is not None and finding.cause == "V3"
    assert finding.where == "job.py:10" and finding.silent
    assert noise_without_clip(noised(0.0)) is None
    assert noise_without_clip(noised(1e-5)) is None  # a thousandth of the update: rounding of some kind
    assert noise_without_clip(noised(0.01, dp={"clip": 1.0, "noise": 0.1})) is None
    assert noise_without_clip(noised(0.01, codec="qsgd:8")) is None


def test_masks_that_cancel_in_the_sum_are_no_noise() -> None:
    """Noise of 0.5 is 9.8 long in an upload and 4.9 in the mean of four; the mean is 0.4 long."""
    assert noise_without_clip(noised(0.5)) is None
    assert noise_without_clip(noised(0.5, mean=4.9)) is not None


def test_noise_that_the_server_adds_undeclared_is_found() -> None:
    sigma = 0.1 * 0.4 / LENGTH  # a tenth of the mean update
    off = rounds(3, residual=0.1, unexplained=0.1)
    found = noise_without_clip(job(aggregation=aggregation(noise=sigma, residual=0.1), rounds=off))
    assert certainty(found) is Certainty.FOUND and found is not None and found.where == "job.py:20"
    faint = aggregation(noise=sigma / 100, residual=1e-3)
    assert noise_without_clip(job(aggregation=faint)) is None
    weighed = aggregation(noise=sigma, residual=1e-7)  # the uploads that count are drawn anew
    assert noise_without_clip(job(aggregation=weighed, rounds=off)) is None
    rounded = aggregation(noise=sigma, residual=0.1, grid=0.01)  # stochastic rounding lies on a grid
    assert noise_without_clip(job(aggregation=rounded, rounds=off)) is None
