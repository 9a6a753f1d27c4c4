"""What the server does with uploads, as the user writes it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from fedlens.server.krum import Bulyan, Krum, MultiKrum
from fedlens.server.robust import GeometricMedian, Mean, Median, NormClip, TrimmedMean
from fedlens.settings import settings
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
    (p_i = 1/m). `reduce`: how a cohort's uploads become one; some rules ignore the weights, and say so."""

    weights: Literal["examples", "uniform"] = "examples"
    reduce: AnyReducer = Mean()

    def weight(self, examples: int) -> float:
        """The weight, before normalisation over the cohort, of a client with `examples` examples."""
        return float(examples) if self.weights == "examples" else 1.0
