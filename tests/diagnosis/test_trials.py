"""The doctor's own runs in a job's place: what they assume, what each changes, what they find."""

import dataclasses

import numpy as np
import pytest
import torch
from softmax_job import CLASSES, EACH, WIDTH, Batched, FirstOnly, Skewed, Slow, Softmax, Twice, examples
from torch import nn

from fedlens.diagnosis.evidence import Effect, Facts, Round, Visit, Watched
from fedlens.diagnosis.job import Upload
from fedlens.diagnosis.subject.patient import Sent, Subject
from fedlens.diagnosis.trials import (
    KNOBS,
    LADDER,
    Ran,
    dealt_to_the_end,
    own_parts,
    reference_settings,
    reference_to_the_end,
    run_job,
    run_trials,
)
from fedlens.diagnosis.trials import trials as trials_module
from fedlens.diagnosis.trials.client import Client
from fedlens.diagnosis.trials.course import Course, Setup, due, effect, federation_of, run, spared
from fedlens.diagnosis.trials.declared import understood
from fedlens.diagnosis.trials.lend import admit
from fedlens.diagnosis.trials.parts import Mean
from fedlens.diagnosis.trials.rates import rungs
from fedlens.diagnosis.trials.trials import in_doubt, reference_setup
from fedlens.errors import ConfigurationError
from fedlens.local import Local
from fedlens.runs import prepare
from fedlens.runs.configuration import _flat

torch.set_num_threads(1)


def subject(job: type) -> Subject:
    return Subject(job, job.__name__)


def facts(job: type, **declared: object) -> Facts:
    found = subject(job).fresh().facts()
    return dataclasses.replace(found, declared=dataclasses.replace(found.declared, **declared))


def visit(examples: float = 40, **seen: object) -> Visit:
    base = {"steps": 4, "samples": 40, "batches": (10,) * 4, "rates": (0.3,) * 4, "optimizer": "SGD"}
    return Visit(client=0, examples=examples, size=0.1, norm=0.1, watched=Watched(**{**base, **seen}))


def played(*visits: Visit) -> tuple[Round, ...]:
    return (Round(number=1, asked=(0,), visits=visits, wanted=(1.0,)),)


def setup_of(job: type, rounds: int = 4, seed: int = 0, **declared: object) -> Setup:
    found = facts(job, **declared)
    return reference_setup(admit(subject(job).fresh(seed)), found, reference_settings(found, ()), rounds, seed)[0]


def tried(job: type, *wanted: str, rounds: int = 6, budget: float = 60.0, seeds: tuple[int, ...] = (0, 1)):
    return run_trials(subject(job), facts(job), (), wanted=wanted, length=rounds, seeds=seeds, budget=budget)


# What is assumed


def test_the_reference_does_what_was_watched():
    seen = visit(
        samples=80, steps=8, batches=(10,) * 8, settings={"momentum": 0.9, "nesterov": 1.0, "weight_decay": 0.01}
    )
    local = reference_settings(facts(Softmax), played(seen)).local
    assert local == Local(epochs=2, batch=10, lr=0.3, momentum=0.9, nesterov=True, weight_decay=0.01)


def test_adams_moments_and_their_keeping_are_taken_over():
    seen = visit(optimizer="Adam", settings={"beta1": 0.8, "beta2": 0.9, "momentum": 0.5}, carried=True)
    local = reference_settings(facts(Softmax), played(seen)).local
    assert local == Local(epochs=1, batch=10, lr=0.3, optimizer="adam", betas=(0.8, 0.9), keep_optimizer=True)


def test_what_was_not_watched_is_as_declared_and_said():
    found = reference_settings(facts(Softmax, lr=0.7, batch=5, epochs=3, optimizer="adam"), ())
    assert found.local == Local(epochs=3, batch=5, lr=0.7, optimizer="adam")
    assert len(found.notes) == 3 and all("as declared" in note for note in found.notes)


def test_a_rate_that_drifts_is_not_believed():
    seen = played(visit(rates=(0.1,)), visit(rates=(0.05,)))
    assert reference_settings(facts(Softmax, lr=0.2), seen).local.lr == 0.2
    assert reference_settings(facts(Softmax, lr=None), seen).local.lr == 0.1
    assert "between 0.05 and 0.1" in reference_settings(facts(Softmax), seen).notes[0]


def test_clients_who_take_all_they_have_in_one_batch_do_so_in_the_reference():
    seen = played(*(visit(n, samples=n, steps=1, batches=(n,), rates=(0.1,)) for n in (30, 50)))
    assert reference_settings(facts(Softmax), seen).local == Local(epochs=1, batch="all", lr=0.1)


def test_a_part_of_an_epoch_is_counted_in_steps():
    seen = played(visit(samples=30, steps=3, batches=(10,) * 3))
    assert reference_settings(facts(Softmax), seen).local == Local(steps=3, batch=10, lr=0.3)


def test_a_declaration_becomes_an_experiment_or_a_note():
    said = facts(
        *(Softmax,), codec="topk:0.25", dp={"clip": 2.0, "noise": 0.5}, server_momentum=0.5, server_lr=0.3, mu=0.2
    ).declared
    take = understood(said, Local(), buffers=False)
    assert take.method.name == "fedprox" and take.method.server_memory == {"v": 0.0}
    assert (take.communication.up.kind, take.communication.up.fraction) == ("top-k", 0.25)
    assert (take.privacy.mechanism.clip, take.privacy.mechanism.noise) == (2.0, 0.5)
    assert take.server.weights == "uniform" and not take.notes
    odd = understood(dataclasses.replace(said, codec="morse", method="mine", reduce="vote"), Local(), buffers=True)
    assert len(odd.notes) == 4 and odd.method.name == "fedavg" and odd.privacy.mechanism is None


# What is lent


def test_the_reference_of_a_healthy_job_is_as_good_as_the_job():
    job, found = run_job(subject(Softmax), facts(Softmax), 6, (0, 1)), tried(Softmax)
    assert found.reference.mean == pytest.approx(job.mean, abs=0.03) and job.mean > 0.9
    assert len(found.reference.curve) == len(job.curve) == len(due(6))


def test_the_federation_holds_what_the_author_lends_and_leaves_it_alone():
    setup = setup_of(Softmax)
    first = {name: value.clone() for name, value in setup.lent.module.state_dict().items()}
    federation, job = federation_of(setup), Softmax(0)
    for name, value in federation.start.state_dict().items():
        torch.testing.assert_close(value, job.init()[name], rtol=0, atol=0)
    for client in range(job.clients):
        held = federation.deal.client(client)
        torch.testing.assert_close(federation.split.train.images[held], job.data[client][0], rtol=0, atol=0)
        assert torch.equal(federation.split.train.labels[held], job.data[client][1])
    run(setup)
    assert all(torch.equal(setup.lent.module.state_dict()[name], value) for name, value in first.items())


def test_cross_entropy_is_left_to_the_fast_engine_and_another_loss_is_not():
    class Plain(Softmax):
        loss = Softmax.criterion

    assert admit(subject(Plain).fresh()).lent.loss is None
    assert admit(subject(Softmax).fresh()).lent.loss is None
    lent = admit(subject(Twice).fresh()).lent
    outputs, labels = torch.randn(5, CLASSES), torch.tensor([0, 1, 2, 3, 0])
    expected = nn.functional.cross_entropy(outputs.softmax(1), labels)
    torch.testing.assert_close(lent.loss(outputs, labels, None), expected)
    assert admit(subject(Twice).fresh(), cross_entropy=True).lent.loss is None


@pytest.mark.parametrize("knob", [None, "pooled-samples"])
def test_the_authors_loss_is_what_the_reference_and_pooled_training_minimise(knob):
    setup = setup_of(Twice, rounds=1)
    federation = federation_of(setup if knob is None else KNOBS[knob].turn(setup))
    (visit,) = federation.plan.visits(1)[:1]
    done = federation.engine.trainer.visit(federation.start, {}, visit, {})
    module, rows = Twice(0).model(), next(iter(visit.batches))
    shown, said = federation.split.train.images[rows], federation.split.train.labels[rows]
    expected = nn.functional.cross_entropy(module(shown).softmax(1), said)
    assert done.record.loss_first == pytest.approx(expected.item(), rel=1e-5)


def test_labels_outside_the_head_and_clients_without_examples_are_left_out():
    class Odd(Softmax):
        def train_data(self, client):
            inputs, labels = self.data[client]
            return (inputs[:0], labels[:0]) if client == 3 else (inputs, torch.where(labels == 0, 9, labels))

    ward = admit(subject(Odd).fresh())
    assert 3 not in ward.clients and len(ward.lent.deal) == 7
    assert int((ward.lent.split.train.labels == 0).sum()) == 0 and len(ward.notes) == 2


def test_one_hot_labels_and_inputs_of_whole_numbers_are_read():
    class Tokens(Softmax):
        def model(self):
            return nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(4 * WIDTH, CLASSES))

        def tokens(self, inputs):
            return (inputs.clamp(-4, 4).round() + 4).long()

        def train_data(self, client):
            inputs, labels = self.data[client]
            return self.tokens(inputs), nn.functional.one_hot(labels, CLASSES).float()

        def test_data(self):
            inputs, labels = examples(400, 5)
            return self.tokens(inputs), labels

    found = tried(Tokens, "iid", seeds=(0,))
    assert found.reference.mean > 0.5 and "iid" in found.knobs
    clients, server = own_parts(subject(Tokens), facts(Tokens), 3, reference_settings(facts(Tokens), ()), (0,))
    assert min(server.mean, clients.mean) > 0.4


def test_a_job_that_lends_nothing_is_refused():
    class Closed(Softmax):
        train_data = None

    with pytest.raises(ConfigurationError, match="no train_data"):
        tried(Closed)


# Knobs: each changes what it says, and nothing else

CHANGES = {
    "lr*3": {"local.lr"},
    "lr/10": {"local.lr"},
    "fewer-steps": {"local.steps", "rounds", "evaluate_every"},
    "more-steps": {"local.epochs", "rounds", "evaluate_every"},
    "full-participation": {"clients.cohort"},
    "codec-off": {"communication.up.kind", "communication.up.fraction"},
    "noise-off": {"privacy.mechanism.noise"},
    "clip-off": {"privacy.mechanism.noise", "privacy.mechanism.clip"},
    "scaffold": {"method.name", "method.server_lr"},
    "more-rounds": {"rounds"},
    "recalibrated": {"server.statistics"},
    "iid": set(),
    "pooled-samples": set(),
    "pooled-depth": set(),
    "pooled-wall": set(),
    "norm-group": set(),
    "server-momentum": set(),
}
DECLARED = {
    "codec-off": {"codec": "topk:0.5"},
    "noise-off": {"dp": {"clip": 1, "noise": 1}},
    "clip-off": {"dp": {"clip": 1, "noise": 1}},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_knob_changes_what_it_says_and_nothing_else(name):
    plain = setup_of(Batched if name in ("recalibrated", "norm-group") else Skewed, **DECLARED.get(name, {}))
    turned = KNOBS[name].turn(plain)
    before, after = (_flat(one.experiment.as_dict()) for one in (plain, turned))
    assert {key for key in {**before, **after} if before.get(key) != after.get(key)} == CHANGES[name]
    assert turned.lent.split is plain.lent.split and turned.lent.deal is plain.lent.deal
    assert (turned.lent.module is plain.lent.module) == (name != "norm-group")
    assert (turned.twin is None) == (name not in ("iid", "pooled-samples", "pooled-depth", "pooled-wall"))
    same_method = turned.experiment.method.aggregate is plain.experiment.method.aggregate
    assert same_method == (name not in ("server-momentum", "scaffold"))


@pytest.mark.parametrize(
    "name", ["codec-off", "noise-off", "clip-off", "norm-group", "norm-batch", "recalibrated", "feedback"]
)
def test_a_knob_that_has_nothing_to_turn_is_left_alone(name):
    assert KNOBS[name].turn(setup_of(Softmax)) is None


def test_the_redeal_keeps_examples_and_sizes_and_takes_the_skew_away():
    setup = setup_of(Skewed)
    plain, dealt = federation_of(setup), federation_of(KNOBS["iid"].turn(setup))
    assert np.array_equal(np.sort(dealt.deal.indices), np.sort(plain.deal.indices))
    assert np.array_equal(dealt.deal.sizes, plain.deal.sizes)
    assert (plain.counts() > 0).sum(1).max() == 1 and (dealt.counts() > 0).sum(1).min() == CLASSES


@pytest.mark.parametrize(
    ("name", "samples", "steps"),
    [("pooled-samples", 4 * EACH, 8), ("pooled-depth", EACH, 2), ("pooled-wall", 4 * EACH, 2)],
)
def test_pooled_training_has_the_budget_it_is_named_after(name, samples, steps):
    federation = federation_of(KNOBS[name].turn(setup_of(Skewed)))
    (visit,) = federation.plan.visits(1)
    assert (int(visit.sizes.sum()), len(visit.batches)) == (samples, steps)


def test_a_small_network_shows_what_the_data_allow_where_the_jobs_rate_does_not():
    slow = setup_of(Slow, rounds=12)
    assert run(KNOBS["small-network"].turn(slow)).score > run(KNOBS["pooled-samples"].turn(slow)).score + 0.3
    grid = np.zeros((3, 2, 4, 4), np.float32)
    tiny = dataclasses.replace(slow.lent.split.train, images=torch.from_numpy(grid), labels=torch.zeros(3).long())
    split = dataclasses.replace(slow.lent.split, train=tiny)
    small = dataclasses.replace(slow, lent=dataclasses.replace(slow.lent, split=split))
    assert KNOBS["small-network"].turn(small) is None  # images of four pixels a side


class Alone(Batched):
    """Clients of 20 examples in batches of 19: the last holds one, which their author leaves out."""

    batch = 19


def test_a_batch_of_one_ends_no_reference_with_batch_norm():
    course = run(setup_of(Alone, rounds=12))
    assert course.finite and course.score > 0.6  # chance is a quarter
    assert run(KNOBS["norm-group"].turn(setup_of(Alone))).finite


def test_what_batch_norm_cannot_take_is_spared_and_all_else_normalised_as_before():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(WIDTH, 6), nn.BatchNorm1d(6))
    careful, rows = spared(plain), torch.randn(5, WIDTH)
    assert torch.equal(careful(rows), plain(rows))
    alone = careful(rows[:1])
    assert torch.equal(alone, plain.eval()(rows[:1])) and careful[1].training
    assert careful[1].num_batches_tracked == plain[1].num_batches_tracked == 1


def test_group_norm_stands_where_batch_norm_stood_and_back():
    setup = setup_of(Batched)
    grouped = KNOBS["norm-group"].turn(setup)
    kinds = [type(part).__name__ for part in grouped.lent.module]
    assert kinds == ["Linear", "GroupNorm", "ReLU", "Linear"]
    back = KNOBS["norm-batch"].turn(grouped)
    assert isinstance(back.lent.module[1], nn.modules.batchnorm._BatchNorm)
    assert run(back).accuracies == pytest.approx(run(setup).accuracies, abs=0.01)
    assert run(grouped).accuracies != run(setup).accuracies


# What is found


def test_dealing_again_mends_a_skewed_job_and_no_other():
    skewed, even = tried(Skewed, "iid", rounds=4), tried(Softmax, "iid", rounds=8)
    assert skewed.effects["iid"].gain > 0.1 > abs(even.effects["iid"].gain)


def test_the_ladder_finds_the_rate_of_a_job_that_is_ten_thousand_times_too_slow():
    found = tried(Slow, LADDER)
    assert found.rate == 1e-5 and 0.03 <= found.best_rate <= 3
    assert found.best_rate_outcome.mean > 0.9 > found.reference.mean and found.best > 0.9


def test_a_rate_that_is_good_stays():
    found = tried(Softmax, LADDER, rounds=10, seeds=(0,))
    assert found.best_rate == found.rate and found.effects[LADDER].gain == 0


def test_rungs_go_through_the_rate_in_steps_of_ten_over_all_that_is_of_use():
    assert rungs(1e-5, "sgd") == pytest.approx((1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0))
    assert rungs(0.3, "sgd") == pytest.approx((3e-4, 3e-3, 3e-2, 0.3, 3.0))
    assert rungs(50.0, "sgd")[-1] == 50.0 and rungs(50.0, "sgd")[0] == pytest.approx(5e-4)


def test_a_course_that_leaves_the_finite_numbers_is_worth_a_constant_answer():
    wild = dataclasses.replace(Local(lr=1e30, batch=10))
    setup = setup_of(Softmax).with_(local=wild)
    course = run(setup)
    assert not course.finite and course.score == pytest.approx(setup.chance) and setup.chance == 1 / CLASSES


def test_whose_code_it_is_shows_when_either_half_is_the_doctors():
    assumed = reference_settings(facts(FirstOnly), ())
    job = run_job(subject(FirstOnly), facts(FirstOnly), 6, (0, 1, 2))
    clients, server = own_parts(subject(FirstOnly), facts(FirstOnly), 6, assumed)
    assert clients.mean > job.mean + 0.2 and server.mean == pytest.approx(job.mean, abs=0.05)
    assert len(clients.values) == len(server.values) == 3


def test_halves_that_are_sure_after_one_seed_are_not_run_for_more():
    assumed, asked = reference_settings(facts(FirstOnly), ()), []

    def sure(found):
        asked.append(found)
        return len(found.values) == 2 or found.mean > 0.9

    clients, server = own_parts(subject(FirstOnly), facts(FirstOnly), 6, assumed, sure=sure)
    assert {len(clients.values), len(server.values)} <= {1, 2} and asked[-1] == server


def test_what_time_does_not_allow_is_not_run_and_said():
    found = tried(Skewed, "iid", "full-participation", LADDER, budget=0.0)
    assert found.knobs == {} and found.unrun == ("iid", "full-participation", LADDER)
    assert found.reference is not None and len(found.reference.values) == 1


def test_a_gain_is_in_doubt_after_one_seed_unless_it_is_plain_or_none():
    """It takes a point or two standard errors to be clear, and three times that to be plain."""
    gains = {0.05: True, 0.11: True, 0.13: False, 0.0: False, -0.05: False}
    assert {gain: in_doubt(Effect(gain, 0.02, 1)) for gain in gains} == gains
    assert in_doubt(Effect(0.02, 0.0, 1)) and not in_doubt(Effect(0.05, 0.02, 2))


@pytest.mark.parametrize("doubt, seeds", [(1e9, 3), (0.0, 1)])
def test_only_what_is_in_doubt_is_run_with_all_seeds(monkeypatch, doubt, seeds):
    monkeypatch.setattr(trials_module, "DOUBT", doubt)
    found = tried(Skewed, "iid", "lr/3", "pooled-samples", seeds=(0, 1, 2))
    assert found.effects["iid"].gain > 0 > found.effects["lr/3"].gain
    assert found.effects["iid"].n == len(found.knobs["iid"].values) == len(found.reference.values) == seeds
    assert found.effects["lr/3"].n == found.effects["pooled-samples"].n == 1  # no gain; no claim


def test_without_time_for_more_seeds_the_first_one_stands(monkeypatch):
    monkeypatch.setattr(trials_module, "DOUBT", 1e9)
    ran, job = Ran(), (subject(Skewed), facts(Skewed), ())
    first = run_trials(*job, wanted=("iid",), length=4, seeds=(0,), budget=60.0, ran=ran)
    late = run_trials(*job, wanted=("iid",), length=4, budget=0.0, ran=ran)
    assert late.effects == first.effects and late.unrun == ()  # what was run is at hand
    assert any("iid: one of 3 seeds" in note for note in late.notes)


def test_the_redeal_goes_on_until_it_is_far_ahead_of_the_end():
    ran = Ran()
    run_trials(subject(Skewed), facts(Skewed), (), wanted=(), length=4, seeds=(0,), budget=60.0, ran=ran)
    late = reference_to_the_end(ran, 40)
    assert late.rounds == 40 and late.mean > ran.courses["", 0].score
    early, few = dealt_to_the_end(ran, 40, 0.3)
    assert few < 40 and 0.1 < early.gain < 0.7 and early.n == 1
    last, all_of_them = dealt_to_the_end(ran, 40, 0.95)
    assert all_of_them == 40 and abs(last.gain) < 0.05


def test_an_unknown_trial_is_refused():
    with pytest.raises(ConfigurationError, match="no such trial"):
        tried(Softmax, "magic")


# Scores


def test_effects_are_paired_by_seed_and_have_the_evaluations_error_where_there_is_one():
    flat = [Course((0.5, 0.5), 8), Course((0.7, 0.7), 8)]
    better = [Course((0.6, 0.6), 8), Course((0.84, 0.84), 8)]
    both, one = effect(better, flat, 100), effect(better[:1], flat[:1], 100)
    assert both.gain == pytest.approx(0.12) and both.error == pytest.approx(0.02) and both.n == 2
    assert one.gain == pytest.approx(0.1) and one.error == pytest.approx((0.0025 + 0.0024) ** 0.5)
    wobbling = [Course((0.4, 0.8), 8), Course((0.64, 1.04), 8)]
    assert effect(wobbling, flat, 100).error == pytest.approx((2 * 0.08 / 2 / 4) ** 0.5)


@pytest.mark.parametrize("rounds", [1, 3, 10, 50])
def test_the_last_rounds_are_always_examined(rounds):
    wanted = due(rounds)
    assert rounds in wanted and min(wanted) >= 1 and len(wanted) <= 8 + 8
    assert set(range(max(1, rounds - min(5, max(1, rounds // 4)) + 1), rounds + 1)) <= wanted


# The doctor's halves


def sent(state: dict, examples: float) -> Sent:
    return Sent(Upload(state, examples), None, 0.0)


def test_the_doctors_aggregator_averages_statistics_and_copies_counters():
    found, now = facts(Batched), Batched(0).init()
    float_names = [name for name, value in now.items() if value.is_floating_point()]
    states = [{n: v + k if n in float_names else v + 5 * k for n, v in now.items()} for k in (1, 3)]
    new = Mean(found)(now, [sent(states[0], 30), sent(states[1], 10)], 1)
    for name in float_names:
        torch.testing.assert_close(new[name], now[name] + (30 * 1 + 10 * 3) / 40)
    assert new["1.num_batches_tracked"] == 5 and new["1.num_batches_tracked"].dtype == torch.int64


def test_the_doctors_aggregator_leaves_out_what_is_not_finite_and_keeps_what_nobody_sent():
    found, now = facts(Softmax), Softmax(0).init()
    broken = {name: torch.full_like(value, torch.nan) for name, value in now.items()}
    new = Mean(found)(now, [sent(broken, 30), sent({"0.bias": now["0.bias"] + 1}, 10)], 1)
    torch.testing.assert_close(new["0.bias"], now["0.bias"] + 1)
    assert torch.equal(new["0.weight"], now["0.weight"])


def test_the_doctors_aggregator_reads_updates_and_takes_the_declared_step():
    found, now = facts(Softmax, server_lr=0.5, server_momentum=0.5), Softmax(0).init()
    found = dataclasses.replace(found, payload="update")
    ones = {name: torch.ones_like(value) for name, value in now.items()}
    mean = Mean(found)
    one = mean(now, [sent(ones, 10)], 1)
    two = mean(one, [sent(ones, 10)], 2)
    for name in now:
        torch.testing.assert_close(one[name], now[name] + 0.5)
        torch.testing.assert_close(two[name], one[name] + 0.5 * 1.5)


def test_the_doctors_aggregator_clips_whole_updates_at_a_bound_or_the_median():
    found, now = facts(Softmax), Softmax(0).init()
    size = sum(value.numel() for value in now.values()) ** 0.5
    uploads = [sent({n: v + k / size for n, v in now.items()}, 10) for k in (1, 2, 6)]
    for clip, mean in ((0.5, 0.5), ("median", (1 + 2 + 2) / 3)):
        new = Mean(found, clip=clip)(now, uploads, 1)
        torch.testing.assert_close(new["0.bias"], now["0.bias"] + mean / size)


def test_the_doctors_client_starts_from_what_it_receives_and_sends_in_the_authors_form():
    patient, found = subject(Softmax).fresh(), facts(Softmax)
    like = patient.fit(0, patient.init, 1)
    client = Client(admit(patient), found, reference_settings(found, ()), like)
    received = {name: value + 1 for name, value in patient.init.items()}
    given = client(2, received, 3)
    assert isinstance(given.raw, tuple) and given.raw[1] == EACH and given.raw[0].keys() == received.keys()
    authors = patient.fit(2, received, 3).upload.state
    for name, value in given.upload.state.items():
        moved = float((authors[name] - received[name]).norm())
        assert 0 < float((value - authors[name]).norm()) < moved  # the same step in another order of examples


def test_prepare_takes_what_is_lent_in_place_of_what_is_named():
    setup = setup_of(Softmax)
    federation = prepare(setup.experiment, setup.lent)
    assert federation.split is setup.lent.split and federation.deal is setup.lent.deal and federation.held is None
    assert federation.classes == CLASSES and federation.module is not setup.lent.module
