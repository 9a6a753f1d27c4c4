"""States and uploads in whatever form an author has them, read as names and tensors and written back in that form."""

from __future__ import annotations

import copy
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fedlens.diagnosis.job import State, Upload

STATE = ("state", "weights", "parameters", "params", "update", "delta", "arrays", "state_dict", "tensors")
EXAMPLES = ("examples", "num_examples", "n", "num_samples", "samples", "count", "weight", "size")


class Unreadable(Exception):
    """What was given is no state or upload."""


def tensor(value: Any) -> Tensor:
    """`value` as a tensor of its own on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, bytes):  # as Flower sends arrays
        value = np.load(io.BytesIO(value), allow_pickle=False)
    if isinstance(value, np.ndarray | np.generic | float | int):
        return torch.from_numpy(np.array(value))
    if isinstance(value, list):
        return torch.tensor(value)
    raise Unreadable(f"a {type(value).__name__} where a tensor or an array should stand")


def read_state(raw: Any, names: Sequence[str] = ()) -> dict[str, Tensor]:
    """`raw` by name: a mapping, a module, or a sequence in the order of `names` (numbered where there are none)."""
    if isinstance(raw, nn.Module):
        raw = raw.state_dict()
    if hasattr(raw, "_asdict") and not names:
        raw = raw._asdict()
    if isinstance(raw, Mapping):
        return {str(name): tensor(value) for name, value in raw.items()}
    if isinstance(raw, Sequence) and not isinstance(raw, str | bytes):
        if names and len(raw) != len(names):
            raise Unreadable(f"{len(raw)} arrays where the first model has {len(names)}")
        return {name: tensor(value) for name, value in zip(names or map(str, range(len(raw))), raw, strict=True)}
    if isinstance(raw, Tensor | np.ndarray):
        return {names[0] if len(names) == 1 else "vector": tensor(raw)}
    for attribute in STATE:
        if hasattr(raw, attribute):
            inside = getattr(raw, attribute)
            return read_state(inside() if callable(inside) else inside, names)
    raise Unreadable(f"a {type(raw).__name__} where a state should stand")


def write_state(state: State, like: Any) -> Any:
    """`state` in the form of `like`: fresh tensors or arrays that nobody else holds."""
    if isinstance(like, nn.Module):
        made = copy.deepcopy(like)
        made.load_state_dict({name: value.clone() for name, value in state.items()}, strict=False)
        return made
    if isinstance(like, Mapping):
        first = next(iter(like.values()), torch.zeros(0))
        return _mapping(like, {name: _alike(value, like.get(name, first)) for name, value in state.items()})
    if isinstance(like, Sequence):
        same = len(like) == len(state)
        forms = like if same else [like[0] if len(like) else torch.zeros(0)] * len(state)
        written = [_alike(value, form) for value, form in zip(state.values(), forms, strict=True)]
        if isinstance(like, tuple):
            return type(like)(*written) if hasattr(like, "_fields") and same else tuple(written)
        return written
    if isinstance(like, Tensor | np.ndarray):
        return _alike(next(iter(state.values())), like)
    return _replaced(like, {_attribute(like, STATE): write_state(state, getattr(like, _attribute(like, STATE)))})


class Read(NamedTuple):
    """An upload as it was read, and as its author has it."""

    upload: Upload
    raw: Any


def read_upload(raw: Any, names: Sequence[str], examples: float | None = None) -> Read:
    """`raw` as an Upload; `examples` counts where the upload does not say."""
    if isinstance(raw, Upload):
        return Read(Upload(read_state(raw.state, names), float(raw.examples), dict(raw.metrics)), raw)
    if _counted(raw):
        metrics = next((one for one in raw[2:] if isinstance(one, Mapping)), {})
        told = {str(key): float(value) for key, value in metrics.items() if _number(value)}
        return Read(Upload(read_state(raw[0], names), float(raw[1]), told), raw)
    if isinstance(raw, Mapping) and (key := next((k for k in STATE if k in raw), None)) and not _number(raw[key]):
        count = next((float(raw[k]) for k in EXAMPLES if k in raw and _number(raw[k])), examples)
        return Read(Upload(read_state(raw[key], names), 1.0 if count is None else count), raw)
    if isinstance(raw, Mapping | list | Tensor | np.ndarray):  # a state alone: what it calls size is no number of rows
        return Read(Upload(read_state(raw, names), 1.0 if examples is None else examples), raw)
    count = next((float(getattr(raw, k)) for k in EXAMPLES if _number(getattr(raw, k, None))), examples)
    inside = getattr(raw, _field(raw), raw)
    return Read(Upload(read_state(inside, names), 1.0 if count is None else count), raw)


def write_upload(upload: Upload, like: Any) -> Any:
    """`upload` in the form of `like`, an upload of the author's."""
    if isinstance(like, Upload):
        return Upload(write_state(upload.state, like.state), upload.examples, upload.metrics)
    count = int(upload.examples) if float(upload.examples).is_integer() else upload.examples
    if _counted(like):
        written = (write_state(upload.state, like[0]), count, *like[2:])
        return type(like)(written) if type(like) in (tuple, list) else type(like)(*written)
    if isinstance(like, Mapping) and (key := next((k for k in STATE if k in like), None)) and not _number(like[key]):
        counts = {k: count for k in EXAMPLES if k in like and _number(like[k])}
        return _mapping(like, {**like, key: write_state(upload.state, like[key]), **counts})
    if isinstance(like, Mapping | Sequence | Tensor | np.ndarray | nn.Module) and not _field(like):
        return write_state(upload.state, like)
    key = _attribute(like, STATE)
    counts = {k: count for k in EXAMPLES if _number(getattr(like, k, None))}
    return _replaced(like, {key: write_state(upload.state, getattr(like, key)), **counts})


def weights_or_update(current: State, sent: State) -> Literal["weights", "update"]:
    """Whether what was sent lies near the received model or near 0; weights where neither can be told."""
    floats = [n for n, v in current.items() if v.is_floating_point()]
    shared = [name for name in floats if name in sent and sent[name].shape == current[name].shape]
    along = sum(float((current[name].double() * sent[name].double()).sum()) for name in shared)
    model = math.sqrt(sum(float(current[name].double().square().sum()) for name in shared))
    length = math.sqrt(sum(float(sent[name].double().square().sum()) for name in shared))
    if not math.isfinite(along) or not model or not length:
        return "weights"
    apart = math.sqrt(sum(float((sent[n].double() - current[n].double()).square().sum()) for n in shared))
    if along > 0.3 * model * length or apart < length:
        return "weights"
    # Unrelated weights of the same network are as large as its own, entry by entry; an update hardly is.
    sizes = [(float(current[name].double().norm()), float(sent[name].double().norm())) for name in shared]
    alike = [0.5 < size / own < 2.0 for own, size in sizes if own > 0]
    return "weights" if len(alike) > 1 and all(alike) else "update"


def _number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int | float | np.number) or (isinstance(value, Tensor) and value.dim() == 0)


def _counted(raw: Any) -> bool:
    """Whether `raw` is (state, examples), with anything behind it; of arrays alone only where no more than metrics."""
    if not isinstance(raw, tuple | list) or len(raw) < 2 or _number(raw[0]) or not _number(raw[1]):
        return False
    return len(raw) <= 3 or isinstance(raw[0], Mapping | Sequence)


def _field(raw: Any) -> str:
    """The field of a named tuple that holds a state; "" for anything else."""
    return next((name for name in STATE if name in getattr(raw, "_fields", ())), "")


def _mapping(like: Mapping[str, Any], items: dict[str, Any]) -> Any:
    if not isinstance(like, dict):
        return items
    fresh = copy.copy(like)  # some of them are not made from items alone
    fresh.clear()
    fresh.update(items)
    return fresh


def _alike(value: Tensor, like: Any) -> Any:
    if isinstance(like, Tensor):
        return value.to(like.device, copy=True)
    if isinstance(like, list) or (isinstance(like, int | float) and not value.dim()):
        return value.tolist()
    if isinstance(like, bytes):
        np.save(kept := io.BytesIO(), value.numpy(), allow_pickle=False)
        return kept.getvalue()
    return value.numpy().copy()


def _attribute(like: Any, names: Sequence[str]) -> str:
    found = next((name for name in names if hasattr(like, name) and not callable(getattr(like, name))), None)
    if found is None:
        raise Unreadable(f"a {type(like).__name__} that nothing can be written into")
    return found


def _replaced(like: Any, values: dict[str, Any]) -> Any:
    if dataclasses.is_dataclass(like) and not isinstance(like, type):
        return dataclasses.replace(like, **values)
    if isinstance(like, tuple) and hasattr(like, "_replace"):
        return like._replace(**values)
    fresh = copy.copy(like)
    for name, value in values.items():
        object.__setattr__(fresh, name, value)
    return fresh
