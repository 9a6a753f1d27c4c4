"""What the server does with uploads, as the user writes it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from fedlens.server.krum import Bulyan, Krum, MultiKrum
from fedlens.server.robust import GeometricMedian, Mean, Median, NormClip, TrimmedMean
from fedlens.settings import Count, Fraction, settings
from fedlens.short import spelled_out

REDUCERS: dict[str, type] = {
    "mean": Mean,
    "median": Median,
    "trimmed-mean": TrimmedMean,
    "krum": Krum,
    "multi-krum": MultiKrum,
    "bulyan": Bulyan,
    "geometric-median": GeometricMedian,
    "norm-clip": NormClip,
}

# The validator stands after the discriminator, so that it runs first and the union only ever sees a table or a value.
AnyReducer = Annotated[
    Mean | Median | TrimmedMean | Krum | MultiKrum | Bulyan | GeometricMedian | NormClip,
    Field(discriminator="kind"),
    BeforeValidator(lambda value: spelled_out(value, REDUCERS, "reducer")),
]


@settings
class Server:
    """`weights`: a client counts by its examples (p_i = n_i / sum of n over the cohort; McMahan 2017) or as one
    (p_i = 1/m). `reduce`: how a cohort's uploads become one; some rules ignore the weights, and say so.

    `statistics`: what becomes of batch norm's running statistics: the mean of the clients' own, or, for one more
    forward pass over the cohort's examples, those of the new model on all of them ("recalibrate"; Wu and Johnson 2021).

    `average_from`: from this part of the rounds on, the model after every `average_every`-th round enters a mean of
    models, which is evaluated beside the last one and never sent out (stochastic weight averaging: Izmailov et al.
    2018, on the server as in Caldarola et al. 2022). None: no such mean.
    """

    weights: Literal["examples", "uniform"] = "examples"
    reduce: AnyReducer = Mean()
    statistics: Literal["average", "recalibrate"] = "average"
    average_from: Fraction | None = None
    average_every: Count = 1

    def weight(self, examples: int) -> float:
        """The weight, before normalisation over the cohort, of a client with `examples` examples."""
        return float(examples) if self.weights == "examples" else 1.0

    def averages(self, round: int, rounds: int) -> bool:
        """Whether the model after `round` (from 1) of `rounds` enters the mean of models."""
        begins = None if self.average_from is None else int(self.average_from * rounds) + 1
        return begins is not None and round >= begins and (rounds - round) % self.average_every == 0
