"""An experiment as a job: the same rounds as the engine's own, and declared as what it is."""

import pytest
import torch

from fedlens.diagnosis.subject.ours import OwnJob
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
