"""States and uploads in whatever form an author has them, read as names and tensors and written back in that form."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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
    if isinstance(value, np.ndarray | np.generic | float | int):
        return torch.from_numpy(np.array(value))
    raise Unreadable(f"a {type(value).__name__} where a tensor or an array should stand")


def read_state(raw: Any, names: Sequence[str] = ()) -> dict[str, Tensor]:
    """`raw` by name: a mapping, a module, or a sequence in the order of `names` (numbered where there are none)."""
    if isinstance(raw, nn.Module):
        raw = raw.state_dict()
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
        return {name: value.clone() for name, value in state.items()}
    if isinstance(like, Mapping):
        return _mapping(like, {n: _alike(v, next(iter(like.values()), v)) for n, v in state.items()})
    if isinstance(like, Sequence):
        first = like[0] if len(like) else torch.zeros(0)
        written = [_alike(value, first) for value in state.values()]
        return tuple(written) if isinstance(like, tuple) else written
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
    if isinstance(raw, tuple | list) and 2 <= len(raw) <= 3 and _number(raw[1]) and not _number(raw[0]):
        metrics = raw[2] if len(raw) == 3 and isinstance(raw[2], Mapping) else {}
        told = {str(key): float(value) for key, value in metrics.items() if _number(value)}
        return Read(Upload(read_state(raw[0], names), float(raw[1]), told), raw)
    if isinstance(raw, Mapping) and (key := next((k for k in STATE if k in raw), None)) and not _number(raw[key]):
        count = next((float(raw[k]) for k in EXAMPLES if k in raw and _number(raw[k])), examples)
        return Read(Upload(read_state(raw[key], names), 1.0 if count is None else count), raw)
    count = next((float(getattr(raw, k)) for k in EXAMPLES if _number(getattr(raw, k, None))), examples)
    return Read(Upload(read_state(raw, names), 1.0 if count is None else count), raw)


def write_upload(upload: Upload, like: Any) -> Any:
    """`upload` in the form of `like`, an upload of the author's."""
    if isinstance(like, Upload):
        return Upload(write_state(upload.state, like.state), upload.examples, upload.metrics)
    count = int(upload.examples) if float(upload.examples).is_integer() else upload.examples
    if isinstance(like, tuple | list) and 2 <= len(like) <= 3 and _number(like[1]) and not _number(like[0]):
        written = (write_state(upload.state, like[0]), count, *like[2:])
        return type(like)(written) if type(like) in (tuple, list) else type(like)(*written)
    if isinstance(like, Mapping) and (key := next((k for k in STATE if k in like), None)) and not _number(like[key]):
        counts = {k: count for k in EXAMPLES if k in like and _number(like[k])}
        return _mapping(like, {**like, key: write_state(upload.state, like[key]), **counts})
    if isinstance(like, Mapping | Sequence | Tensor | np.ndarray | nn.Module):
        return write_state(upload.state, like)
    key = _attribute(like, STATE)
    counts = {k: count for k in EXAMPLES if _number(getattr(like, k, None))}
    return _replaced(like, {key: write_state(upload.state, getattr(like, key)), **counts})


def _number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int | float | np.number) or (isinstance(value, Tensor) and value.dim() == 0)


def _mapping(like: Mapping[str, Any], items: dict[str, Any]) -> Any:
    return items if type(like) is dict else type(like)(items) if isinstance(like, dict) else items


def _alike(value: Tensor, like: Any) -> Any:
    return value.clone() if isinstance(like, Tensor) else value.numpy().copy()


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
    fresh = object.__new__(type(like))
    fresh.__dict__.update({**vars(like), **values})
    return fresh
