"""Where in the author's files a number is written under a name: in settings, or in the code itself."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from fedlens.diagnosis.evidence.origins import Written
from fedlens.diagnosis.origins.frames import shown

SETTINGS = (".toml", ".yaml", ".yml", ".json", ".ini", ".cfg", ".conf", ".env")
FILES, BYTES = 50, 100_000  # files of a folder that are read, and the size of the largest
# What numbers of a job are usually called; the first name is that of fedlens.Declared.
NAMES = {
    "lr": ("lr", "learning_rate", "local_lr", "client_lr", "lr_client", "eta", "eta_l", "step_size", "rate", "base_lr"),
    "clip": ("clip", "clip_norm", "clipping_norm", "max_grad_norm", "max_norm", "clipping", "bound", "c", "l2_clip"),
    "noise": ("noise", "noise_multiplier", "sigma", "noise_scale", "z", "noise_std", "dp_sigma"),
    "mu": ("mu", "proximal_mu", "prox", "prox_mu", "fedprox_mu"),
    "epochs": ("epochs", "local_epochs", "e", "num_epochs", "epoch"),
    "batch": ("batch", "batch_size", "bs", "local_bs", "local_batch_size"),
    "cohort": ("cohort", "clients_per_round", "num_selected", "per_round", "m", "k", "sample_size"),
    "rounds": ("rounds", "num_rounds", "comm_rounds", "communication_rounds", "t"),
}
_LINE = re.compile(r"""["']?([A-Za-z_][\w.-]*)["']?\s*[:=]\s*["']?([-+]?[\d.][\d._]*(?:[eE][-+]?\d+)?)""")
_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def numbers_written(folders: Sequence[str]) -> tuple[Written, ...]:
    """The numbers that stand under a known name in files of `folders`: settings first, for they overrule the code; and
    the usual names first among those."""
    known = {name: (own, rank) for own, names in NAMES.items() for rank, name in enumerate(names)}
    found = []
    for order, path in enumerate(_files(folders)):
        settings = path.suffix in SETTINGS
        for name, value, line in (_of_settings if settings else _of_code)(path):
            key = name.rpartition(".")[2].replace("-", "_").lower()
            if key in known:
                own, rank = known[key]
                found.append((not settings, rank, order, line, Written(own, value, f"{shown(str(path))}:{line}")))
    return tuple(one[-1] for one in sorted(found))


def _files(folders: Sequence[str]) -> Iterator[Path]:
    for folder in folders:
        beside = sorted(path for path in Path(folder).glob("*") if path.suffix in (*SETTINGS, ".py"))
        below = sorted(path for path in Path(folder).glob("conf*/*") if path.suffix in SETTINGS)
        yield from (path for path in (*beside, *below)[:FILES] if path.is_file() and path.stat().st_size <= BYTES)


def _of_settings(path: Path) -> Iterator[tuple[str, float, int]]:
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        for name, value in _LINE.findall(line.partition("#")[0]):
            if (read := _number(value)) is not None:
                yield name, read, number


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _of_code(path: Path) -> Iterator[tuple[str, float, int]]:
    try:
        tree = ast.parse(path.read_text(errors="replace"))
    except SyntaxError:
        return
    for node in ast.walk(tree):
        for name, value in _named(node):
            if (read := _value(value)) is not None:
                yield name, read, value.lineno


def _named(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Names that get a value at `node`."""
    if isinstance(node, ast.Assign):
        yield from ((name, node.value) for target in node.targets if (name := _name(target)))
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        yield _name(node.target), node.value
    elif isinstance(node, ast.Dict):
        yield from ((_name(key), value) for key, value in zip(node.keys, node.values, strict=True) if key is not None)
    elif isinstance(node, ast.arguments):
        plain = [*node.posonlyargs, *node.args]
        yield from ((a.arg, v) for a, v in zip(plain[len(plain) - len(node.defaults) :], node.defaults, strict=True))
        yield from ((a.arg, v) for a, v in zip(node.kwonlyargs, node.kw_defaults, strict=True) if v is not None)
    elif isinstance(node, ast.Call):
        yield from ((one.arg, one.value) for one in node.keywords if one.arg)
        option = _name(node.args[0]).lstrip("-") if node.args else ""  # add_argument("--lr", default=0.1)
        yield from ((option, one.value) for one in node.keywords if one.arg == "default" and option)


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.Subscript):
        return _name(node.slice)
    return getattr(node, "id", getattr(node, "attr", ""))


def _value(node: ast.expr) -> float | None:
    """A number, or what plain sums and products of numbers come to."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return float(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _value(node.operand)
        return None if value is None else -value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _value(node.left), _value(node.right)
        if left is not None and right is not None and not (isinstance(node.op, ast.Div) and not right):
            return float(_OPERATORS[type(node.op)](left, right))
    return None
