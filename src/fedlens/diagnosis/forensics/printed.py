"""Logs as people keep them, printed text, tables, lists of numbers or rows, read as one series of accuracies."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
TOKEN = re.compile(
    rf"(?<![\w.@])(?P<number>{NUMBER}|[-+]?nan|[-+]?inf)(?:\s*/\s*(?P<of>\d+))?\s*(?P<percent>%?)(?![\w])", re.I
)
WRAPPED = re.compile(r"\b(?:tensor|(?:np|numpy|torch)\.\w+|array)\(\[?|['\"]")
ACCURACY = re.compile(r"acc|top[-_@ ]?1\b|prec@1|correct|(?<![a-z])f1(?![a-z])|score", re.I)
OTHER = re.compile(r"loss|time|top[-_@ ]?5|std|error|\berr\b|sec|norm|size|samples|\blr\b|rate", re.I)
INDEX = re.compile(r"(round|epoch|iteration|iter|step|rnd|client|user|node|server_round|t)\W*$", re.I)
FILLER = re.compile(r"\b(is|of|at|the|after|in|for|to|on|info|debug)\b", re.I)
MOST = 100_000  # rows


class Row(NamedTuple):
    """One printed accuracy: of which round (None: it does not say), under which name, as a number and as it stood."""

    round: int | None
    name: str
    value: float
    printed: str


def read_log(log: Any) -> tuple[Row, ...]:
    """The accuracies in `log`, in order: of the test set before a validation set before training, before clients' own.

    `log` is text (printed lines, CSV, JSON, JSON lines, a number a line), a path to such text, numbers, rows by name,
    columns by name, pairs of round and value, or an object with such attributes. Nothing readable: no rows.
    """
    columns: dict[str, list[Row]] = {}
    for row in _rows(log):
        if len(columns.setdefault(row.name, [])) < MOST:
            columns[row.name].append(row)
    named = [name for name in columns if is_accuracy(name)]
    if not named:
        others = [name for name in columns if not OTHER.search(name) and not INDEX.search(name)]
        named = others if len(others) == 1 else [name for name in others if not name]
    if not named:
        return ()
    return tuple(columns[min(named, key=lambda name: (standing(name), -len(columns[name])))])


def is_accuracy(name: str) -> bool:
    """Whether a metric called `name` is a share of right answers."""
    return bool(ACCURACY.search(name)) and not OTHER.search(name)


def standing(name: str) -> int:
    """How near the name of an accuracy is to that of the global model on test data: 0 is nearest."""
    said = name.lower()
    own = 10 if re.search(r"client|local|person|user", said) else 0
    if "train" in said or "fit" in re.split(r"[^a-z]+", said):
        return own + 3
    return own + (2 if "val" in said else 0 if "test" in said else 1)


def _rows(log: Any) -> Iterable[Row]:
    if log is None or isinstance(log, bool):
        return []
    if isinstance(log, os.PathLike):
        log = Path(log).read_text(errors="replace")
    if isinstance(log, bytes):
        log = log.decode(errors="replace")
    if isinstance(log, str):
        return _text(log)
    if isinstance(log, Mapping):
        return _columns(log)
    if hasattr(log, "tolist"):
        log = log.tolist()
    if isinstance(log, Iterable):
        return _sequence(list(log))
    return _columns(vars(log)) if hasattr(log, "__dict__") else []


def _sequence(items: Sequence[Any], name: str = "") -> list[Row]:
    """Numbers, pairs of round and value, rows by name, or lines of text."""
    if items and all(isinstance(item, str) for item in items):
        return list(_text("\n".join(items)))
    rows: list[Row] = []
    for position, item in enumerate(items):
        if isinstance(item, Mapping):
            rows += _record(item)
        elif isinstance(item, Sequence) and not isinstance(item, str) and len(item) == 2:
            rows += _one(name, item[1], _whole(item[0]))
        else:
            rows += _one(name, item, position + 1)
    return rows


def _columns(log: Mapping[str, Any]) -> list[Row]:
    """Series by name; what is no series is looked into once more."""
    if any(_is_number(value) for value in log.values()):
        return _record(log)
    rows = []
    for name, value in log.items():
        if isinstance(value, Mapping):
            rows += _columns({f"{name} {key}": inner for key, inner in value.items()})
        elif isinstance(value, Sequence) and not isinstance(value, str):
            rows += _sequence(value, str(name))
        elif hasattr(value, "tolist") and isinstance(listed := value.tolist(), list):
            rows += _sequence(listed, str(name))
    return rows


def _record(record: Mapping[Any, Any]) -> list[Row]:
    """One row by name; rows inside it are taken with its round."""
    flat = {str(key): value for key, value in record.items() if not isinstance(value, Mapping)}
    for key, value in record.items():
        if isinstance(value, Mapping):
            flat |= {f"{key} {inner}": one for inner, one in value.items()}
    number = next((_whole(value) for key, value in flat.items() if INDEX.search(key)), None)
    own = "client " if any(re.fullmatch(r"client(_?id)?", key, re.I) for key in flat) else ""
    return [row for key, value in flat.items() if not INDEX.search(key) for row in _one(own + key, value, number)]


def _one(name: str, value: Any, number: int | None) -> list[Row]:
    if isinstance(value, str):
        found = TOKEN.fullmatch(value.strip())
        return [] if found is None else [_row(name, found, number)]
    value = value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
    if value is None or not _is_number(value):
        return [Row(number, name, math.nan, "")] if value is None and is_accuracy(name) else []
    return [Row(number, name, float(value), repr(value))]


def _row(name: str, found: re.Match[str], number: int | None) -> Row:
    value, of = float(found["number"]), found["of"]
    if of and is_accuracy(name) and float(of) > 0 and 0 <= value <= float(of):
        return Row(number, name, value / float(of), repr(value / float(of)))
    return Row(number, name, value, found["number"] + found["percent"])


def _text(text: str) -> Iterable[Row]:
    """JSON, JSON lines, a table, or lines that people read."""
    stripped = text.strip()
    if stripped[:1] in ("{", "["):
        for parts in ([stripped], stripped.splitlines()):
            try:
                parsed = [json.loads(part) for part in parts if part.strip()]
            except ValueError:
                continue
            return _rows(parsed[0] if len(parsed) == 1 else parsed)
    if not re.sub(rf"{NUMBER}|nan|inf|[\s,;%\[\]]", "", stripped, flags=re.I) and "\n" not in stripped:
        return [_row("", found, at) for at, found in enumerate(TOKEN.finditer(stripped), 1)]
    return _table(stripped) or [row for line in stripped.splitlines()[:MOST] for row in _line(line)]


def _table(text: str) -> list[Row]:
    """A table with one separator throughout, with or without a first line of names; no rows for anything else."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    for mark in (",", ";", "\t"):
        cells = [[cell.strip() for cell in line] for line in csv.reader(io.StringIO("\n".join(lines)), delimiter=mark)]
        if not cells or len(cells[0]) < 2 or any(len(line) != len(cells[0]) for line in cells):
            continue
        body = cells if all(map(_numeric, cells[0])) else cells[1:]
        if not body or not all(_numeric(cell) or not cell or cell == "None" for line in body for cell in line):
            continue
        names = cells[0] if body is not cells else [""] * len(cells[0])
        if body is cells:
            counting = [line[0] for line in body] == [str(int(float(body[0][0])) + at) for at in range(len(body))]
            names = ["round", *names[1:]] if counting else names
            names = [f"{name}{at}" if name == "" and len(names) > 2 else name for at, name in enumerate(names)]
        return [row for line in body for row in _record(dict(zip(names, line, strict=True)))]
    return []


def _line(line: str) -> list[Row]:
    """The named numbers of one printed line; a bare number counts where it stands alone."""
    line = WRAPPED.sub(" ", line).replace(")", " ")
    found = list(TOKEN.finditer(line))
    if len(found) == 1 and not re.search(r"[A-Za-z]", line[: found[0].start()] + line[found[0].end() :]):
        return [_row("", found[0], None)]
    rows, left, number, own, ended = [], "", None, "", 0
    for one in found:
        said = re.sub(r"[\W_]*$", "", FILLER.sub(" ", re.split(r"[,;|]", line[ended : one.start()])[-1]))
        said, ended = re.sub(r"^[^A-Za-z]+", "", said), one.end()
        if said and (index := INDEX.search(said)) and not re.search(r"\w$", said[: index.start()]):
            left = said[: index.start()].strip()
            own = "client " if index[1].lower() in ("client", "user", "node") else own
            number = _whole(one["number"]) if not own or number is None else number
        elif name := said or left:
            rows.append(_row(own + " ".join(name.split()), one, number))
            left = ""
    return rows


def _numeric(cell: str) -> bool:
    return TOKEN.fullmatch(cell) is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: Any) -> int | None:
    try:
        return int(float(value))
    except (TypeError, ValueError, OverflowError):
        return None
