"""The author's line that led to a call."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import CodeType, FrameType

import torch

_OURS = (str(Path(torch.__file__).parent) + os.sep, str(Path(__file__).parents[2]) + os.sep)
_FOREIGN: dict[CodeType, bool] = {}


def author_frame() -> tuple[CodeType, int] | None:
    """Code and line of the innermost frame that belongs neither to PyTorch nor to this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        foreign = _FOREIGN.get(code)
        if foreign is None:
            foreign = _FOREIGN[code] = not code.co_filename.startswith((*_OURS, "<frozen"))
        if foreign:
            return code, frame.f_lineno
        frame = frame.f_back
    return None


def place(frame: tuple[CodeType, int] | None) -> str:
    """file:line, relative to the current folder where the file lies in it."""
    if frame is None:
        return ""
    path = frame[0].co_filename
    relative = os.path.relpath(path)
    return f"{path if relative.startswith('..') else relative}:{frame[1]}"
