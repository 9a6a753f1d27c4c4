"""The contract of a method: a value of pure functions over flat vectors [..., P]."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from fedlens.local.settings import Local

Upload = Mapping[str, Tensor]


def send_update(trained: Tensor, start: Tensor) -> Upload:
    """Delta_i = w_i - w, for parameters and buffers alike."""
    return {"update": trained - start}


def add_update(model: Tensor, reduced: Upload) -> Tensor:
    """w + mean of Delta_i."""
    return model + reduced["update"]


def any_local(local: Local) -> None:
    """Accept every local work."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One federated algorithm.

    `finish` (trained w_i, start w) -> upload, after a client's last step; every named vector of an upload is reduced
    over the cohort, and one of them is called "update". `aggregate` (w, reduced upload) -> next w. `check` raises
    ValueError ("what; what to do") for local work that the method's definition excludes. `settings` are its
    hyperparameters, as they stand in the TOML file.
    """

    name: str
    source: str
    settings: Mapping[str, float] = field(default_factory=dict)
    finish: Callable[[Tensor, Tensor], Upload] = send_update
    aggregate: Callable[[Tensor, Upload], Tensor] = add_update
    check: Callable[[Local], None] = any_local
