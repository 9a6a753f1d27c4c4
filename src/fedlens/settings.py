"""Settings: frozen, checked dataclasses that read the same in Python and in TOML.

Knows: how a value is checked and how a wrong one is told.
Does not know: any particular setting.
Offers: settings (the decorator), problems_of, Positive, NonNegative, Fraction, Count.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass as checked

from fedlens.errors import ConfigurationError, Problem, nearest

T = TypeVar("T")
Count = Annotated[int, Field(ge=1, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Fraction = Annotated[float, Field(ge=0, lt=1, strict=True)]


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, Field))
def settings(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass whose values are checked; wrong values raise ConfigurationError, all at once."""
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    made: Any = checked(cls, frozen=True, config=config)
    build = made.__init__

    @wraps(build)
    def __init__(self: object, *args: object, **kwargs: object) -> None:
        try:
            build(self, *args, **kwargs)
        except ValidationError as error:
            raise ConfigurationError.of(problems_of(error, made)) from None

    made.__init__ = __init__
    return typing.cast("type[T]", made)


def problems_of(
    error: ValidationError, cls: type, *, root: str = "", place: Callable[[Sequence[str]], str] | None = None
) -> list[Problem]:
    """What a failed check of `cls` says, one Problem for each wrong value, with the nearest known key.

    `place` turns a path of keys into a place that a person can go to (a file and line); default: `Class.key`.
    """
    found: list[Problem] = []
    previous: list[str] | None = None
    for item in error.errors():
        path = [str(part) for part in _without_tags(item["loc"], cls)]
        where = place(path) if place else ".".join([root or cls.__name__, *path])
        problem = _problem(item, path, where, cls)
        if path == previous and item["type"] == "literal_error":  # a value that fits neither part of, say, int | "all"
            do = problem.do if problem.do.startswith("Did you mean") else ""
            found[-1] = replace(found[-1], what=f"{found[-1].what}, or {item['ctx']['expected']}", do=do)
        else:
            found.append(problem)
        previous = path
    return found


def _problem(item: Any, path: list[str], where: str, cls: type) -> Problem:
    kind, key = item["type"], path[-1] if path else ""
    if kind in {"extra_forbidden", "unexpected_keyword_argument"}:
        known = _keys(_class_at(item["loc"][:-1], cls))
        guess = nearest(key, known)
        return Problem(f"'{key}' is not a known key", where, "", f"Did you mean '{guess}'?" if guess else _list(known))
    if kind == "union_tag_not_found":
        return Problem("'kind' is missing", where, _brief(item["input"]), "Set kind.")
    if kind == "union_tag_invalid":
        tags = [tag.strip("' ") for tag in item["ctx"]["expected_tags"].split(",")]
        guess = nearest(item["ctx"]["tag"], tags)
        do = f"Did you mean '{guess}'?" if guess else _list(tags)
        return Problem("no such kind", where, repr(item["ctx"]["tag"]), do)
    if kind == "literal_error":
        choices = [choice.strip("' ") for choice in item["ctx"]["expected"].replace(" or ", ",").split(",")]
        guess = nearest(str(item["input"]), choices)
        do = f"Did you mean '{guess}'? {_list(choices)}" if guess else _list(choices)
        return Problem("not one of the choices", where, repr(item["input"]), do)
    if kind == "missing_argument" or kind == "missing":
        return Problem(f"'{key}' is missing", where, "", f"Set {key}.")
    if kind == "value_error":
        return _told(str(item["ctx"]["error"]), where, item["input"])
    return Problem(item["msg"][0].lower() + item["msg"][1:], where, _brief(item["input"]), "")


def _told(message: str, where: str, seen: object) -> Problem:
    """A validator's own words: 'what went wrong; what to do'."""
    what, _, do = message.partition("; ")
    # A check over several keys quotes the ones it means; the whole section would only repeat the file.
    return Problem(what, where, _brief(seen) if isinstance(seen, (str, int, float)) else "", do)


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _list(names: Sequence[str]) -> str:
    return "One of: " + ", ".join(names) + "."


def _keys(cls: type | None) -> list[str]:
    return [field.name for field in dataclasses.fields(cls)] if cls and dataclasses.is_dataclass(cls) else []


def _dataclasses_in(annotation: Any) -> list[type]:
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return [annotation]
    return [found for part in typing.get_args(annotation) for found in _dataclasses_in(part)]


def _tag(cls: type) -> str | None:
    for field in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
        if field.name == "kind":
            default = field.default
            return str(getattr(default, "default", default))
    return None


def _class_at(path: Sequence[Any], cls: type | None) -> type | None:
    """The settings class that the keys in `path` lead to, from `cls`."""
    inner: list[type] = [cls] if cls else []
    for part in path:
        tagged = [found for found in inner if _tag(found) == part]
        if tagged and len(inner) > 1:
            inner = tagged
            continue
        hints: Mapping[str, Any] = typing.get_type_hints(inner[0], include_extras=True) if inner else {}
        inner = _dataclasses_in(hints.get(str(part), types.NoneType))
    return inner[0] if inner else None


def _without_tags(path: Sequence[Any], cls: type) -> list[Any]:
    """`path` without the union tags that the checker puts between keys."""
    kept: list[Any] = []
    inner: list[type] = [cls]
    for part in path:
        tagged = [found for found in inner if _tag(found) == part]
        if tagged and len(inner) > 1:
            inner = tagged
            continue
        if not inner and isinstance(part, str):  # which part of a union was tried
            continue
        kept.append(part)
        hints = typing.get_type_hints(inner[0], include_extras=True) if inner else {}
        inner = _dataclasses_in(hints.get(str(part), types.NoneType))
    return kept
