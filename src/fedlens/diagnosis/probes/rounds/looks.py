"""What numbers look like, whoever made them: kept in a narrow type."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fedlens.diagnosis.job import State

# The one of fewer digits first: its numbers mostly fit into the other too.
NARROW = {"bfloat16": torch.bfloat16, "float16": torch.float16}
LEAST = 64  # numbers that a type is told from


def narrow(state: State, names: Sequence[str]) -> str:
    """The half precision type that all numbers of the entries `names` fit into although they are held in a wider one;
    "": they do not."""
    values = [state[name] for name in names if name in state and state[name].dtype in (torch.float32, torch.float64)]
    if not values or sum(int((value != 0).sum()) for value in values) < LEAST:
        return ""
    for kind, dtype in NARROW.items():
        if all(torch.equal(value.to(dtype).to(value.dtype), value) for value in values):
            return kind
    return ""
