"""What the server does with uploads, as the user writes it."""

from __future__ import annotations

from typing import Literal

from fedlens.settings import settings


@settings
class Server:
    """`weights`: a client counts by its examples (p_i = n_i / sum of n over the cohort; McMahan 2017) or as one
    (p_i = 1/m)."""

    weights: Literal["examples", "uniform"] = "examples"

    def weight(self, examples: int) -> float:
        """The weight, before normalisation over the cohort, of a client with `examples` examples."""
        return float(examples) if self.weights == "examples" else 1.0
