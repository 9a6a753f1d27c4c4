"""What clients remember between their visits, on disk: a mapping that reads a client's state when it is asked for.

States lie in packs, safetensors files that are written once and never changed; the newest pack that names a client
holds its state. Of a pack of which newer ones have replaced more than half, what is left is written anew, and small
packs are joined: together they take about twice the room of the states at most, and are few.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fedlens.errors import RunError
from fedlens.methods.method import Vectors

Ids = NDArray[np.int64]
PACK = 2**26  # bytes that are gathered at once to be written, however much clients remember
BLOCK = 2**22  # bytes that are read at once where many states are wanted: small ones cost most by being asked for
TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def beginning(kind: str, folder: Path | None = None) -> Mapping[int, Vectors]:
    """What clients remember before the first round: nothing, "memory" or "disk" being where states are to lie.

    Without a `folder` those on disk lie in a temporary one, which disappears with the last mapping that needs it.
    """
    return {} if kind == "memory" else Stored(Place(folder))


def updated(states: Mapping[int, Vectors], changed: Mapping[int, Vectors]) -> Mapping[int, Vectors]:
    """`states` with what clients remember now where they are in `changed`; `states` itself stays as it is."""
    return states.with_(changed) if isinstance(states, Stored) else {**states, **changed}


class Place:
    """A folder of packs, and the number of the next one. `folder` None: a temporary one, deleted with this value."""

    def __init__(self, folder: Path | None = None) -> None:
        if folder is None:
            folder = Path(tempfile.mkdtemp(prefix="fedlens-states-"))
            weakref.finalize(self, _remove, folder, os.getpid())
        self.folder = folder
        last = max((int(path.stem.removeprefix("clients-")) for path in packs_in(folder)), default=-1)
        self._numbers = itertools.count(last + 1)

    def next(self) -> Path:
        """The path of the pack to be written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"clients-{next(self._numbers):06d}.safetensors"


def packs_in(folder: Path) -> list[Path]:
    """The packs in `folder`, also torn ones, oldest first."""
    return sorted(folder.glob("clients-*.safetensors"))


class Part(NamedTuple):
    """One named part of a group's states: `size` bytes a client, one after another from byte `start` on."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    size: int


class Group(NamedTuple):
    """Clients, `ids` i64 [n] rising, whose states have the same names and shapes."""

    ids: Ids
    parts: dict[str, Part]


class Pack:
    """A file of states: of group g, `g/clients` i64 [n] and each part of their states, `g/NAME` [n, ...].

    Raises OSError, SafetensorError, ValueError or KeyError where `path` is no such file, or not all of one. The file is
    deleted with the last reference to this value, unless it is to be kept.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.nbytes = path, path.stat().st_size
        with safe_open(path, "np") as file:  # which finds out whether all of it is there
            names = [name for name in list(file.keys()) if name.endswith("/clients")]
            ids = {name.partition("/")[0]: file.get_tensor(name) for name in names}
        with path.open("rb") as raw:
            length = int.from_bytes(raw.read(8), "little")
            head: dict[str, Any] = json.loads(raw.read(length))
        parts: dict[str, dict[str, Part]] = {group: {} for group in ids}
        for name, entry in head.items():
            group, _, part = name.partition("/")
            if part != "clients":
                start, end = (8 + length + offset for offset in entry["data_offsets"])
                dtype, shape = TYPES[entry["dtype"]], tuple(entry["shape"][1:])
                parts[group][part] = Part(dtype, shape, start, (end - start) // len(ids[group]))
        self.groups = [Group(ids[group], parts[group]) for group in ids]
        self.clients = sum(len(group.ids) for group in self.groups)
        self.flushed = False
        self.let_go()

    def keep(self) -> None:
        """Leave the file where it is, whoever forgets this value."""
        self._end.detach()

    def let_go(self) -> None:
        """Delete the file with the last reference to this value, or with the process."""
        self._end = weakref.finalize(self, _remove, self.path, os.getpid())

    def flush(self) -> None:
        """See to it that the file outlives a failure of power."""
        if not self.flushed:
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
            self.flushed = True

    def has(self, ids: Ids) -> NDArray[np.bool_]:
        """Which of `ids` have a state here."""
        found = np.zeros(len(ids), dtype=bool)
        for group in self.groups:
            at = np.minimum(group.ids.searchsorted(ids), len(group.ids) - 1)
            found |= group.ids[at] == ids
        return found

    def state(self, client: int) -> dict[str, Tensor] | None:
        """A copy of the client's state; None where there is none here. Raises OSError."""
        for group in self.groups:
            at = int(group.ids.searchsorted(client))
            if at < len(group.ids) and group.ids[at] == client:
                return {name: vectors[0] for name, vectors in self._rows(group, at, 1).items()}
        return None

    def states(self, group: Group, wanted: NDArray[np.bool_]) -> Iterator[tuple[int, Vectors]]:
        """The `wanted` clients [n] of `group` and their states, read many at once. Raises OSError."""
        together = max(1, BLOCK // max(1, sum(part.size for part in group.parts.values())))
        for start in range(0, len(group.ids), together):
            chosen = np.flatnonzero(wanted[start : start + together])
            rows = self._rows(group, start, min(together, len(group.ids) - start)) if len(chosen) else {}
            for row in chosen.tolist():
                yield int(group.ids[start + row]), {name: vectors[row] for name, vectors in rows.items()}

    def _rows(self, group: Group, start: int, count: int) -> dict[str, Tensor]:
        """Every part of the states of `count` clients of `group`, from the one at `start` on: [count, ...]."""
        found = {}
        with self.path.open("rb") as file:
            for name, part in group.parts.items():
                raw = bytearray(count * part.size)
                file.seek(part.start + start * part.size)
                if file.readinto(raw) != len(raw):
                    raise OSError("the file ends too early")
                flat = torch.frombuffer(raw, dtype=part.dtype) if raw else torch.empty(0, dtype=part.dtype)
                found[name] = flat.view(count, *part.shape)
        return found


class Stored(Mapping[int, Vectors]):
    """Client ids to states on disk. A value: `with_` gives another one, and this one goes on to say what it said.

    In memory lie 8 bytes for each state, and the states that are being looked at. `packs`: oldest first, each with the
    number of its states that no newer pack replaces.
    """

    def __init__(self, place: Place, packs: Sequence[tuple[Pack, int]] = ()) -> None:
        self.place, self.packs = place, tuple(packs)

    def __getitem__(self, client: int) -> dict[str, Tensor]:
        for pack, _ in reversed(self.packs):
            try:
                state = pack.state(client)
            except OSError as error:
                what, do = f"the state of client {client} cannot be read", "Restore the file, or begin the run anew."
                raise RunError(what, where=str(pack.path), seen=error, do=do) from None
            if state is not None:
                return state
        raise KeyError(client)

    def __contains__(self, client: object) -> bool:
        return any(pack.has(np.array([client]))[0] for pack, _ in self.packs)

    def __iter__(self) -> Iterator[int]:
        ids = [group.ids for pack, _ in self.packs for group in pack.groups]
        return iter(np.unique(np.concatenate(ids)).tolist() if ids else ())

    def __len__(self) -> int:
        return sum(live for _, live in self.packs)

    def with_(self, changed: Mapping[int, Vectors]) -> Stored:
        """These states with those in `changed` in their place. Raises RunError where they cannot be written."""
        if not changed:
            return self
        kept, joined = self._sorted(changed)
        written: list[tuple[Pack, int]] = []
        with _told(self.place):
            for states in _in_packs(itertools.chain(sorted(changed.items()), self._live(joined, changed))):
                pack = _written(self.place.next(), states)
                written.append((pack, pack.clients))
        return Stored(self.place, [*kept, *written])

    def loaded(self) -> dict[int, Vectors]:
        """All of it in memory."""
        return dict(self._live(range(len(self.packs)), {}))

    def flush(self) -> None:
        """See to it that the packs outlive a failure of power."""
        for pack, _ in self.packs:
            pack.flush()

    def _sorted(self, changed: Mapping[int, Vectors]) -> tuple[list[tuple[Pack, int]], list[int]]:
        """The packs to go on with, oldest first, and the positions of those that are joined with what has changed."""
        ids, size = np.array(sorted(changed)), sum(v.nbytes for state in changed.values() for v in state.values())
        kept, joined = [], []
        for position in reversed(range(len(self.packs))):
            pack, live = self.packs[position]
            here = pack.has(ids)
            ids, live = ids[~here], live - int(here.sum())
            worth = pack.nbytes * live // pack.clients
            if 2 * live < pack.clients or (worth <= 2 * size and worth + size <= PACK):
                joined.append(position)
                size += worth
            else:
                kept.append((pack, live))
        return kept[::-1], joined

    def _live(self, joined: Sequence[int], changed: Mapping[int, Vectors]) -> Iterator[tuple[int, Vectors]]:
        """Clients and states of the packs at `joined` that nothing newer replaces."""
        gone = np.array(sorted(changed))
        for position in joined:
            pack, newer = self.packs[position][0], [other for other, _ in self.packs[position + 1 :]]
            for group in pack.groups:
                live = ~np.isin(group.ids, gone)
                for other in newer:
                    live &= ~other.has(group.ids)
                yield from pack.states(group, live)


def _in_packs(states: Iterator[tuple[int, Vectors]]) -> Iterator[dict[int, Vectors]]:
    """`states` in portions of at most PACK bytes, or of one client."""
    portion: dict[int, Vectors] = {}
    size = 0
    for client, state in states:
        more = sum(vector.nbytes for vector in state.values())
        if portion and size + more > PACK:
            yield portion
            portion, size = {}, 0
        portion[client] = state
        size += more
    yield portion


def _written(path: Path, states: Mapping[int, Vectors]) -> Pack:
    alike: dict[Any, list[int]] = {}
    for client in sorted(states):
        kind = tuple((name, vector.dtype, vector.shape) for name, vector in sorted(states[client].items()))
        alike.setdefault(kind, []).append(client)
    tensors = {}
    for group, (kind, ids) in enumerate(alike.items()):
        tensors[f"{group}/clients"] = torch.tensor(ids)
        tensors |= {f"{group}/{name}": torch.stack([states[one][name] for one in ids]).cpu() for name, _, _ in kind}
    try:
        save_file(tensors, path)
    except BaseException:
        _remove(path, os.getpid())
        raise
    return Pack(path)


def _remove(path: Path, process: int) -> None:
    """Delete a pack or a folder of them; not in a forked child, whose parent may still need it."""
    if os.getpid() == process:
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def _told(place: Place) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        do = "Make room or mend the permissions there; a run then goes on with --resume."
        raise RunError("client states cannot be written", where=str(place.folder), seen=error, do=do) from None
