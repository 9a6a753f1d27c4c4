"""From settings to a module that is known to take the images and to give one logit a class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from fedlens.errors import ConfigurationError, nearest
from fedlens.models.norm import batch_norms, swap_norm
from fedlens.models.probe import outputs_of, weightless
from fedlens.models.settings import Model, Norm
from fedlens.own import call

WHERE = "model.name"


class Builder(Protocol):
    """Makes a network for images [N, *shape]. With `norm` it stands with BatchNorm, which is swapped afterwards."""

    def __call__(self, shape: tuple[int, ...], classes: int, *, norm: bool, dropout: float) -> nn.Module: ...


@dataclass(frozen=True)
class Entry:
    """One line of the table: the maker, its own norm, the shape it was made for, the least side it takes, its story."""

    builder: Builder
    norm: Norm
    shape: tuple[int, int, int]
    smallest: int
    about: str


def assemble(table: Mapping[str, Entry], model: Model, shape: tuple[int, ...], classes: int) -> nn.Module:
    """The network of `model` for images [N, *shape] and `classes` classes; see `fedlens.models.build`."""
    shape = tuple(shape)  # a torch.Size would be told as one
    if any(side < 1 for side in shape) or classes < 1:
        seen = f"shape {shape}, {classes} classes"
        raise ConfigurationError("no model takes such images", where=WHERE, seen=seen, do="Give positive numbers.")
    if ":" in model.name:
        return _own(model, shape, classes)
    entry = _entry(table, model.name)
    if len(shape) != 3 or min(shape[1:]) < entry.smallest:
        raise _too_small(table, model.name, shape)
    kind = model.norm or entry.norm
    module = entry.builder(shape, classes, norm=kind != "none", dropout=model.dropout)
    module = swap_norm(module, kind, model.groups)
    _check(weightless(module), model.name, shape, classes)
    return module


def _entry(table: Mapping[str, Entry], name: str) -> Entry:
    if name in table:
        return table[name]
    guess = nearest(name, table)
    choices = f"One of: {', '.join(table)}; or package.module:function."
    do = f"Did you mean '{guess}'? {choices}" if guess else choices
    raise ConfigurationError(f"there is no model '{name}'", where=WHERE, do=do)


def _own(model: Model, shape: tuple[int, ...], classes: int) -> nn.Module:
    if model.dropout:
        do = "Put nn.Dropout into your network and leave dropout at 0."
        what = f"dropout is for the built-in models; '{model.name}' would ignore it"
        raise ConfigurationError(what, where="model.dropout", seen=model.dropout, do=do)
    module = call(model.name, WHERE, {"shape": shape, "classes": classes})
    if not isinstance(module, nn.Module):
        do = "Return the network itself, an object of torch.nn.Module."
        what = f"'{model.name}' did not return a torch.nn.Module"
        raise ConfigurationError(what, where=WHERE, seen=f"{type(module).__name__}: {module!r:.60}", do=do)
    if model.norm is not None:
        if model.norm != "none" and not batch_norms(module):
            do = "Leave norm unset, or write nn.BatchNorm layers where norm layers should stand."
            what = f"'{model.name}' has no BatchNorm layer to put {model.norm} normalisation in place of"
            raise ConfigurationError(what, where="model.norm", seen=f"norm = {model.norm}", do=do)
        module = swap_norm(module, model.norm, model.groups)
    _check(module, model.name, shape, classes)  # with values: lazy layers take their shape, and any forward works
    return module


def _check(module: nn.Module, name: str, shape: tuple[int, ...], classes: int) -> None:
    """Two images through the network must give [2, classes]."""
    try:
        outputs = outputs_of(module, shape)
    except Exception as error:
        do = "Change the model's layers to this shape (C, H, W), or choose another model."
        seen = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        what = f"model '{name}' cannot take images of shape {shape}"
        raise ConfigurationError(what, where=WHERE, seen=seen, do=do) from error
    if isinstance(outputs, Tensor) and tuple(outputs.shape) == (2, classes):
        return
    seen = f"shape {list(outputs.shape)} for 2 images" if isinstance(outputs, Tensor) else type(outputs).__name__
    do = f"Return one tensor of logits [N, {classes}] from forward."
    raise ConfigurationError(f"model '{name}' does not give one logit a class", where=WHERE, seen=seen, do=do)


def _too_small(table: Mapping[str, Entry], name: str, shape: tuple[int, ...]) -> ConfigurationError:
    what = f"model '{name}' cannot take images of shape {shape}"
    least = table[name].smallest
    if len(shape) != 3:
        return ConfigurationError(what, where=WHERE, do="Give images as (C, H, W), or use package.module:function.")
    fitting = ", ".join(key for key, entry in table.items() if entry.smallest <= min(shape[1:]))
    do = f"Give images of {least} x {least} pixels or more, or choose one of: {fitting}."
    return ConfigurationError(what, where=WHERE, seen=f"{shape[1]} x {shape[2]} pixels", do=do)
