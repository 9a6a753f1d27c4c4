"""Devices and links on simulated time: slow ones cost seconds, and touch the model only where work does not arrive."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from fedlens.partition.partition import Ints
from fedlens.seeds import generator
from fedlens.settings import Fraction, NonNegative, Positive, settings

Fate = Literal["arrived", "late", "dropped", "surplus"]
Sigma = Annotated[float, Field(ge=0, le=10, strict=True)]

SLACK = 1 + 1e-9  # seconds that add up to the deadline are in time, whatever their rounding


@settings
class Network:
    """What clients' links and devices are like, on simulated time; every default is a perfect world.

    `down_mbit`, `up_mbit`: link rates in megabit (10^6 bit) per second; `gflops`: training speed in GFLOP per second;
    all are medians over clients, and None is infinitely fast. `latency`: seconds per message, two messages a visit.
    `spread`: each client's links, and independently its device, are faster by a factor exp(spread * z), z standard
    normal, drawn once per client from the seed; both directions share one factor. `jitter`: the same again for every
    visit. Log-normal factors are a choice of model, not a measurement.

    `available`: the probability that a client can be reached in a round. `dropout`: the probability that an invited
    client vanishes before it delivers, at a uniformly drawn moment of its visit. `deadline`: the seconds after which
    the server stops waiting. `late`: what a client does that cannot make it: "drop", its work is lost; "partial", it
    trains only the steps with which its upload arrives in time, at least one (else it is late), and counts with its
    usual weight. `over_selection`: so many times the cohort are invited, and the round ends when a cohort has arrived.

    Sources: partial work: Li et al., "Federated optimization in heterogeneous networks" (FedProx), MLSys 2020, section
    5.2; over-selection and deadlines: Bonawitz et al., "Towards federated learning at scale", MLSys 2019, section 2.
    Differs: FedProx's paper draws how much a straggler does, here it follows from the seconds.
    """

    down_mbit: Positive | None = None
    up_mbit: Positive | None = None
    latency: NonNegative = 0.0
    gflops: Positive | None = None
    spread: Sigma = 0.0
    jitter: Sigma = 0.0
    available: Annotated[float, Field(gt=0, le=1, strict=True)] = 1.0
    dropout: Fraction = 0.0
    deadline: Positive | None = None
    late: Literal["drop", "partial"] = "drop"
    over_selection: Annotated[float, Field(ge=1, allow_inf_nan=False, strict=True)] = 1.0

    @model_validator(mode="after")
    def _deadline_can_be_met(self) -> Network:
        if self.deadline is None and self.late == "partial":
            raise ValueError('late = "partial" needs a deadline; set network.deadline in seconds, or late = "drop"')
        if self.deadline is not None and self.deadline < 2 * self.latency:
            raise ValueError(
                f"deadline = {self.deadline:g} is over before two messages of latency = {self.latency:g} are through; "
                "raise network.deadline, or lower network.latency"
            )
        return self

    def invited(self, cohort: int) -> int:
        """How many clients are invited so that `cohort` (m) arrive."""
        return math.ceil(self.over_selection * cohort - 1e-9)  # 1.1 * 50 is 55.00000000000001

    def reachable(self, clients: int, seed: int, round: int) -> Ints:
        """The ids of those of `clients` (K) that can be reached in `round`, sorted: i64 [at most K]."""
        if self.available == 1:  # nothing is drawn for a million clients, of whom a few are invited
            return _everybody(clients)
        return np.flatnonzero(generator(seed, "available", round).random(clients) < self.available)

    def profile(self, client: int, seed: int) -> np.ndarray:
        """By what factors the links and the device of `client` are faster than the median: f64 [2], for all rounds."""
        return np.exp(self.spread * generator(seed, "device", client).standard_normal(2))


@lru_cache(maxsize=1)
def _everybody(clients: int) -> Ints:
    """All ids, made once: the same array for every round, which nobody may change."""
    ids = np.arange(clients)
    ids.flags.writeable = False
    return ids


@dataclass(frozen=True)
class Load:
    """What one visit asks of links and device: bytes `down` and `up`, and `work`, the MFLOP of each step [K_i]."""

    client: int
    down: int
    up: int
    work: np.ndarray


@dataclass(frozen=True)
class Journey:
    """What one visit takes, in simulated seconds, and what becomes of it.

    `down`, `compute`, `up`: seconds of the visit as it was meant, `steps` its steps, fewer than planned for partial
    work. `vanished`: the second at which a dropped client fell silent. Outcomes: "arrived"; "late": after the
    deadline; "dropped": vanished, though it might have been late as well; "surplus": the cohort was complete before.
    """

    client: int
    outcome: Fate
    steps: int
    down: float
    compute: float
    up: float
    vanished: float | None = None

    @property
    def seconds(self) -> float:
        """From the invitation to the end of the upload."""
        return self.down + self.compute + self.up


def arrive(network: Network, loads: Sequence[Load], cohort: int, seed: int, round: int) -> list[Journey]:
    """The journeys of `loads`, in their order; of those that arrive in time the fastest `cohort` count.

    A client's draws depend on (seed, round, client) alone, not on who else is invited. Equal seconds are put in a drawn
    order, as the order of numbers would favour the same clients in every round.
    """
    journeys = [_journey(network, load, seed, round) for load in loads]
    arrived = [journey for journey in journeys if journey.outcome == "arrived"]
    if len(arrived) <= cohort:
        return journeys
    arrived.sort(key=lambda journey: (journey.seconds, generator(seed, "tie", round, journey.client).random()))
    surplus = {journey.client for journey in arrived[cohort:]}
    return [replace(journey, outcome="surplus") if journey.client in surplus else journey for journey in journeys]


def duration(journeys: Sequence[Journey], cohort: int, deadline: float | None) -> float:
    """Simulated seconds of a round: until `cohort` uploads have arrived, or none is left to wait for.

    A server with a deadline cannot tell a slow client from a vanished one: it waits for the deadline if anyone awaited
    is late or dropped. Without a deadline it notices when a client vanishes. A round with nobody takes no time.
    """
    arrived = [journey.seconds for journey in journeys if journey.outcome == "arrived"]
    lost = [journey for journey in journeys if journey.outcome in ("late", "dropped")]
    if len(arrived) >= cohort or not lost:
        seconds = max(arrived, default=0.0)
        return seconds if deadline is None else min(seconds, deadline)
    if deadline is not None:
        return deadline
    return max(arrived + [journey.vanished for journey in lost if journey.vanished is not None])


def _journey(network: Network, load: Load, seed: int, round: int) -> Journey:
    rng = generator(seed, "network", round, load.client)
    link, speed = network.profile(load.client, seed) * np.exp(network.jitter * rng.standard_normal(2))
    drops, moment = rng.random(2)
    down = network.latency + _transfer(load.down, network.down_mbit, link)
    up = network.latency + _transfer(load.up, network.up_mbit, link)
    # MFLOP over GFLOP per second are milliseconds.
    after = np.cumsum(load.work) / (1e3 * network.gflops * speed) if network.gflops else np.zeros(len(load.work))
    limit = math.inf if network.deadline is None else network.deadline * SLACK
    steps = len(load.work)
    if network.late == "partial":
        steps = int(np.searchsorted(after, limit - down - up, side="right")) or steps
    planned = Journey(load.client, "arrived", steps, down, float(after[steps - 1]), up)
    if drops < network.dropout:
        return replace(planned, outcome="dropped", vanished=float(moment * planned.seconds))
    return replace(planned, outcome="late") if planned.seconds > limit else planned


def _transfer(size: int, mbit: float | None, factor: float) -> float:
    """Seconds of `size` bytes over a link of `mbit` times `factor` megabit per second."""
    return 0.0 if mbit is None else float(8 * size / (1e6 * mbit * factor))
