"""Run (or resume) an experiment in this process and die by SIGKILL at the n-th arrival at a place. For test_resume."""

import dataclasses
import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from small import experiment

from fedlens import Clients, Engine, Local, References
from fedlens.front import run
from fedlens.runs import states, store

JOB = experiment(
    clients=Clients(count=6, cohort=3, partition="shards:1"),
    local=Local(batch=4, lr=0.05, momentum=0.9, keep_optimizer=True),
    method="scaffold",  # so that server and client memory are part of what must survive
    references=References(centralised=True, iid=True, local_only=1),
)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _before(owner: object, name: str, nth: int, torn: bool = False) -> None:
    """At the n-th call of owner.name: die before it, or (torn) after half of what it writes."""
    real, calls = getattr(owner, name), [0]

    def deadly(*args, **kwargs):
        calls[0] += 1
        if calls[0] != nth:
            return real(*args, **kwargs)
        if torn:
            _half(name, args)
        return _die()

    setattr(owner, name, deadly)


def _half(name: str, args: tuple) -> None:
    if name == "_line":
        journal, file, _ = args
        with (journal.folder / file).open("a") as out:
            out.write('{"round": 1, "accu')
    else:  # a file being written: half of it is there
        Path(args[1]).write_bytes(b"\x10\x00\x00\x00half of a checkpoint")


PLACES = {
    "line": lambda nth: _before(store.Journal, "_line", nth),
    "torn-line": lambda nth: _before(store.Journal, "_line", nth, torn=True),
    "torn-checkpoint": lambda nth: _before(store, "save_file", nth, torn=True),
    "torn-states": lambda nth: _before(states, "save_file", nth, torn=True),
    "removal": lambda nth: _before(states, "_remove", nth),
    "before-rename": lambda nth: _before(Path, "rename", nth),
    "after-rename": lambda nth: _before(store.shutil, "rmtree", nth),
    "visits": lambda nth: _before(np, "savez", nth),
    "replace": lambda nth: _before(Path, "replace", nth),
}

if __name__ == "__main__":
    out, resume, disk, place = sys.argv[1], sys.argv[2] == "resume", sys.argv[3] == "disk", sys.argv[4:]
    torch.set_num_threads(1)
    store.CHECKPOINT_SECONDS = 0.0  # a checkpoint every round: more moments to die in
    store.CHECKPOINT_SHARE = float("inf")
    if place:
        PLACES[place[0]](int(place[1]))
    job = dataclasses.replace(JOB, engine=Engine(kind="sequential", threads=1, states="disk" if disk else "memory"))
    run(None if resume else job, out=out, resume=resume)
