"""Sharpness-aware clients: steps that look for flat minima, so that the mean of clients' models stays in one.

Source: Caldarola, Caputo and Ciccone, "Improving Generalization in Federated Learning by Seeking Flat Minima", ECCV
2022, and Qu et al., ICML 2022. SAM (Foret et al. 2021): step along g(w + e), e = rho g / ||g||. ASAM (Kwon et al.
2021): e = rho T^2 g / ||T g||, T = |w| + eta. The third part of the first paper, averaging the server's models over the
last quarter of the rounds, is `server.average_from = 0.75` and serves every method.
Differs from the papers: ASAM's authors leave biases unscaled (T = 1) in their code; here T = |w| + eta everywhere, as
their equations have it. The second pass draws its own dropout mask and leaves running statistics alone.
A step costs two gradients: at equal samples it is twice the work of FedAvg.
"""

from __future__ import annotations

from torch import Tensor

from fedlens.methods.method import Client, Method

SOURCE = "Caldarola et al. 2022, Qu et al. 2022"
TINY = 1e-12  # a zero gradient has no direction


def fedsam(*, rho: float = 0.1) -> Method:
    """FedAvg whose clients step along the gradient at the worst point within `rho`."""

    def perturb(gradient: Tensor, weights: Tensor, client: Client) -> Tensor:
        norm: Tensor = gradient.norm(dim=-1, keepdim=True)
        return rho / (norm + TINY) * gradient

    return Method(name="fedsam", source=SOURCE, settings={"rho": rho}, perturb=perturb)


def fedasam(*, rho: float = 0.7, eta: float = 0.2) -> Method:
    """As fedsam, the neighbourhood scaled by the size of each weight."""

    def perturb(gradient: Tensor, weights: Tensor, client: Client) -> Tensor:
        scale = weights.abs() + eta
        scaled = scale * gradient
        norm: Tensor = scaled.norm(dim=-1, keepdim=True)
        return rho / (norm + TINY) * scale * scaled

    return Method(name="fedasam", source=SOURCE, settings={"rho": rho, "eta": eta}, perturb=perturb)
