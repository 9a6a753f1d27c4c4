"""The command line called in this process: what it answered, what it said, how it ended, what it left behind."""

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from fedlens.cli import main

TESTS = Path(__file__).parent.parent

OURS = {"__pycache__"}
SMALL = """\
name = "small"
rounds = 3

[data]
source = "small:split"

[clients]
count = 6
cohort = 3

[model]
name = "small:conv_bn"

[local]
batch = 4
lr = 0.05

[references]
centralised = false
"""


@dataclass(frozen=True)
class Answer:
    """`left`: what lies in the current folder now and did not before."""

    code: int
    out: str
    err: str
    left: tuple[str, ...]


def fedlens(*words: object) -> Answer:
    before, out, err, code = _lying(), io.StringIO(), io.StringIO(), 0
    given = mock.patch.object(sys, "argv", ["fedlens", *map(str, words)])
    with given, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    return Answer(code, out.getvalue(), err.getvalue(), tuple(sorted(_lying() - before)))


def in_a_process(*words: object, environment: dict[str, str] | None = None, **options: object) -> subprocess.Popen:
    command = [sys.executable, "-c", "from fedlens.cli import main; main()", *map(str, words)]
    environment = {**os.environ, **(environment or {}), "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def small(text: str = SMALL, **replaced: str) -> str:
    """Write small.toml, with `lr="lrr = 1"` in place of the line that sets lr, and name it."""
    lines = text.splitlines()
    for key, line in replaced.items():
        at = next(number for number, old in enumerate(lines) if old.startswith(f"{key} ="))
        lines[at] = line
    Path("small.toml").write_text("\n".join(lines) + "\n")
    return "small.toml"


def module(name: str, text: str) -> None:
    """A module of the user's own in the current folder. Names must differ: Python keeps what it has imported."""
    Path(f"{name}.py").write_text("import numpy as np\nimport torch\nfrom torch import nn\n\n" + text)


def sets(*changes: str) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


def refused(answer: Answer, *said: str) -> None:
    """It ended with 2, said all of `said`, told no traceback, answered nothing and left nothing behind."""
    told(answer, 2, *said)
    assert answer.left == ()


def told(answer: Answer, code: int, *said: str) -> None:
    for part in said:
        assert part in answer.err, f"{part!r} is not in:\n{answer.err}"
    assert answer.code == code, answer.err
    assert answer.out == ""
    assert "Traceback" not in answer.err
    assert "please report" not in answer.err, answer.err
    assert "Warning" not in answer.err, answer.err


def _lying() -> set[str]:
    return {path.name for path in Path().iterdir()} - OURS
