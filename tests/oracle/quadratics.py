"""A hundred clients with quadratic losses and a known optimum, trained through a method's own functions alone.

Client i has f_i(w) = 1/2 (w - b_i)' A_i (w - b_i), so that sum f_i has its optimum at (sum A_i)^-1 sum A_i b_i. The
whole cohort is one batch of rows [C, T]: what holds here holds for a batched engine.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fedlens.methods import Client, Method, Reduced, Server


@dataclass(frozen=True)
class Quadratics:
    """`curvature` A_i [N, T, T], `centre` b_i [N, T], `steps` K_i [N]."""

    curvature: Tensor
    centre: Tensor
    steps: Tensor

    @classmethod
    def draw(cls, clients: int = 100, size: int = 20, steps: int = 20, spread: float = 1.0) -> "Quadratics":
        draw = torch.Generator().manual_seed(0)
        root = torch.randn(clients, size, size, generator=draw, dtype=torch.float64) / size**0.5
        curvature = 0.5 * torch.eye(size, dtype=torch.float64) + spread * root @ root.mT
        centre = torch.randn(clients, size, generator=draw, dtype=torch.float64)
        return cls(curvature, centre, torch.full((clients,), steps))

    @property
    def optimum(self) -> Tensor:
        """w* [T]."""
        pull = (self.curvature @ self.centre[..., None]).sum(0)
        return torch.linalg.solve(self.curvature.sum(0), pull)[:, 0]

    def gradient(self, cohort: Tensor, weights: Tensor) -> Tensor:
        """A_i (w_i - b_i) of the cohort's clients, [C, T]."""
        return (self.curvature[cohort] @ (weights - self.centre[cohort])[..., None])[..., 0]


def federate(method: Method, clients: Quadratics, *, rounds: int, cohort: int, rate: float) -> Tensor:
    """The server's weights after every round, [rounds, T]; cohorts are drawn from one fixed seed."""
    count, size = clients.centre.shape
    draw = torch.Generator().manual_seed(1)
    server = Server(torch.zeros(size, dtype=torch.float64), _filled(method.server_memory, (size,)))
    memory, path = _filled(method.client_memory, (count, size)), []
    for _ in range(rounds):
        chosen = torch.randperm(count, generator=draw)[:cohort]
        start = server.weights.expand(cohort, size)
        reach = clients.steps[chosen, None].double()
        mine = {name: value[chosen] for name, value in memory.items()}
        client = Client(start, {name: server.memory[name] for name in method.sends}, mine, rate, reach)
        upload, remembered = method.finish(_train(method, clients, chosen, client, rate), client)
        for name, value in remembered.items():
            memory[name][chosen] = value
        server = method.aggregate(server, Reduced({name: v.mean(0) for name, v in upload.items()}, cohort / count))
        path.append(server.weights)
    return torch.stack(path)


def _train(method: Method, clients: Quadratics, chosen: Tensor, client: Client, rate: float) -> Tensor:
    weights = client.start.clone()
    for step in range(int(clients.steps[chosen].max())):
        gradient = clients.gradient(chosen, weights)
        if method.correct is not None:
            gradient = method.correct(gradient, weights, client)
        active = (clients.steps[chosen, None] > step).double()
        weights = weights - rate * active * gradient
    return weights


def _filled(names: dict[str, float], shape: tuple[int, ...]) -> dict[str, Tensor]:
    return {name: torch.full(shape, value, dtype=torch.float64) for name, value in names.items()}
