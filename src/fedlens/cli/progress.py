"""One line of progress on stderr: redrawn in a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from fedlens.runs import State

REDRAW_SECONDS, PLAIN_SECONDS = 0.1, 10.0


class Line:
    """Shows every state it is called with: round, accuracy and its change, clients/s, MB, time left."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._title: str | None = None
        self._shown, self._round = 0.0, -1
        self._accuracy: float | None = None
        self._change = 0.0
        self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal and self._width:
            print(file=sys.stderr)

    def __call__(self, title: str, state: State, rounds: int) -> None:
        now = time.monotonic()
        if title != self._title or state.round <= self._round:  # runs under one title follow each other
            if self._terminal and self._width:
                print(file=sys.stderr)
            self._title, self._first, self._began = title, state.round, now
            self._accuracy, self._change, self._clients, self._bytes, self._shown = None, 0.0, 0, 0, 0.0
        self._round = state.round
        if state.accuracy is not None:
            self._change = 0.0 if self._accuracy is None else state.accuracy - self._accuracy
            self._accuracy = state.accuracy
        self._clients += len(state.records)
        self._bytes += state.row.get("bytes_up", 0) + state.row.get("bytes_down", 0)
        last = state.round == rounds
        if last or now - self._shown > (REDRAW_SECONDS if self._terminal else PLAIN_SECONDS):
            self._shown = now
            self._print(self._text(state, rounds, now), last)

    def _text(self, state: State, rounds: int, now: float) -> str:
        done, seconds = state.round - self._first, now - self._began
        parts = [f"{self._title or 'federation'}  round {state.round}/{rounds}"]
        if self._accuracy is not None:
            parts.append(f"accuracy {100 * self._accuracy:.1f} % ({100 * self._change:+.1f})")
        if "loss_last" in state.row:
            parts.append(f"local loss {state.row['loss_last']:.3f}")
        if done and seconds > 0:
            left = int(seconds / done * (rounds - state.round))
            if not self._title:  # a reference exchanges nothing
                parts += [f"{self._clients / seconds:.1f} clients/s", f"{self._bytes / 1e6:.1f} MB"]
            parts += [
                f"ETA {left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
                if left >= 3600
                else f"ETA {left // 60}:{left % 60:02}"
            ]
        return "  ".join(parts)

    def _print(self, text: str, last: bool) -> None:
        if not self._terminal:
            print(text, file=sys.stderr, flush=True)
            return
        print("\r" + text.ljust(self._width), end="", file=sys.stderr, flush=True)
        self._width = len(text)
