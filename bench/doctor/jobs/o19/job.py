"""Handwritten digits at 20 clients."""

import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from base import beside

HERE = Path(__file__).resolve().parent
data, client, server = beside(HERE, "data", "client", "server")


def make_job(seed=0):
    torch.manual_seed(seed)
    said = tomllib.loads((HERE / "job.toml").read_text())
    shares, test = data.load(seed)
    people = client.Participants(shares, said["local"], said["dp"]["clip"])
    boss = server.Federation(said["clients"], said["cohort"], test)
    log = HERE / "run.log"
    return SimpleNamespace(
        clients=said["clients"],
        cohort=said["cohort"],
        rounds=said["rounds"],
        classes=said["classes"],
        declared={
            **said["local"],
            **said["server"],
            **said["report"],
            "partition": said["data"]["partition"],
            "dp": said["dp"],
        },
        init=boss.begin,
        sample=boss.choose,
        fit=people.work,
        aggregate=boss.step,
        evaluate=boss.score,
        model=client.make_model,
        loss=client.objective,
        train_data=lambda number: shares[number],
        test_data=lambda: test,
        log=log.read_text() if log.exists() else None,
    )
