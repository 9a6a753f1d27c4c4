"""Experiments in TOML: read with every problem told at once by file and line, changed by --set, written back whole."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import TypeAdapter, ValidationError

from fedlens.errors import ConfigurationError, Problem, nearest
from fedlens.runs.experiment import Experiment
from fedlens.settings import problems_of

RECIPES = ("digits",)


def load_experiment(source: str | Path = "digits", changes: Sequence[str] = ()) -> Experiment:
    """The experiment in the file or recipe `source`, with `changes` ("local.lr=0.1") applied in order.

    Raises ConfigurationError with every problem that was found.
    """
    text, where = _read(source)
    try:
        plain = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        place = f"{where}:{line[1]}" if line else where
        raise ConfigurationError("not valid TOML", where=place, seen=error, do="Mend that line.") from None
    set_keys = [_apply(plain, change) for change in changes]
    return experiment_from(plain, lambda path: _place(path, text, where, set_keys))


def experiment_from(plain: dict[str, Any], place: Any = None) -> Experiment:
    """The experiment that plain values (as `Experiment.as_dict` makes them) describe."""
    try:
        return TypeAdapter(Experiment).validate_python(plain)
    except ValidationError as error:
        problems = problems_of(error, Experiment, place=place)
        raise ConfigurationError.of(problems) from None


def as_toml(experiment: Experiment) -> str:
    """The whole experiment, defaults included."""
    return tomli_w.dumps(experiment.as_dict())


def _read(source: str | Path) -> tuple[str, str]:
    path = Path(source)
    if str(source) in RECIPES and not path.is_file():
        return resources.files("fedlens").joinpath("recipes", f"{source}.toml").read_text(), f"recipe {source}"
    try:
        return path.read_text(encoding="utf-8-sig"), str(path)
    except (OSError, UnicodeDecodeError) as error:
        beside = path.parent.glob("*.toml") if path.parent.is_dir() and not path.exists() else ()
        near = nearest(path.name, [entry.name for entry in beside])
        do = (
            f"Did you mean '{path.with_name(near)}'?"
            if near
            else f"Give a TOML file, or a recipe: {', '.join(RECIPES)}."
        )
        raise ConfigurationError("cannot read the experiment", where=str(path), seen=error, do=do) from None


def _apply(plain: dict[str, Any], change: str) -> str:
    """Put KEY=VALUE into `plain`; VALUE is TOML, or text where it is not. Returns the key."""
    key, equals, value = change.partition("=")
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", key.strip()):
        raise ConfigurationError("not KEY=VALUE", where="--set", seen=change, do="Write for example --set local.lr=0.1")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    *sections, leaf = key.strip().split(".")
    inner = plain
    for section in sections:
        inner = inner.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigurationError(f"'{section}' is not a section", where="--set", seen=change)
    inner[leaf] = parsed
    return key.strip()


def _place(path: Sequence[str], text: str, where: str, set_keys: Sequence[str]) -> str:
    """File and line of the key at `path`, or the --set that brought it."""
    key = ".".join(path)
    if any(key == given or key.startswith(given + ".") for given in set_keys):
        return f"--set {key}"
    if key and (inside := [given for given in set_keys if given.startswith(f"{key}.")]):
        return f"--set {', '.join(inside)}"  # a check over several keys, of which these were set
    line = _line_of(list(path), text.split("\n"))
    return f"{where}:{line}: {key}" if line else f"{where}: {key}" if key else where


def _line_of(path: list[str], lines: list[str]) -> int:
    """The line (from 1) that sets `path`, or that opens its nearest enclosing table; 0 where none does."""
    section: list[str] = []
    best = (0, 0)  # keys matched, line
    for number, line in enumerate(lines, 1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            section = [part.strip() for part in header.group(1).split(".")]
            here = section
        elif pair := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            here = section + [part.strip("\"'") for part in pair.group(1).split(".")]
        else:
            continue
        if path[: len(here)] == here and len(here) > best[0]:
            best = (len(here), number)
    return best[1]


def differences(one: Experiment, other: Experiment) -> list[Problem]:
    """Keys in which two experiments differ, as problems of resuming `one` as the recorded `other`.

    What "auto" was resolved to in the engine's settings is no difference.
    """
    left, right = _flat(one.as_dict()), _flat(other.as_dict())
    left |= {key: right[key] for key in left if key.startswith("engine.") and left[key] == "auto" and key in right}
    keys = [key for key in {**left, **right} if left.get(key) != right.get(key)]
    return [
        Problem("differs from the run to resume", key, f"{left.get(key)!r}, there {right.get(key)!r}") for key in keys
    ]


def _flat(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in plain.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
