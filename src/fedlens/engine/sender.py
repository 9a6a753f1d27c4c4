"""What a client's upload becomes on its way to the server: masked, attacked, encoded, decoded, clipped.

A protection that the client applies itself (local-laplace) stands before the attack: an attacker does as it likes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fedlens.engine.plan import Visit
from fedlens.errors import RunError
from fedlens.local import AnyAttack
from fedlens.local.attack import SignFlip
from fedlens.methods.method import Vectors
from fedlens.seeds import generator
from fedlens.server import AnyMechanism, Communication, LocalLaplace, Plain, with_feedback
from fedlens.tree import Tree


class Sent(NamedTuple):
    """What the server reads and the norm of its update, how many bytes it came in, what the client remembers of it, and
    whether it was `within` the bound of a private mechanism."""

    upload: dict[str, Tensor]
    norm: float
    bytes: int
    memory: dict[str, Tensor]
    within: bool


@dataclass(frozen=True)
class Sender:
    """`kept` bool [T] marks entries that never travel; None: all do. A client's residuals lie under "feedback.NAME"."""

    seed: int
    attack: AnyAttack = field(default_factory=SignFlip)
    attackers: frozenset[int] = frozenset()
    mechanism: AnyMechanism | None = None
    communication: Communication = field(default_factory=Communication)

    def send(self, upload: Vectors, visit: Visit, memory: Vectors, clip: float, kept: Tensor | None) -> Sent:
        """One client's `upload`, given what it remembers; `clip`: the mechanism's present bound.

        Raises RunError where an upload is not finite or the codec cannot take it.
        """
        local, within = isinstance(self.mechanism, LocalLaplace), True
        parts = _masked(upload, kept)
        if local:
            parts, within = self._protected(parts, visit, clip)
        if visit.client in self.attackers:
            rng = generator(self.seed, "attack", visit.round, visit.client)
            parts["update"] = self.attack.update(parts["update"], rng)
        parts = _masked(parts, kept)  # noise and attacks fill what does not travel
        norms = _finite_norms(parts)
        read: dict[str, Tensor] = {}
        residuals: dict[str, Tensor] = {}
        total = 0
        for name, vector in parts.items():
            read[name], size, lost = self._through(name, vector, visit, memory.get(f"feedback.{name}"), kept)
            residuals |= {} if lost is None else {f"feedback.{name}": lost}
            total += size
        if not local:  # last, so that neither an attack nor a codec makes what is summed longer than the bound
            read, within = self._protected(read, visit, clip)
        same = read["update"] is parts["update"]  # one pass less over the parameters
        norm = norms["update"] if same else read["update"].norm().item()
        return Sent(read, norm, total, residuals, within)

    def received(self, tree: Tree, memory: Vectors, kept: Tensor | None) -> tuple[Tree, Vectors, int]:
        """What a client receives of the model and the server's `memory`, and in how many bytes. `kept` is bool [P]."""
        codec, rng = self.communication.down, np.random.default_rng(0)  # casts draw nothing
        travels = tree.vector.numel() if kept is None else int((~kept).sum())
        if isinstance(codec, Plain):
            numbers = travels + sum(vector.numel() for vector in memory.values())
            return tree, memory, numbers * tree.vector.element_size()
        sent = {"model": tree.vector if kept is None else tree.vector[~kept], **memory}
        payloads = {name: codec.encode(vector, rng) for name, vector in sent.items()}
        read = {name: codec.decode(payload, sent[name].numel(), sent[name]) for name, payload in payloads.items()}
        vector = read.pop("model")
        if kept is not None:
            vector = tree.vector.masked_scatter(~kept, vector)
        return tree.with_(vector), read, sum(len(payload) for payload in payloads.values())

    def _protected(self, upload: dict[str, Tensor], visit: Visit, clip: float) -> tuple[dict[str, Tensor], bool]:
        if self.mechanism is None:
            return upload, True
        return self.mechanism.client(upload, clip, generator(self.seed, "privacy", visit.round, visit.client))

    def _through(
        self, name: str, vector: Tensor, visit: Visit, residual: Tensor | None, kept: Tensor | None
    ) -> tuple[Tensor, int, Tensor | None]:
        """What the server reads of `vector`, the bytes it took, and what is left for the next visit."""
        codec, whole = self.communication.up, kept is None or vector.shape != kept.shape
        travels = vector if whole else vector[~kept]  # type: ignore[operator]  # mypy does not see that kept is one
        if isinstance(codec, Plain) or vector.numel() == 1:
            return vector, travels.numel() * vector.element_size(), None
        rng = generator(self.seed, f"codec {name}", visit.round, visit.client)
        payload, read, lost = with_feedback(codec, travels, residual, rng)
        if not whole:
            read = torch.zeros_like(vector).masked_scatter(~kept, read)  # type: ignore[operator]
        return read, len(payload), lost if self.communication.remembers else None


def _masked(upload: Vectors, kept: Tensor | None) -> dict[str, Tensor]:
    """`upload` with zeros where entries stay with the client; a number sent beside [T] vectors is as it is."""
    if kept is None:
        return dict(upload)
    return {n: v.masked_fill(kept, 0.0) if v.shape == kept.shape else v for n, v in upload.items()}


def _finite_norms(upload: Vectors) -> dict[str, float]:
    """The norm of each part. Raises RunError where one is not finite."""
    norms = {name: vector.norm().item() for name, vector in upload.items()}
    for name, vector in upload.items():
        if not math.isfinite(norms[name]):
            bad = int((~torch.isfinite(vector)).sum())
            seen = f"{bad:,} of {vector.numel():,} entries of '{name}' are not finite"
            do = 'Lower local.lr, or set clients.on_failure = "skip" to go on without such clients.'
            raise RunError("an upload is not finite", seen=seen, do=do)
    return norms
