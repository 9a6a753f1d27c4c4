"""The author's line that led to a call."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from types import CodeType, FrameType

import torch

_OURS = (str(Path(torch.__file__).parent) + os.sep, str(Path(__file__).parents[2]) + os.sep, "<frozen")
_LIBRARY = tuple({sysconfig.get_path(kind) + os.sep for kind in ("stdlib", "platstdlib", "purelib", "platlib")})
_FOREIGN: dict[CodeType, bool] = {}
_AUTHORS: dict[CodeType, bool] = {}


def author_frame() -> tuple[CodeType, int] | None:
    """Code and line of the innermost frame of the author's, who may have installed the job as a package: then of the
    innermost that belongs neither to PyTorch nor to this package."""
    frame: FrameType | None = sys._getframe(1)
    nearest = None
    while frame is not None:
        code = frame.f_code
        foreign = _FOREIGN.get(code)
        if foreign is None:
            foreign = _FOREIGN[code] = not code.co_filename.startswith(_OURS)
        if foreign:
            if is_authors(code):
                return code, frame.f_lineno
            nearest = nearest or (code, frame.f_lineno)
        frame = frame.f_back
    return nearest


def is_authors(code: CodeType) -> bool:
    """Whether `code` stands in a file that is neither PyTorch's, nor this package's, nor installed."""
    known = _AUTHORS.get(code)
    if known is None:
        file = code.co_filename
        known = _AUTHORS[code] = not file.startswith((*_OURS, *_LIBRARY, "<"))
    return known


def place(frame: tuple[CodeType, int] | None) -> str:
    """file:line, relative to the current folder where the file lies in it."""
    return "" if frame is None else f"{shown(frame[0].co_filename)}:{frame[1]}"


def shown(path: str) -> str:
    """`path` as it is told: relative to the current folder where it lies in it."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
