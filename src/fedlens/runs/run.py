"""One run from experiment to summary: main loop, references, what it was worth; interrupted and resumed at will."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors.torch import save

from fedlens.engine.profile import profiled
from fedlens.errors import ConfigurationError, FedlensError
from fedlens.methods import METHODS
from fedlens.models import lasting
from fedlens.runs import folder as folders
from fedlens.runs.configuration import differences, load_experiment
from fedlens.runs.experiment import Experiment
from fedlens.runs.federation import Federation
from fedlens.runs.loop import State, advance
from fedlens.runs.prepare import prepare
from fedlens.runs.references import Reference, references
from fedlens.runs.store import Journal, told, write_atomically
from fedlens.runs.summary import summarise


class Progress(Protocol):
    """Is told of every state: of which run or reference ("" for the run itself), and of how many rounds."""

    def __call__(self, title: str, state: State, rounds: int) -> None: ...


class Interrupted(FedlensError):
    """Stopped on request; resumable."""

    exit_code = 130


def execute(
    experiment: Experiment | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    command: str = "",
    profile: bool = False,
) -> Path:
    """Run `experiment` with its references, into a new folder (`out`, or a stamped one in runs/).

    `resume` goes on with the run in `out` (default runs/latest), to bit-identical results on the same machine; an
    `experiment` given with it must be the one that was begun. Raises ConfigurationError or DataError before anything is
    done, RunError when something fails on the way, Interrupted after Ctrl-C; the folder stays resumable.

    `profile` writes where the time of the rounds that are done now went, references apart, into profile.json.
    """
    if experiment is not None:
        experiment = replace(experiment, model=lasting(experiment.model))
    if resume:
        folder = folders.existing(out)
        begun = load_experiment(folder / "experiment.toml")
        if experiment is not None and (problems := differences(experiment, begun)):
            raise ConfigurationError.of(problems)
        federation = prepare(begun)
    else:
        experiment = experiment or Experiment()
        if experiment.method.name not in METHODS:
            what, do = "the run folder cannot name this method", "Add it to fedlens.methods.METHODS, or use stream()."
            raise ConfigurationError(what, where="method", seen=experiment.method.name, do=do)
        federation = prepare(experiment)
        # Engines round differently: the recorded experiment names the one taken, so that resuming repeats it.
        recorded = replace(experiment, engine=federation.settled.engine)
        folder = folders.create(recorded, out, command or _python_call(), megabytes(federation), federation.settled.why)
    with folders.locked(folder), _status(folder), _stopping() as stopped:
        _run(federation, folder, progress or _silent, stopped, command or _python_call(), profile)
    return folder


def megabytes(federation: Federation) -> float:
    """Disk that a run needs, generously: two checkpoints of the run, one of each reference, and their records."""
    e, wanted = federation.experiment, federation.experiment.references
    vector = federation.start.vector.numel() * federation.start.vector.element_size() / 1e6
    optimizer = {"sgd": 1, "adam": 2, "adamw": 2}[e.local.optimizer]
    of_a_client: float = len(e.method.client_memory) + (optimizer if e.local.keep_optimizer else 0)
    of_a_client += e.method.personal + e.communication.remembers
    if federation.exchange is not None:  # own models, and logits of every example
        logits = 4e-6 * federation.classes * float(federation.deal.sizes.mean())
        of_a_client = (federation.exchange.first.vector.nbytes * (1 + optimizer) / 1e6 + logits) / vector
    visited = min(e.clients.count, e.clients.cohort * e.rounds)
    # Of what clients remember a pack may be half out of date, and while it is replaced another takes its place.
    checkpoint = vector * (1 + len(e.method.server_memory) + 1.5 * of_a_client * visited)
    others = sum([wanted.centralised, wanted.centralised_depth, wanted.iid]) + wanted.local_only
    kept = 2 * checkpoint + wanted.iid * checkpoint + others * vector * (1 + optimizer)
    return 5 + kept + 0.002 * e.rounds * (1 + e.clients.cohort / 10) * (2 + others)


def _run(
    federation: Federation,
    folder: Path,
    progress: Progress,
    stopped: Callable[[], bool],
    command: str,
    profile: bool,
) -> None:
    with told(folder):
        (folder / "clients").mkdir(exist_ok=True)
        with (folder / "clients" / "partition.npz").open("wb") as file:
            np.savez(file, counts=federation.counts(), clients=federation.deal.looked_at)
    states = federation.experiment.engine.states
    with _profiled(folder) if profile else nullcontext():
        journal = _follow(federation, Journal(folder, states), "", progress, stopped)
    _save_model(federation, journal)
    found: list[tuple[Reference, list[dict[str, Any]]]] = []
    for reference in references(federation):
        place = folder / "references" / reference.name
        with told(folder):
            place.mkdir(parents=True, exist_ok=True)
        rows = _follow(reference.federation, Journal(place, states), reference.title, progress, stopped).rows()
        found.append((reference, rows))
    summary = summarise(federation, journal.rows(), journal.timings(), found, command)
    write_atomically(folder / "summary.json", json.dumps(summary, indent=1, allow_nan=False) + "\n")
    folders.set_status(folder, "done")


def _save_model(federation: Federation, journal: Journal) -> None:
    """Write model.safetensors, names to tensors of the last round's model: complete or absent."""
    state, place = journal.latest(federation.start), journal.folder / "model.safetensors"
    assert state is not None  # the run has ended, and its end is a checkpoint
    writing = place.with_name(f".writing-{place.name}")
    with told(journal.folder):
        with writing.open("wb") as file:
            file.write(save({name: value.clone() for name, value in state.tree.state_dict().items()}))
            file.flush()
            os.fsync(file.fileno())
        writing.replace(place)


def _follow(
    federation: Federation, journal: Journal, title: str, progress: Progress, stopped: Callable[[], bool]
) -> Journal:
    """Run `federation` to its end, from its last checkpoint on, recording every state."""
    rounds = federation.plan.rounds
    for state in advance(federation, journal.resume(federation.start), journal.checkpoints):
        stop = stopped()
        journal.append(state, last=stop or state.round == rounds)
        progress(title, state, rounds)
        if stop:
            at = f"{title}, round {state.round} of {rounds}".lstrip(", ")
            raise Interrupted(
                "stopped on request", where=at, do=f"Go on with: fedlens run --resume --out {journal.folder}"
            )
    return journal


@contextmanager
def _profiled(folder: Path) -> Iterator[None]:
    """Write where the time went, however what happens inside ends."""
    try:
        with profiled() as profile:
            yield
    finally:
        write_atomically(folder / "profile.json", json.dumps(profile.as_dict(), indent=1) + "\n")


@contextmanager
def _status(folder: Path) -> Iterator[None]:
    """Keep the status file true, whatever happens inside."""
    folders.set_status(folder, "running")
    try:
        yield
    except BaseException as error:
        word = "interrupted" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"
        with suppress(FedlensError):  # a full disk cannot be told on that disk; the error itself reaches the caller
            folders.set_status(folder, word, str(error))
        raise


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C (or SIGTERM) into a wish to stop after the round; the second stops at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _silent(title: str, state: State, rounds: int) -> None:
    """Report nothing."""


def _python_call() -> str:
    return f"fedlens.run(...) from {Path(sys.argv[0]).name or 'Python'}"
