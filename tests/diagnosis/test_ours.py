"""An experiment as a job: the same rounds as the engine's own, and declared as what it is."""

import copy

import pytest
import torch

from fedlens.diagnosis.job import Upload
from fedlens.diagnosis.subject.ours import OwnJob, own_subject
from fedlens.errors import RunError
from fedlens.runs import load_experiment
from fedlens.runs.loop import advance
from fedlens.runs.prepare import prepare

SMALL = (
    'data.source="small:split"',
    'model.name="small:conv_bn"',
    'model.norm="batch"',
    "model.groups=1",
    "clients.count=6",
    "clients.cohort=3",
    'clients.partition={kind="dirichlet", alpha=0.5}',
    "local.batch=4",
    "local.lr=0.05",
    "rounds=3",
    "references.centralised=false",
    'engine.kind="sequential"',
    'engine.layout="channels-first"',
    "engine.together=1",
)
KINDS = {
    "fedavg with batch norm": (),
    "fedprox": ('method={name="fedprox", mu=0.1}',),
    "scaffold": ('method="scaffold"',),
    "fedadam": ('method="fedadam"',),
    "fedavgm": ('method={name="fedavgm", server_lr=0.1}',),
    "fednova": ('method="fednova"',),
    "feddyn": ('method="feddyn"',),
    "noise": (
        'model.norm="group"',
        'privacy.mechanism={kind="central", clip=0.5, noise=0.3}',
        'server.weights="uniform"',
    ),
    "moving bound": (
        'model.norm="group"',
        'privacy.mechanism={kind="central-adaptive", clip=0.5, noise=0.0}',
        'server.weights="uniform"',
    ),
    "top-k with feedback": ('communication.up={kind="top-k", fraction=0.1}',),
    "float16 down": ('communication.down={kind="float16"}',),
    "median": ('server.reduce="median"',),
    "recalibrated": ('server.statistics="recalibrate"',),
    "attackers": ("clients.attackers=2",),
    "fedbn": ('method="fedbn"', "clients.holdout=0.2"),
    "ditto": ('method="ditto"', "clients.holdout=0.2"),
    "kept optimiser": ("local.momentum=0.9", "local.keep_optimizer=true"),
    "frozen": ('model.freeze=["conv.*"]',),
}


def federation(*changes):
    return prepare(load_experiment("digits", (*SMALL, *changes)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_played_as_a_job_gives_the_engines_models(kind):
    job, states = OwnJob(federation(*KINDS[kind])), advance(federation(*KINDS[kind]))
    model = job.init()
    next(states)
    for number, state in enumerate(states, 1):
        uploads = [job.fit(client, model, number) for client in job.sample(number)]
        model = job.aggregate(model, uploads, number)
        wanted = state.tree.state_dict()
        for name, value in model.items():
            assert torch.allclose(value.double(), wanted[name].double(), rtol=1e-5, atol=1e-6), (number, name)
    assert number == 3
    assert not all(torch.equal(value, job.init()[name]) for name, value in model.items())


def test_a_copy_begins_anew_and_shares_the_data():
    job = OwnJob(federation('method="scaffold"'))
    job.fit(0, job.init(), 1)
    twin = copy.deepcopy(job)
    assert job.memory
    assert (twin.memory, twin.sent) == ({}, {})
    assert twin.federation is job.federation


def test_other_seeds_deal_and_begin_otherwise_and_the_same_seed_the_same():
    subject = own_subject(load_experiment("digits", SMALL), "small")
    first, again, other = (subject.fresh(seed) for seed in (0, 0, 1))
    assert torch.equal(first.init["conv.weight"], again.init["conv.weight"])
    assert not torch.equal(first.init["conv.weight"], other.init["conv.weight"])
    assert not torch.equal(first.train_data(0)[1], other.train_data(0)[1])


def test_what_is_declared_is_what_the_experiment_says():
    job = OwnJob(federation(*KINDS["noise"]))
    assert job.declared.dp == {"clip": 0.5, "noise": 0.3}
    assert job.declared.weighting == "uniform"
    assert OwnJob(federation(*KINDS["median"])).declared.reduce == "median"
    assert OwnJob(federation(*KINDS["fedbn"])).declared.local_entries == (
        *("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"),
    )
    assert set(OwnJob(federation(*KINDS["frozen"])).declared.frozen) == {"conv.weight", "conv.bias"}


def test_where_the_server_has_no_whole_model_the_clients_own_are_evaluated():
    job = OwnJob(federation("method={name='fedper', head='head'}", "clients.holdout=0.2"))
    assert job.test_data is None
    assert set(job.evaluate(job.init(), 0)) == {"personal_accuracy"}


def test_a_server_that_takes_uploads_it_was_never_sent_knows_what_else_belongs_to_them():
    job = OwnJob(federation('method="scaffold"'))
    state = job.init()
    moved = {name: value + 1 if value.is_floating_point() else value for name, value in state.items()}
    new = job.aggregate(state, [Upload(moved, 10), Upload(moved, 10)], 1)
    assert torch.allclose(new["conv.weight"], moved["conv.weight"], atol=1e-5)


def test_uploads_that_are_no_numbers_are_refused_as_clients_refuse_to_send_them():
    job = OwnJob(federation())
    state = job.init()
    with pytest.raises(RunError, match="not finite"):
        job.aggregate(state, [Upload({name: value * float("nan") for name, value in state.items()}, 10)], 1)


def test_a_round_in_which_everybody_fails_is_void_as_in_a_run():
    skips = OwnJob(federation('clients.on_failure="skip"'))
    state = skips.init()
    new = skips.aggregate(state, [], 1)
    assert all(torch.equal(new[name], value) for name, value in state.items())
    stops = OwnJob(federation())
    with pytest.raises(RunError, match="no client"):
        stops.aggregate(stops.init(), [], 1)
