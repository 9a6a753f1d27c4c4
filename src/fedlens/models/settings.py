"""Which network, where it starts and what of it trains, as the user writes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator

from fedlens.settings import Count, Fraction, settings

Norm = Literal["batch", "group", "layer", "none"]


def _several(value: Any) -> Any:
    """One pattern alone is a list of one, as `--set model.freeze=conv1.*` gives it."""
    return (value,) if isinstance(value, str) else value


Patterns = Annotated[tuple[str, ...], BeforeValidator(_several)]


@settings
class Model:
    """The network that every client trains.

    `name` is one of MODELS, or `package.module:function` of the user's own, which gives an `nn.Module`. `norm` is what
    stands after the convolutions (None: the model's own default): batch (Ioffe and Szegedy 2015), group (Wu and He
    2018, in `groups` groups of channels), layer (one group over channels, height and width), none. `dropout` is the
    probability of zeroing an input of the last layer.

    `start`: a safetensors file with the values to start from, by name. `fresh`: names that are not taken from it, in
    the model or in the file. `freeze`: parameters that take no gradient. Both are patterns over whole names, such as
    "head.*", in which * stands for anything, dots included, and ? for one character.
    """

    name: str = "resnet8"
    norm: Norm | None = None
    groups: Count = 8
    dropout: Fraction = 0.0
    start: str | None = None
    fresh: Patterns = ()
    freeze: Patterns = ()

    @model_validator(mode="after")
    def _fresh_needs_a_start(self) -> Model:
        if self.fresh and self.start is None:
            raise ValueError("fresh has no effect without start: all values are fresh; set model.start, or drop fresh")
        return self
