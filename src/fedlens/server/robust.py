"""Rules that make one upload [P] of a cohort's [m, P], and withstand some that are wrong.

A vector is the whole model, never one layer. A rule that sorts counts values that are not a number as the largest.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedlens.errors import ConfigurationError, FedlensError, RunError
from fedlens.server.reduce import Sum, by_columns, enough, mean_of
from fedlens.settings import Count, Positive, settings

Part = Annotated[float, Field(ge=0, lt=0.5, strict=True)]


@settings
class Mean:
    """The weighted mean, sum of w_i x_i over the sum of w_i; one upload can move it anywhere.

    Source: McMahan et al. 2017, Algorithm 1.
    """

    kind: Literal["mean"] = "mean"

    def check(self, m: int, error: type[FedlensError] = ConfigurationError) -> None:
        """Raise `error` for a cohort of `m` that is too small."""
        enough(m, 1, self.kind, error=error)

    def reduce(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """[P] of `vectors` [m, P] and `weights` [m]; the same as server.Sum, to the bit."""
        return mean_of(vectors, weights)


@settings
class Median:
    """The median of every coordinate; for even m the mean of the middle two.

    Source: Yin et al. 2018, Algorithm 1, option I. The weights are ignored: every client counts as one. Where clients
    hold different classes it moves away from the mean with nobody attacking.
    """

    kind: Literal["median"] = "median"

    def check(self, m: int, error: type[FedlensError] = ConfigurationError) -> None:
        """Raise `error` for a cohort of `m` that is too small."""
        enough(m, 1, self.kind, error=error)

    def reduce(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """[P] of `vectors` [m, P]; `weights` [m] are ignored."""
        self.check(len(vectors), RunError)
        return by_columns(lambda part: middle(part.sort(dim=0).values), vectors)


@settings
class TrimmedMean:
    """The mean of every coordinate without its floor(part * m) smallest and as many largest values.

    Source: Yin et al. 2018, Algorithm 1, option II; `part` is their beta. The weights are ignored. Differs: the product
    is taken as written in decimals (0.29 of 100 is 29, though 28.999... in floating point). Part 0 is the plain mean;
    a part above 0 that drops nobody from the planned cohort is refused, as it would defend nothing.
    """

    part: Part = 0.1
    kind: Literal["trimmed-mean"] = "trimmed-mean"

    def check(self, m: int, error: type[FedlensError] = ConfigurationError) -> None:
        """Raise `error` for a cohort of `m` that is too small to drop anybody from."""
        enough(m, 1, self.kind, error=error)
        if self.part and not self._dropped(m):
            do = f"Set part to {math.ceil(1000 / m) / 1000:g} or more, or to 0." if m > 2 else ""
            enough(m, max(3, math.ceil(1 / self.part - 1e-9)), self.kind, f" for part = {self.part:g}", do, error)

    def reduce(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """[P] of `vectors` [m, P]; `weights` [m] are ignored. Any m >= 1 will do: a client that fails is no fault."""
        m = len(vectors)
        enough(m, 1, self.kind, error=RunError)
        drop = self._dropped(m)
        return by_columns(lambda part: part.sort(dim=0).values[drop : m - drop].mean(dim=0), vectors)

    def _dropped(self, m: int) -> int:
        return min(math.floor(self.part * m + 1e-9), (m - 1) // 2)


@settings
class GeometricMedian:
    """The point z with the least sum of w_i ||z - x_i||, found by smoothed Weiszfeld steps from the weighted mean.

    Source: Pillutla et al. 2022 (RFA), the smoothed Weiszfeld algorithm: z becomes the mean with weights
    w_i / max(eps, ||z - x_i||); `eps` is their nu, in the units of the uploads. Differs: it stops before `iterations`
    once a step is shorter than eps, where their code watches the objective. It holds while less than half of the
    weight, not of the clients, is in wrong hands.
    """

    iterations: Count = 50
    eps: Positive = 1e-6
    kind: Literal["geometric-median"] = "geometric-median"

    def check(self, m: int, error: type[FedlensError] = ConfigurationError) -> None:
        """Raise `error` for a cohort of `m` that is too small."""
        enough(m, 1, self.kind, error=error)

    def reduce(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """[P] of finite `vectors` [m, P] and `weights` [m]."""
        z = mean_of(vectors, weights)
        for _ in range(self.iterations):
            distances = torch.stack([_norm(vector - z) for vector in vectors])  # one row at a time: no second [m, P]
            before, z = z, mean_of(vectors, weights.to(distances) / distances.clamp(min=self.eps))
            if _norm(z - before) < self.eps:
                break
        return z


@settings
class NormClip:
    """The weighted mean of uploads that are longer than `norm` no more: x_i min(1, norm / ||x_i||).

    Source: Sun et al. 2019, norm thresholding. `norm` is in the units of the uploads, an l2 norm of the
    whole model. Differs: None takes the median of the cohort's norms, which fewer than half cannot move anywhere.
    """

    norm: Positive | None = None
    kind: Literal["norm-clip"] = "norm-clip"

    def check(self, m: int, error: type[FedlensError] = ConfigurationError) -> None:
        """Raise `error` for a cohort of `m` that is too small."""
        enough(m, 1, self.kind, error=error)

    def reduce(self, vectors: Tensor, weights: Tensor) -> Tensor:
        """[P] of finite `vectors` [m, P] and `weights` [m]."""
        self.check(len(vectors), RunError)
        norms = torch.stack([_norm(vector) for vector in vectors])
        limit = middle(norms.sort().values) if self.norm is None else norms.new_tensor(self.norm)
        total = Sum()
        for vector, length, weight in zip(vectors, norms, weights.tolist(), strict=True):
            total.add(vector if length <= limit else vector * (limit / length).item(), weight)
        return total.mean()


def middle(ordered: Tensor) -> Tensor:
    """The median [...] of what is sorted along the first dimension, [m, ...]; the mean of the middle two for even m."""
    m = len(ordered)
    return ordered[(m - 1) // 2] if m % 2 else (ordered[m // 2 - 1] + ordered[m // 2]) / 2


def _norm(vector: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(vector, dtype=torch.float64)
    return length
