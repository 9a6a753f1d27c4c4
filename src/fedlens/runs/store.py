"""A run on disk: appended to round by round, resumable after any crash, readable without us.

A journal is a folder with rounds.jsonl (one line a round), timings.jsonl, clients/ (arrays of visits), checkpoints/.
A checkpoint is complete or absent: it is written beside its place, flushed, and renamed. What was appended after the
last checkpoint is cut off on resuming, because the repeated rounds write the same lines again. What clients remember
lies in packs beside the checkpoint, which names them: only the states that have changed are written.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fedlens.engine import Record
from fedlens.errors import RunError
from fedlens.lines import read_lines
from fedlens.methods.method import Vectors
from fedlens.runs.loop import State
from fedlens.runs.states import Pack, Place, Stored, packs_in
from fedlens.tree import Tree

CHECKPOINT_SECONDS = 15.0
CHECKPOINT_SHARE = 0.05  # of the time may go into checkpoints, however much clients remember


class Journal:
    """One run's (or one reference's) growing record in `folder`.

    `states`: where what clients remember is to lie while the run goes on, "memory" or "disk".
    """

    def __init__(self, folder: Path, states: Literal["memory", "disk"] = "memory") -> None:
        self.folder, self.states = folder, states
        self._pending: list[tuple[int, Record]] = []
        self._saved, self._took = time.monotonic(), 0.0
        self._stored: Stored | None = None  # what clients remember, as the last checkpoint has it
        self._changed: set[int] = set()  # who was visited since

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints and the states of clients lie."""
        return self.folder / "checkpoints"

    def append(self, state: State, *, last: bool) -> None:
        """Record `state`; every 15 seconds (less often where that would take over 5 %), and at the `last` state, also a
        checkpoint."""
        with told(self.folder):
            self._line("rounds.jsonl", dict(state.row))
            seconds = {"train_seconds": state.train_seconds, "evaluate_seconds": state.evaluate_seconds}
            self._line("timings.jsonl", {"round": state.round, **seconds})
            self._pending += [(state.round, record) for record in state.records]
            self._changed |= {record.client for record in state.records}
            wait = max(CHECKPOINT_SECONDS, self._took / CHECKPOINT_SHARE)
            if last or state.round == 0 or time.monotonic() - self._saved > wait:
                self.checkpoint(state)

    def checkpoint(self, state: State) -> None:
        """Save all that is needed to go on from `state`, then drop the checkpoint before it."""
        began = time.monotonic()
        with told(self.folder):
            self._save_clients()
            place, name = self.checkpoints, f"round-{state.round:06d}"
            stored, before = self._stored_now(state.memory), self._stored
            writing = place / f".writing-{name}"
            writing.mkdir(parents=True, exist_ok=True)
            save_file(_tensors(state), writing / "state.safetensors")
            about = {"round": state.round, "row": dict(state.row), "visits": sorted(self._client_files())}
            about["averaged"] = state.averaged
            about["states"] = {pack.path.name: live for pack, live in stored.packs}
            (writing / "state.json").write_text(json.dumps(about))
            stored.flush()
            for file in (*writing.iterdir(), self.folder / "rounds.jsonl", self.folder / "timings.jsonl"):
                _flush(file)
            if not (place / name).exists():
                writing.rename(place / name)
            _flush(place)
            for old in place.iterdir():
                if old.is_dir() and old.name != name:
                    shutil.rmtree(old)
        self._pass_on(before, stored)
        self._saved = time.monotonic()
        self._took = self._saved - began

    def _stored_now(self, memory: Mapping[int, Vectors]) -> Stored:
        """`memory` in packs beside the checkpoint; of what has not changed since the last one nothing is written."""
        if isinstance(memory, Stored) and memory.place.folder == self.checkpoints:
            return memory
        if self._stored is None:
            return Stored(Place(self.checkpoints)).with_(memory)
        return self._stored.with_({client: memory[client] for client in self._changed if client in memory})

    def _pass_on(self, before: Stored | None, stored: Stored) -> None:
        """The checkpoint now needs the packs of `stored`, and of `before` those that are the same."""
        for pack, _ in stored.packs:
            pack.keep()
        wanted = {pack.path for pack, _ in stored.packs}
        for pack, _ in () if before is None else before.packs:
            if pack.path not in wanted:
                pack.let_go()
        self._stored, self._changed = stored, set()

    def resume(self, start: Tree) -> State | None:
        """The last complete checkpoint, with the journal cut back to it; None where there is none.

        Raises RunError where the checkpoint or the rounds before it are damaged or lost.
        """
        state = self.latest(start)
        with told(self.folder):
            none: dict[str, Any] = {"round": -1, "visits": [], "states": {}}
            self._cut(none if state is None else self._about(state.round))
        if state is not None and len(self.rows()) != state.round + 1:
            raise RunError(
                "rounds before the checkpoint are lost",
                where=str(self.folder / "rounds.jsonl"),
                seen=f"{len(self.rows())} lines for rounds 0 to {state.round}",
                do=f"Restore the file, or delete {self.checkpoints} to begin anew, to the same results.",
            )
        if state is None or not isinstance(state.memory, Stored):
            return None
        self._stored = state.memory
        return state if self.states == "disk" else replace(state, memory=state.memory.loaded())

    def latest(self, start: Tree) -> State | None:
        """The last complete checkpoint of a model laid out as `start`, or None; its memory is read where it is used."""
        saved = sorted(self.checkpoints.glob("round-*"))
        if not saved:
            return None
        about = self._about(int(saved[-1].name.removeprefix("round-")))
        with self._readable(saved[-1] / "state.safetensors"):
            state = _state(saved[-1] / "state.safetensors", about, start)
        packs = []
        for name, live in about["states"].items():
            with self._readable(self.checkpoints / name):
                packs.append((Pack(self.checkpoints / name), live))
            packs[-1][0].keep()
        return replace(state, memory=Stored(Place(self.checkpoints), packs))

    def _about(self, round: int) -> dict[str, Any]:
        path = self.checkpoints / f"round-{round:06d}" / "state.json"
        with self._readable(path):
            about: dict[str, Any] = json.loads(path.read_text())
            return {name: about[name] for name in ("round", "row", "visits", "averaged", "states")}

    @contextmanager
    def _readable(self, path: Path) -> Iterator[None]:
        """Tell a failure to read a part of a checkpoint as what it is."""
        try:
            yield
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise RunError(
                "the checkpoint is damaged",
                where=str(path),
                seen=f"{type(error).__name__}: {error}",
                do=f"Delete {self.checkpoints} and resume: the run begins anew, to the same results.",
            ) from None

    def rows(self) -> list[dict[str, Any]]:
        """The lines of rounds.jsonl; a torn last line is left out."""
        return read_lines(self.folder / "rounds.jsonl")

    def timings(self) -> list[dict[str, Any]]:
        """The lines of timings.jsonl."""
        return read_lines(self.folder / "timings.jsonl")

    def _line(self, name: str, row: dict[str, Any]) -> None:
        with (self.folder / name).open("a") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")

    def _cut(self, about: Mapping[str, Any]) -> None:
        """Delete what was written after the checkpoint that is `about` so."""
        for name in ("rounds.jsonl", "timings.jsonl"):
            path = self.folder / name
            if path.exists():
                kept = [row for row in read_lines(path) if row["round"] <= about["round"]]
                write_atomically(path, "".join(json.dumps(row) + "\n" for row in kept))
        for name in self._client_files() - set(about["visits"]):
            (self.folder / "clients" / name).unlink()
        for path in packs_in(self.checkpoints):
            if path.name not in about["states"]:
                path.unlink()

    def _client_files(self) -> set[str]:
        return {path.name for path in (self.folder / "clients").glob("[0-9]*.npz")}

    def _save_clients(self) -> None:
        if not self._pending:
            return
        folder = self.folder / "clients"
        folder.mkdir(exist_ok=True)
        rounds = [round for round, _ in self._pending]
        columns = {"round": np.array(rounds)}
        for name in Record.__dataclass_fields__:
            columns[name] = np.array([getattr(record, name) for _, record in self._pending])
        path = folder / f"{rounds[0]:06d}-{rounds[-1]:06d}.npz"
        with path.open("wb") as file:
            np.savez(file, **columns)  # type: ignore[arg-type]
        self._pending = []


def write_atomically(path: Path, text: str) -> None:
    """Replace `path` by `text`, or leave it as it is."""
    writing = path.with_name(f".writing-{path.name}")
    with told(path.parent):
        writing.write_text(text)
        _flush(writing)
        writing.replace(path)


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Tell a failure to write as what it is; the checkpoint before it stays."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise RunError(
            "the run folder cannot be written",
            where=str(folder),
            seen=str(error),
            do="Make room or mend the permissions, then --resume; nothing before the last checkpoint is lost.",
        ) from None


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _tensors(state: State) -> dict[str, torch.Tensor]:
    tensors = {"vector": state.tree.vector}
    tensors |= {} if state.average is None else {"average": state.average}
    tensors |= {f"integers/{name}": value for name, value in state.tree.integers.items()}
    tensors |= {f"server/{name}": value for name, value in state.server.items()}
    return {name: value.contiguous() for name, value in tensors.items()}


def _state(path: Path, about: dict[str, Any], start: Tree) -> State:
    tensors = load_file(path)
    integers = {name: tensors[f"integers/{name}"] for name in start.layout.integers}
    server = {key.removeprefix("server/"): value for key, value in tensors.items() if key.startswith("server/")}
    tree, average = start.with_(tensors["vector"], integers), tensors.get("average")
    return State(about["round"], tree, server, row=about["row"], average=average, averaged=about["averaged"])
