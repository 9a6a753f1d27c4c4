"""Who is timed: a rival and fedlens, with the same methods. Each is made in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import rival
import torch
from material import examples, floats
from torch import Tensor
from workloads import Workload

SHOWN = 1000  # test images in one pass


class Rival:
    """The plain loop on the rounds in `file`; `processes` 0: in one process, with `threads` threads."""

    def __init__(self, workload: Workload, file: str, threads: int, processes: int) -> None:
        torch.set_num_threads(1 if processes else threads)
        data = examples(workload.data)
        module, rounds = torch.load(file, weights_only=False)
        self._test = data["test_images"], data["test_labels"]
        self._known = {key: data[key] for key in ("mean", "std")}
        loop = rival.OneProcess(module, floats(data["images"], data), data["labels"], rounds, workload.rate)
        self._loop: rival.OneProcess | rival.Processes = rival.Processes(loop, processes) if processes else loop
        self._next = 0

    def round(self) -> None:
        """One round."""
        self._loop.round(self._next)
        self._next += 1

    def state(self) -> dict[str, Tensor]:
        """The model after the last round."""
        return {name: tensor.clone() for name, tensor in self._loop.load().state_dict().items()}

    def accuracy(self) -> float:
        """Of the model after the last round, on the test set."""
        module, right = self._loop.load().eval(), 0
        with torch.inference_mode():
            for images, labels in zip(*(part.split(SHOWN) for part in self._test), strict=True):
                right += int((module(floats(images, self._known)).argmax(1) == labels).sum())
        module.train()
        return right / len(self._test[1])

    def close(self) -> None:
        """End what it started."""
        self._loop.close()


class Fedlens:
    """fedlens's own loop, from drawing the cohort to the new global model and the round's record; never evaluated."""

    def __init__(self, workload: Workload, seed: int, engine: Mapping[str, Any]) -> None:
        from fedlens.runs import prepare
        from fedlens.runs.loop import advance, untrained

        self._federation = prepare(workload.experiment(seed, engine))
        self._states = advance(self._federation, untrained(self._federation))

    def round(self) -> None:
        """One round."""
        self._state = next(self._states)

    def state(self) -> dict[str, Tensor]:
        """The model after the last round."""
        return self._state.tree.state_dict()

    def accuracy(self) -> float:
        """Of the model after the last round, on the test set."""
        from fedlens.runs.measure import test_set

        return test_set(self._federation, self._state.tree).accuracy

    def close(self) -> None:
        """End what it started."""
        self._states.close()
