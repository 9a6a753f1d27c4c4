"""What watching costs: rounds of a CNN job with ten clients a round, played plain and watched in turn, in one process.

    python bench/doctor/overhead.py [--rounds 6] [--repeats 3]

Prints the ratio of the time of a watched round to a plain one, for rounds that are watched lightly (all but the first
two of an examination) and fully (the first two), and for a run of 30 rounds: medians and extremes over repeats.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from fedlens.diagnosis.probes.rounds import examine_rounds
from fedlens.diagnosis.subject.target import subject_of

JOB = Path(__file__).resolve().parent / "jobs" / "h06" / "job.py"
COHORT, RUN, FULL = 10, 30, 2


def plain(patient, rounds: int) -> float:
    """Seconds of the job's own loop."""
    state, began = patient.init, time.perf_counter()
    for number in range(1, rounds + 1):
        sent = [patient.fit(client, state, number) for client in patient.sample(number)]
        state = patient.aggregate(state, sent, number)
    return time.perf_counter() - began


def watched(patient, rounds: int, full: int) -> float:
    """The same with everything passive recorded; `full`: how many rounds are watched fully."""
    facts, began = patient.facts(), time.perf_counter()
    examine_rounds(patient, facts, rounds, watched=full)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=4)
    options.add_argument("--repeats", type=int, default=5)
    given = options.parse_args()
    torch.set_num_threads(1)
    subject = subject_of(f"{JOB}:make_job")

    def fresh():
        patient = subject.fresh()
        clients = patient.clients
        patient.job.sample = lambda round: [(round * COHORT + at) % clients for at in range(COHORT)]
        patient.job.evaluate = lambda state, round: {"accuracy": 0.0}  # evaluation is not part of training
        return patient

    plain(fresh(), 1)
    light, full = [], []
    for _ in range(given.repeats):
        usual = plain(fresh(), given.rounds)
        light.append(watched(fresh(), given.rounds, 0) / usual)
        full.append(watched(fresh(), given.rounds, given.rounds) / plain(fresh(), given.rounds))
    whole = [(FULL * f + (RUN - FULL) * a) / RUN for a, f in zip(light, full, strict=True)]
    for name, ratios in (("lightly", light), ("fully", full), (f"over {RUN} rounds", whole)):
        print(f"{name:16s} {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
