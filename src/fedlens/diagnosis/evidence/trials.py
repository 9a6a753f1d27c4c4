"""What the job would have reached, had one thing been otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Outcome(NamedTuple):
    """Accuracies over paired seeds, means of the last evaluations, on the doctor's evaluator; `rounds` that were run;
    `cost` in training runs of the job; `finite`: no seed diverged. `curve`: mean accuracy over rounds."""

    values: tuple[float, ...]
    rounds: int
    cost: float
    finite: bool = True
    curve: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        """Over seeds."""
        return sum(self.values) / len(self.values)


class Effect(NamedTuple):
    """A paired difference: mean, standard error, over `n` seeds. With one seed the error is that of the evaluation."""

    gain: float
    error: float
    n: int

    @property
    def clear(self) -> bool:
        """More than two standard errors and more than a point."""
        return self.gain > max(0.01, 2 * self.error)


@dataclass(frozen=True, kw_only=True)
class Trials:
    """`job`: the author's own code for `rounds` rounds. `reference`: the doctor's implementation of what the job
    declares, on the same data, same rates, batches and steps as were measured; `own_clients`: the author's clients with
    the doctor's aggregator; `own_server`: the doctor's clients with the author's aggregator (M35).

    Of the reference, one thing changed at a time: `knobs`, name -> outcome: "iid" (M19), "pooled-samples",
    "pooled-depth", "pooled-wall" (M18), "norm-batch", "norm-group", "recalibrated", "lr*3", "lr/3", "lr*10", "lr/10",
    "fewer-steps", "more-steps" (at equal samples), "full-participation", "codec-off", "noise-off", "clip-off",
    "shuffled", "more-rounds", "server-momentum", and so on (M20). `effects`: name -> gain over the reference, paired.
    `best`: highest accuracy that any budget of pooled training reached; `rate`: the local rate of the reference,
    `best_rate` that of the best of a short search over rates, with `best_rate_outcome`. `whole`: by how
    much the re-deal ends above the job, or above its reference over all of the job's rounds, where the trials are
    shorter: early in training skewed clients are behind also in jobs that end well; `whole_rounds`: those that this
    took; `late`: the reference itself over all of them, where a claim rested on fewer. `chance`: share
    of the largest class in the test set; `error`: standard error of one evaluation. `notes`: what was assumed or left
    out; `unrun`: knobs that time did not allow.
    """

    job: Outcome | None = None
    reference: Outcome | None = None
    own_clients: Outcome | None = None
    own_server: Outcome | None = None
    knobs: Mapping[str, Outcome]
    effects: Mapping[str, Effect]
    best: float | None = None
    rate: float | None = None
    best_rate: float | None = None
    best_rate_outcome: Outcome | None = None
    whole: Effect | None = None
    whole_rounds: int = 0
    late: Outcome | None = None
    chance: float | None = None
    error: float = 0.0
    notes: tuple[str, ...] = ()
    unrun: tuple[str, ...] = ()
