"""Privacy of clients: bounded uploads and calibrated noise, so that one client cannot be told from the result.

Sources: central: McMahan et al., "Learning Differentially Private Recurrent Language Models", ICLR 2018, Algorithm 1
(DP-FedAvg with flat clipping). central-adaptive: Andrew et al., "Differentially Private Learning with Adaptive
Clipping", NeurIPS 2021, Algorithm 1 and Theorem 1. local-laplace: Dwork et al., TCC 2006, each client by itself.

What is protected is all that one client uploads in one round, taken together. One upload name or layer clipped by
itself would let a client count once for each of them. Whatever else leaves a client (running statistics, counts of
examples, losses) is not covered. The noise repeats with the seed of the run and is drawn in floating point: made to
study privacy, not to release a model with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor

from fedlens.errors import ConfigurationError, RunError
from fedlens.settings import NonNegative, Positive, settings
from fedlens.short import spelled_out

Vectors = Mapping[str, Tensor]
Order = Literal[1, 2]
Quantile = Annotated[float, Field(gt=0, lt=1, strict=True)]
Rate = Annotated[float, Field(gt=0, le=1, strict=True)]


@settings
class Central:
    """Clip every client's uploads, all names together, to an L2 norm of `clip`; add N(0, (noise * clip)^2) to each
    coordinate of their sum; divide by the expected number of clients, m. The server sees uploads without noise.

    Source: McMahan et al. 2018, Algorithm 1; `clip` is their S, `noise` their z. A client moves the sum by at most
    `clip` when it comes or goes, by 2 * clip when it is replaced by another.
    Differs from the paper: every client has weight 1, and the cohort may be m clients drawn without replacement where
    the paper draws each client by itself; an accountant has to know which.
    """

    noise: NonNegative
    clip: Positive
    kind: Literal["central"] = "central"

    def check(self, expected: int) -> None:
        """Accept every number of clients."""

    def client(self, upload: Vectors, clip: float, rng: np.random.Generator) -> tuple[dict[str, Tensor], bool]:
        """One client's upload as it is summed, and whether it was within `clip`. Draws nothing from `rng`."""
        return clipped(upload, clip, 2)

    def server(self, sums: Vectors, expected: int, clip: float, rng: np.random.Generator) -> dict[str, Tensor]:
        """What stands for the mean upload, given the unweighted `sums` of a round and the `expected` clients."""
        return gaussian_mean(sums, expected, self.noise * clip, rng)

    def next_clip(self, clip: float, within: Sequence[bool], expected: int, rng: np.random.Generator) -> float:
        """`clip`."""
        return clip


@settings
class CentralAdaptive:
    """As Central, with a bound that follows the `target` quantile of the clients' norms, starting from `clip`.

    Source: Andrew et al. 2021, Algorithm 1; `noise` is their z, the multiplier of a round's whole release, which is
    what an accountant takes. The sum gets z_delta = noise_on_sum(noise, count_noise), the count of clients within the
    bound gets `count_noise`, their sigma_b, in clients (None: m / 20; 0 where `noise` is 0). `clip_lr` is their eta_C.
    Differs from the paper: as Central does, and the count is taken of b_i - 1/2, which their proof of Theorem 1 needs
    and their listing leaves out. It is the same when all m answer; a client that fails then moves the bound in neither
    direction.
    """

    noise: NonNegative
    clip: Positive = 0.1
    target: Quantile = 0.5
    clip_lr: Rate = 0.2
    count_noise: NonNegative | None = None
    kind: Literal["central-adaptive"] = "central-adaptive"

    @model_validator(mode="after")
    def _the_count_leaves_room(self) -> CentralAdaptive:
        if self.count_noise is not None:
            noise_on_sum(self.noise, self.count_noise)
        return self

    def check(self, expected: int) -> None:
        """Raise ConfigurationError where so few `expected` clients cannot be counted privately."""
        deviation, where = self.count_deviation(expected), "privacy.mechanism.count_noise"
        if self.noise and self.noise >= 2 * deviation:
            raise ConfigurationError(
                f"counting the clients within the bound would take more privacy than noise = {self.noise:g} has",
                where=where,
                seen=f"count_noise = m / 20 = {deviation:g} for m = {expected} clients a round",
                do=f"Set count_noise above {self.noise / 2:g}, or let {math.floor(10 * self.noise) + 1} or more "
                "clients take part.",
            )
        if deviation > expected:
            what = "the noise on the count of clients is larger than the count can be"
            seen = f"count_noise = {deviation:g} for {expected} clients a round"
            raise ConfigurationError(what, where=where, seen=seen, do="Lower count_noise, and noise with it.")

    def count_deviation(self, expected: int) -> float:
        """sigma_b, in clients."""
        default = expected / 20 if self.noise else 0.0
        return default if self.count_noise is None else self.count_noise

    def client(self, upload: Vectors, clip: float, rng: np.random.Generator) -> tuple[dict[str, Tensor], bool]:
        """One client's upload as it is summed, and whether it was within `clip`. Draws nothing from `rng`."""
        return clipped(upload, clip, 2)

    def server(self, sums: Vectors, expected: int, clip: float, rng: np.random.Generator) -> dict[str, Tensor]:
        """What stands for the mean upload, given the unweighted `sums` of a round and the `expected` clients."""
        noise = noise_on_sum(self.noise, self.count_deviation(expected))
        return gaussian_mean(sums, expected, noise * clip, rng)

    def next_clip(self, clip: float, within: Sequence[bool], expected: int, rng: np.random.Generator) -> float:
        """The bound of the next round; `within`: for each client that answered, what `client` said."""
        votes = sum(within) - len(within) / 2  # b_i - 1/2 each: a client that comes or goes moves the sum by 1/2
        noisy = votes + rng.normal(0.0, self.count_deviation(expected))
        return moved_clip(clip, 0.5 + noisy / expected, self.target, self.clip_lr)


def _mandatory(clip: Any) -> Any:
    if clip is None:
        raise ValueError(
            "local-laplace has no clip: a client may then send an upload of any size, so that the sensitivity is "
            "infinite and Laplace noise gives no privacy at all; set clip, the L1 norm that a client's upload is "
            "clipped to"
        )
    return clip


@settings
class LocalLaplace:
    """Each client clips its uploads, all names together, to an L1 norm of `clip` and adds Laplace(2 clip / epsilon) to
    each coordinate before they leave it. No server has to be trusted; `epsilon` is spent anew in every round it joins.

    Source: the Laplace mechanism of Dwork et al. 2006. Any two uploads that a client might send are at most 2 * clip
    apart in L1, the diameter of the ball, and a local guarantee has to hide which of the two it was. An upload of T
    coordinates gets noise of L1 norm 2 T clip / epsilon on average, and itself has at most `clip`.
    Without a bound the noise hides nothing, therefore `clip` has no default and leaving it out is refused.
    """

    epsilon: Positive
    clip: Annotated[Positive, BeforeValidator(_mandatory)] = Field(default=None, validate_default=True)
    kind: Literal["local-laplace"] = "local-laplace"

    def check(self, expected: int) -> None:
        """Accept every number of clients."""

    def client(self, upload: Vectors, clip: float, rng: np.random.Generator) -> tuple[dict[str, Tensor], bool]:
        """One client's upload as it leaves it, and whether it was within `clip` before the noise."""
        bounded, within = clipped(upload, clip, 1)
        return noised(bounded, lambda size: rng.laplace(0.0, 2 * clip / self.epsilon, size)), within

    def server(self, sums: Vectors, expected: int, clip: float, rng: np.random.Generator) -> dict[str, Tensor]:
        """`sums` over the `expected` clients, as for Central. Draws nothing from `rng`."""
        return {name: total / expected for name, total in sums.items()}

    def next_clip(self, clip: float, within: Sequence[bool], expected: int, rng: np.random.Generator) -> float:
        """`clip`."""
        return clip


MECHANISMS: dict[str, type] = {"central": Central, "central-adaptive": CentralAdaptive, "local-laplace": LocalLaplace}

AnyMechanism = Annotated[
    Central | CentralAdaptive | LocalLaplace,
    Field(discriminator="kind"),
    BeforeValidator(lambda value: spelled_out(value, MECHANISMS, "privacy mechanism")),
]


def joint_norm(upload: Vectors, order: Order) -> float:
    """The L1 or L2 norm (`order`) of one client's uploads as if they were one vector, in float64."""
    parts = [torch.linalg.vector_norm(vector, ord=order, dtype=torch.float64) for vector in upload.values()]
    return float(torch.linalg.vector_norm(torch.stack(parts), ord=order))


def clipped(upload: Vectors, bound: float, order: Order) -> tuple[dict[str, Tensor], bool]:
    """One client's uploads with a joint norm of at most `bound`, and whether they had it already.

    A longer one is scaled as a whole and keeps its direction; one within the bound is not touched. Raises RunError
    where the norm is not finite: no factor would bound such an upload.
    """
    norm = joint_norm(upload, order)
    if not math.isfinite(norm):
        do = 'Lower local.lr, set local.clip_norm, or clients.on_failure = "skip".'
        raise RunError("an upload is not finite and cannot be clipped", seen=f"L{order} norm {norm}", do=do)
    if norm <= bound:
        return dict(upload), True
    # Rounding the factor and each product may lengthen the result by eps, and the norm itself was rounded.
    slack = 2 * max(torch.finfo(vector.dtype).eps for vector in upload.values()) + 1e-12
    return {name: vector * (bound / norm * (1 - slack)) for name, vector in upload.items()}, False


def noised(vectors: Vectors, draw: Callable[[int], np.ndarray]) -> dict[str, Tensor]:
    """`vectors` plus `draw(n)`, n independent float64 numbers, cast to each vector's type; by name in sorted order."""
    result = {}
    for name in sorted(vectors):  # the same noise whatever order an engine has its uploads in
        vector = vectors[name]
        result[name] = vector + torch.from_numpy(draw(vector.numel())).to(vector).view(vector.shape)
    return result


def gaussian_mean(sums: Vectors, expected: int, deviation: float, rng: np.random.Generator) -> dict[str, Tensor]:
    """(sum + N(0, deviation^2)) / expected for each coordinate.

    The divisor is fixed: the number of clients that answered would itself depend on who was there.
    """
    return {name: total / expected for name, total in noised(sums, lambda n: rng.normal(0.0, deviation, n)).items()}


def noise_on_sum(noise: float, count_noise: float) -> float:
    """z_delta, the multiplier left for the sum when a count with noise sigma_b is released beside it.

    Source: Andrew et al. 2021, Theorem 1: (z^-2 - (2 sigma_b)^-2)^(-1/2); 0 where z is 0. Raises ValueError where
    2 sigma_b <= z.
    """
    if noise == 0:
        return 0.0
    if noise >= 2 * count_noise:
        raise ValueError(
            f"count_noise = {count_noise:g} is too small: counting the clients within the bound would take more "
            f"privacy than noise = {noise:g} has; set count_noise above {noise / 2:g}"
        )
    return noise / math.sqrt(1 - (noise / (2 * count_noise)) ** 2)  # the same, without squaring 1 / z


def moved_clip(clip: float, share: float, target: float, rate: float) -> float:
    """C exp(-rate (share - target)): shorter when more than the `target` share of clients is within C.

    Source: Andrew et al. 2021, Algorithm 1, the geometric update. `share` may leave [0, 1], as it carries noise.
    """
    return clip * math.exp(-rate * (share - target))
