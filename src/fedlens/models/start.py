"""Values to start from, read from a file, and parameters that take no gradient.

The file is taken strictly: every name is in both model and file and has one shape, or the user has called it fresh.
Anything milder fails in silence: a resnet56 file holds every name of a resnet20.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from fedlens.errors import ConfigurationError, Problem, nearest
from fedlens.models.settings import Model

START, FRESH, FREEZE = "model.start", "model.fresh", "model.freeze"
SHOWN = 4  # names that a message lists before it counts the rest


def started(module: nn.Module, model: Model) -> nn.Module:
    """`module` with the values of `model.start` and without gradients where `model.freeze` says; changed in place.

    Values are converted to the module's dtypes. Integer buffers that the file lacks stay as they are. Raises
    ConfigurationError with all problems at once, and changes nothing then.
    """
    state = {name: value for name, value in module.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}
    values, problems = ({}, []) if model.start is None else _taken(state, model.start, model.fresh)
    frozen, others = _frozen(module, model.freeze)
    if problems or others:
        raise ConfigurationError.of([*problems, *others])
    with torch.no_grad():
        for name, value in values.items():
            state[name].copy_(value)
    for parameter in frozen:
        parameter.requires_grad_(False)
    return module


def lasting(model: Model) -> Model:
    """`model` with links in `start` followed: what `runs/latest` points to changes with the next run."""
    if model.start is None:
        return model
    path = Path(model.start).expanduser()
    real = os.path.realpath(path)
    return replace(model, start=real if path.is_absolute() else os.path.relpath(real))


def _taken(state: Mapping[str, Tensor], start: str, fresh: Sequence[str]) -> tuple[dict[str, Tensor], list[Problem]]:
    """The values in the file `start` by names of `state`, and what is wrong with them."""
    saved = _read(Path(start).expanduser())
    problems = _idle(FRESH, fresh, {**state, **saved}, "the model or the file")
    wanted = {name: value for name, value in state.items() if not _matches(name, fresh)}
    given = {name: value for name, value in saved.items() if not _matches(name, fresh)}
    if not wanted.keys() & given.keys():
        seen = f"the file has {_names(sorted(saved)) or 'no names'}; the model has {_names(state)}"
        do = "Give a state dict of this model, such as the model.safetensors of a finished run."
        do = do if wanted else "Take names off model.fresh, which covers the whole model."
        return {}, [*problems, Problem("nothing can be taken from the file", START, seen, do)]
    taken = {name: given[name].to(value.dtype) for name, value in wanted.items() if name in given}
    problems += _missing(wanted, given) + _extra(wanted, given)
    problems += _unlike({name: (wanted[name], given[name], taken[name]) for name in taken})
    return taken, problems


def _missing(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[Problem]:
    there = {id(value) for name, value in wanted.items() if name in given}  # a tensor may have a second name
    floats = [name for name, value in wanted.items() if value.is_floating_point() and id(value) not in there]
    if not floats:
        return []
    do = f"Give a file of this model, or add to model.fresh: {_example(floats, wanted.keys() & given.keys())}."
    return [Problem("the file lacks names of the model", START, _names(floats), do)]


def _extra(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[Problem]:
    extra = sorted(given.keys() - wanted.keys())
    if not extra:
        return []
    do = f"Give a file of this model, or add to model.fresh: {_example(extra, wanted)}."
    return [Problem("the file has names that the model lacks", START, _names(extra), do)]


def _unlike(pairs: Mapping[str, tuple[Tensor, Tensor, Tensor]]) -> list[Problem]:
    """Names whose tensors (the model's, the file's, the file's in the model's dtype) do not go together."""
    problems = []
    shapes = [name for name, (ours, theirs, _) in pairs.items() if ours.shape != theirs.shape]
    if shapes:
        told = [f"{name}: {list(pairs[name][1].shape)}, in the model {list(pairs[name][0].shape)}" for name in shapes]
        do = f"Give a file of this model, or add to model.fresh: {_example(shapes, pairs.keys() - set(shapes))}."
        problems.append(Problem("shapes in the file differ from the model's", START, _names(told, "; "), do))
    kinds = [
        name for name, (ours, theirs, _) in pairs.items() if ours.is_floating_point() != theirs.is_floating_point()
    ]
    if kinds:
        told = [f"{name}: {pairs[name][1].dtype}, in the model {pairs[name][0].dtype}" for name in kinds]
        do = "Save parameters as floating numbers, and counts as whole ones."
        problems.append(Problem("numbers in the file are of another kind", START, _names(told, "; "), do))
    wild = [name for name, (_, _, taken) in pairs.items() if not bool(taken.isfinite().all())]
    if wild:
        do = "Give a file of finite values; training that diverged leaves such as these."
        problems.append(Problem("values in the file are not finite", START, _names(wild), do))
    return problems


def _frozen(module: nn.Module, patterns: Sequence[str]) -> tuple[list[nn.Parameter], list[Problem]]:
    """The parameters that `patterns` name, and what is wrong with the patterns."""
    named = dict(module.named_parameters(remove_duplicate=False))
    buffers = dict(module.named_buffers())
    idle = {pattern for pattern in patterns if not _matched(pattern, named) and _matched(pattern, buffers)}
    do = "Name parameters, or take it away."
    problems = [Problem(f"'{one}' names only buffers, which no gradient moves", FREEZE, "", do) for one in sorted(idle)]
    problems += _idle(FREEZE, [pattern for pattern in patterns if pattern not in idle], named, "the model's parameters")
    frozen = [parameter for name, parameter in named.items() if _matches(name, patterns)]
    chosen = {id(parameter) for parameter in frozen}
    if frozen and not any(p.requires_grad and id(p) not in chosen for p in named.values()):
        problems.append(Problem("nothing is left to train", FREEZE, _names(patterns), "Freeze fewer parameters."))
    return frozen, problems


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if not path.is_file():
            raise _absent(path)
        return load_file(path)
    except SafetensorError as error:
        do = "Copy it again if it is cut off; write other formats anew with safetensors.torch.save_file."
        raise ConfigurationError("not a whole safetensors file", where=START, seen=f"{path}: {error}", do=do) from None
    except OSError as error:
        do = "Mend its permissions, or give another file."
        raise ConfigurationError("the file cannot be read", where=START, seen=error, do=do) from None


def _absent(path: Path) -> ConfigurationError:
    folder = path.is_dir()
    what = "a folder is no file to start from" if folder else "there is no such file"
    beside, name = (path, "model.safetensors") if folder else (path.parent, path.name)
    near = nearest(name, [entry.name for entry in beside.glob("*.safetensors")])
    do = "Give a safetensors file, such as the model.safetensors of a finished run."
    return ConfigurationError(what, where=START, seen=path, do=f"Did you mean '{beside / near}'?" if near else do)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _matched(pattern: str, names: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names)


def _idle(where: str, patterns: Iterable[str], names: Collection[str], whose: str) -> list[Problem]:
    """A problem for each pattern that matches no name."""
    groups = {name[: at + 1] + "*" for name in names for at, letter in enumerate(name) if letter == "."}
    problems = []
    for pattern in patterns:
        if not _matched(pattern, names):
            near = nearest(pattern, sorted([*names, *groups]))
            do = f"Did you mean '{near}'?" if near else f"There are: {_names(sorted(groups or names))}."
            problems.append(Problem(f"'{pattern}' matches no name of {whose}", where, "", do))
    return problems


def _example(names: Sequence[str], others: Collection[str]) -> str:
    """Patterns, as they stand in a file, that cover `names` and none of `others`."""
    patterns: dict[str, None] = {}
    for name in names:
        group = name.rpartition(".")[0] + ".*"
        fits = group != ".*" and not _matched(group, others)
        patterns[group if fits else name] = None
    listed = ", ".join(f'"{pattern}"' for pattern in list(patterns)[:SHOWN])
    return listed + (", ..." if len(patterns) > SHOWN else "")


def _names(names: Iterable[str], between: str = ", ") -> str:
    listed = list(names)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return between.join(listed[:SHOWN]) + more
