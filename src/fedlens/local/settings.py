"""What a client does with the model it receives, as the user writes it."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import model_validator

from fedlens.settings import Count, Fraction, NonNegative, Positive, settings


@settings
class Schedule:
    """The learning rate's factor over rounds.

    constant; step (times `gamma` after every `every` rounds); cosine (from 1 to 0 over the run; Loshchilov and Hutter
    2017 without restarts). `warmup` rounds first rise linearly from 1/(warmup+1).
    """

    kind: Literal["constant", "step", "cosine"] = "constant"
    every: Count = 30
    gamma: Positive = 0.1
    warmup: int = 0

    @model_validator(mode="after")
    def _warmup_is_not_negative(self) -> Schedule:
        if self.warmup < 0:
            raise ValueError(f"warmup = {self.warmup} is negative; set 0 or more rounds")
        return self

    def factor(self, round: int, rounds: int) -> float:
        """The factor in round `round` of `rounds`, both counted from 1."""
        if round <= self.warmup:
            return round / (self.warmup + 1)
        done = round - 1 - self.warmup
        if self.kind == "step":
            return float(self.gamma ** (done // self.every))
        if self.kind == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done / max(1, rounds - self.warmup)))
        return 1.0


@settings
class Local:
    """One client's work in one round.

    `epochs` passes over its examples in batches of `batch` ("all": one batch), or `steps` batches when that is set. The
    last short batch of a pass is kept. `weight_decay` is decoupled: every step also takes rate * weight_decay * w off
    the weights (Loshchilov and Hutter 2019), for every optimiser alike. `clip_norm` bounds the global gradient norm.
    `scale_lr_by_size`: the rate is multiplied by n_i / (mean n) of the client, as source 002 meant it; the factor is
    applied afresh each round and never compounds. `keep_optimizer`: momentum and Adam's moments stay with the client
    from visit to visit; by default they start from zero each round. `freeze_statistics_from`: from this part of the
    rounds on (0: always), batch norm normalises by the running statistics as received and leaves them alone (FixBN:
    Zhong et al. 2023). None: never.
    """

    epochs: Count = 1
    batch: Count | Literal["all"] = 10
    steps: Count | None = None
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: Positive = 0.05
    momentum: Fraction = 0.0
    nesterov: bool = False
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.0
    clip_norm: Positive | None = None
    schedule: Schedule = Schedule()
    scale_lr_by_size: bool = False
    keep_optimizer: bool = False
    freeze_statistics_from: Fraction | None = None

    @model_validator(mode="after")
    def _options_belong_to_the_optimizer(self) -> Local:
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(f"momentum = {self.momentum} has no effect with {self.optimizer}; set betas, or use sgd")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum; set momentum, for example 0.9")
        return self

    def rate(self, round: int, rounds: int, size_factor: float = 1.0) -> float:
        """The learning rate of a client in `round` of `rounds`; `size_factor` is n_i over the mean n."""
        factor = size_factor if self.scale_lr_by_size else 1.0
        return self.lr * self.schedule.factor(round, rounds) * factor

    def batch_size(self, examples: int) -> int:
        """B for a client of `examples` examples."""
        return examples if self.batch == "all" else min(self.batch, examples)

    def step_count(self, examples: int) -> int:
        """K_i: the optimiser steps of a client of `examples` examples in one round."""
        return self.steps or self.epochs * math.ceil(examples / self.batch_size(examples))

    def freezes_statistics(self, round: int, rounds: int) -> bool:
        """Whether running statistics are held fixed in `round` (from 1) of `rounds`."""
        return self.freeze_statistics_from is not None and round > int(self.freeze_statistics_from * rounds)
