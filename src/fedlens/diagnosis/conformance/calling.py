"""Which parameter of a function is what: by its name, by its place, and by trying."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedlens.diagnosis.subject.guard import Ailing, guarded

PATIENCE = 30.0  # seconds that one call may take

Roles = Mapping[str, frozenset[str]]
Binding = Mapping[str, str]


def words(*sentences: str) -> frozenset[str]:
    """The words of `sentences`."""
    return frozenset(word for sentence in sentences for word in sentence.split())


def bindings(
    parameters: Sequence[inspect.Parameter], roles: Roles, templates: Sequence[tuple[str, ...]]
) -> list[tuple[int, Binding]]:
    """Ways to give parameters their roles (parameter -> role), each after how many names speak against it.

    `roles`: the names that parameters of a role have; `templates`: roles by place. A parameter with a default is given
    one where its name says which, or where its place does.
    """
    by_name = {one.name: role for one in parameters if (role := role_of(one.name, roles))}
    needed = [one.name for one in parameters if one.default is one.empty]
    found: list[tuple[int, Binding]] = []
    if by_name and all(name in by_name for name in needed) and len(set(by_name.values())) == len(by_name):
        found.append((0, by_name))
    for template in templates:
        if not len(needed) <= len(template) <= len(parameters):
            continue
        placed = dict(zip((one.name for one in parameters), template, strict=False))
        further = {n: r for n, r in by_name.items() if n not in placed and r not in template}
        conflicts = sum(by_name.get(name, role) != role for name, role in placed.items())
        found.append((conflicts, {**placed, **further}))
    distinct: list[tuple[int, Binding]] = []
    for conflicts, binding in sorted(found, key=lambda one: one[0]):
        if all(binding != other for _, other in distinct):
            distinct.append((conflicts, binding))
    return distinct


def role_of(name: str, roles: Roles) -> str | None:
    """The role whose words hold the parameter's name."""
    plain = name.lower().strip("_")
    return next((role for role, known in roles.items() if plain in known), None)


def called(
    function: Callable[..., Any], parameters: Sequence[inspect.Parameter], values: Mapping[str, Any], stage: str
) -> Any:
    """What `function` returns for `values` by parameter; Ailing where it fails or hangs."""
    first: list[Any] = []
    later: dict[str, Any] = {}
    for one in parameters:
        if one.name not in values:
            continue
        if one.kind is one.KEYWORD_ONLY or later or len(first) < [p.name for p in parameters].index(one.name):
            later[one.name] = values[one.name]
        else:
            first.append(values[one.name])
    with guarded(stage, "", PATIENCE):
        return function(*first, **later)


def first_that_works(attempts: Sequence[Callable[[], Any]]) -> Any:
    """What the first attempt gives that does not fail; else the first failure, which is the likeliest form's."""
    failure: Ailing | None = None
    for attempt in attempts:
        try:
            return attempt()
        except Ailing as error:
            failure = failure or error
    if failure is None:
        failure = Ailing("it cannot be called", seen="no way to give it what its parameters ask for")
    raise failure


def short(number: float) -> str:
    """Three digits."""
    return f"{number:.3g}"
