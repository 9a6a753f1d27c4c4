"""The short way to write a value of one of several kinds: "iid", "shards:2", "dirichlet:0.1", "krum:2".

Knows: the table of kinds it is given.
Does not know: what the kinds are.
Offers: spelled_out.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping

from fedlens.errors import nearest


def spelled_out(value: object, kinds: Mapping[str, type], noun: str) -> object:
    """A short text as the table it stands for; anything else as it is.

    The text is a kind, or a kind, a colon and the value of the kind's first parameter. Raises ValueError in the form
    that fedlens.settings tells: what went wrong; what to do.
    """
    if not isinstance(value, str):
        return value
    kind, colon, written = (part.strip() for part in value.partition(":"))
    if kind not in kinds:
        guess = nearest(kind, kinds)
        do = f"did you mean '{guess}'?" if guess else "one of: " + ", ".join(kinds) + "."
        raise ValueError(f"'{kind}' is not a known {noun}; {do}")
    table: dict[str, object] = {"kind": kind}
    first = dataclasses.fields(kinds[kind])[0].name
    if not colon:
        return table
    if first == "kind":
        raise ValueError(f"'{kind}' takes no parameter; write '{kind}'")
    if not written:
        raise ValueError(f"'{value}' ends after the colon; write '{kind}' or '{kind}:' and a value for {first}")
    wants_text = typing.get_type_hints(kinds[kind])[first] is str
    return table | {first: written if wants_text else _number(written, value, first)}


def _number(written: str, text: str, name: str) -> int | float:
    for read in (int, float):
        try:
            return read(written)
        except ValueError:
            continue
    raise ValueError(f"'{written}' in '{text}' is not a number; write a number for {name}")
