"""What travels, in how many bytes: codecs by name, one for each way, and error feedback."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor

from fedlens.server.codec import QSGD, BFloat16, Float16, Plain, Sign, TopK
from fedlens.settings import settings
from fedlens.short import spelled_out

CASTS: dict[str, type] = {"none": Plain, "float16": Float16, "bfloat16": BFloat16}
CODECS: dict[str, type] = {**CASTS, "qsgd": QSGD, "top-k": TopK, "sign": Sign}

AnyCast = Annotated[
    Plain | Float16 | BFloat16,
    Field(discriminator="kind"),
    BeforeValidator(lambda value: spelled_out(value, CASTS, "codec for the model")),
]
AnyCodec = Annotated[
    Plain | Float16 | BFloat16 | QSGD | TopK | Sign,
    Field(discriminator="kind"),
    BeforeValidator(lambda value: spelled_out(value, CODECS, "codec")),
]


@settings
class Communication:
    """`up`: how a client's update is encoded. `down`: how the model is.

    Down goes the model itself, not a difference: without most of its entries, or with nothing but their signs, it would
    be no model, so `down` is none, float16 or bfloat16.

    `error_feedback`: what an upload lost is added to the client's next one (see with_feedback). It costs one vector [T]
    of memory for every client that took part, and is stale where clients are sampled: what is added was lost at an
    older model, rounds ago, or is never sent at all. With `up` none there is nothing to add.
    """

    up: AnyCodec = Plain()
    down: AnyCast = Plain()
    error_feedback: bool = True

    @model_validator(mode="after")
    def _what_is_left_over_stays_bounded(self) -> Communication:
        if self.remembers and isinstance(self.up, QSGD) and self.up.variance >= 1:
            least = math.isqrt(self.up.bucket) + 1
            raise ValueError(
                f"with error feedback, qsgd of {self.up.levels} levels in buckets of {self.up.bucket} may lose more"
                f" than it sends, visit after visit: its variance bound is {self.up.variance:.3g}, not below 1;"
                f" set error_feedback = false (qsgd has no bias to correct), or levels to {least} or more"
            )
        return self

    @property
    def remembers(self) -> bool:
        """Whether every client keeps a residual [T] from visit to visit."""
        return self.error_feedback and not isinstance(self.up, Plain)


def with_feedback(
    codec: AnyCodec, vector: Tensor, residual: Tensor | None, rng: np.random.Generator
) -> tuple[bytes, Tensor, Tensor]:
    """The payload of e + v, what the server reads in it, and what was lost, the next e: all [T]; `residual` is e.

    Source: Seide et al. 2014; Karimireddy et al. 2019, Algorithm 2 (EF-SGD): p = v + e; send C(p); e = p - C(p). The
    first e of a client is 0 (None). All that was read and the last e add up to all that was to be sent.
    """
    whole = vector if residual is None else vector + residual
    payload = codec.encode(whole, rng)
    read = codec.decode(payload, len(whole), whole)
    return payload, read, whole - read
