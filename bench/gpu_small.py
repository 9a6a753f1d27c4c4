"""Part 8 of gpu.py: small models. Many clients in one step: by plain PyTorch, and a round of it by fedlens's bank.

A step of such a model is some fifty kernels of a few microseconds, whether of one client or of a hundred.
"""

from __future__ import annotations

import copy
import os
import statistics
import time
from typing import Any

import torch
import torch.nn.functional as F
from gpu import BATCH, CLASSES, RATE, Kit, Local, Step, precision
from torch import Tensor, nn

IMAGES, CLIENTS = 60_000, 100  # of MNIST's shape, dealt evenly: sixty steps of ten a visit
ROUNDS = 3  # that are timed, after one that sets up and captures


def mlp() -> nn.Module:
    """784-200-10."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 10))


class Product(nn.Conv2d):
    """A convolution that keeps the image's size, as one product. Clients' products are one batched product, and their
    convolutions a convolution in groups, for which libraries may have nothing good."""

    def forward(self, x: Tensor) -> Tensor:
        columns = F.unfold(x, self.kernel_size, padding=self.padding).transpose(0, 1).flatten(1)  # [K, B * H * W]
        made = self.weight.flatten(1) @ columns
        images = made.view(-1, len(x), *x.shape[-2:]).transpose(0, 1)
        return images if self.bias is None else images + self.bias[:, None, None]


def mcmahan(convolution: type[nn.Conv2d] = nn.Conv2d) -> nn.Module:
    """McMahan et al. 2017, section 3."""
    convolutions = convolution(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), convolution(32, 64, 5, padding=2)
    rest = nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, 10)
    return nn.Sequential(*convolutions, *rest)


def mobile() -> nn.Module:
    """Source 004's network with group norm."""

    def conv(into: int, out: int, size: int, stride: int, groups: int = 1) -> list[nn.Module]:
        made = nn.Conv2d(into, out, size, stride, size // 2, groups=groups, bias=False)
        return [made, nn.GroupNorm(2, out), nn.ReLU()]

    layers = conv(1, 32, 3, 2) + conv(32, 32, 3, 1, 32) + conv(32, 64, 1, 1) + conv(64, 64, 3, 2, 64)
    return nn.Sequential(*layers, *conv(64, 128, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


def small(kit: Kit) -> dict[str, Any]:
    """Small models, us of a client's step: eager, captured, and a hundred clients as one vmapped step in a graph; then
    seconds of a round by an eager loop (its step, times the steps), by fedlens's slots and by its bank."""
    found: dict[str, Any] = {"left out": []}
    nets = {"MLP": mlp, "McMahan": mcmahan, "McMahan as products": lambda: mcmahan(Product)}
    for name, make in {**nets, "MobileNet-like GN": mobile}.items():
        if kit.over():
            found["left out"].append(name)
            continue
        found |= {f"{name} {what}, us": us for what, us in steps(kit, make().to(kit.device)).items()}
        kit.clean()
    for name, known in (("MLP", "mlp"), ("McMahan", "cnn")):
        if kit.over():
            found["left out"].append(f"{name} round")
            continue
        found[f"{name} round"] = round_of(kit, nets[name](), known)
        kit.clean()
    return found


def steps(kit: Kit, module: nn.Module) -> dict[str, float]:
    """Microseconds of one client's step."""
    clients, found = 3 if kit.tiny else CLIENTS, {}
    images, labels = kit.normal(clients, BATCH, 1, 28, 28), kit.labels(clients, BATCH)
    with precision("tf32"):
        one = Local(kit, copy.deepcopy(module), "tf32", last=False)
        one.inputs, one.labels = images[0], labels[0]
        found["eager"] = 1e6 * kit.seconds(one.step)
        found["graph"] = 1e6 * kit.seconds(kit.captured(one.step))
        batched = cohort_step(module, images, labels)
        found[f"vmap C={clients} eager"] = 1e6 * kit.seconds(batched, 5) / clients
        found[f"vmap C={clients} graph"] = 1e6 * kit.seconds(kit.captured(batched), 5) / clients
    return found


def cohort_step(module: nn.Module, images: Tensor, labels: Tensor) -> Step:
    """One step of as many clients as `images` [C, B, ...] has, each with weights of its own."""
    stacked = {
        name: parameter.detach().expand(len(images), *parameter.shape).clone()
        for name, parameter in module.named_parameters()
    }

    def loss(weights: dict[str, Tensor], inputs: Tensor, wanted: Tensor) -> Tensor:
        return F.cross_entropy(torch.func.functional_call(module, weights, (inputs,)), wanted)

    gradients = torch.func.vmap(torch.func.grad(loss))

    def step() -> None:
        slopes = gradients(stacked, images, labels)
        torch._foreach_add_(list(stacked.values()), [slopes[name] for name in stacked], alpha=-RATE)

    return step


def digits() -> Any:
    """Random images of MNIST's shape: a source for fedlens."""
    from fedlens.data import Dataset, Split

    draw, counts = torch.Generator().manual_seed(0), (600, 40) if os.environ.get("GPU_TINY") else (IMAGES, 1000)
    parts = [
        Dataset(
            torch.randint(0, 256, (count, 1, 28, 28), generator=draw, dtype=torch.uint8),
            torch.arange(count) % CLASSES,
            tuple(map(str, range(CLASSES))),
            (0.13,),
            (0.31,),
        )
        for count in counts
    ]
    return Split(*parts, "random digits")


def round_of(kit: Kit, module: nn.Module, known: str) -> dict[str, Any]:
    """Seconds of a round of a hundred clients, who all take part, with batches of ten: FedAvg, float32.

    The eager loop's step is a careful one, in TF32, as PyTorch is set when it starts; gathering its examples, and what
    it does between clients, is not counted.
    """
    from fedlens import Clients, Data, Engine, Experiment, Model, References
    from fedlens import Local as Work
    from fedlens.engine import suited
    from fedlens.engine.cuda import Cuda
    from fedlens.engine.cuda.device import Gpu, Host
    from fedlens.runs import prepare

    os.environ["GPU_TINY"] = "1" if kit.tiny else ""
    clients = 6 if kit.tiny else CLIENTS
    made = prepare(
        Experiment(
            data=Data("gpu_small:digits"),
            clients=Clients(count=clients, cohort=clients),
            model=Model(known),
            local=Work(batch=BATCH, epochs=1, lr=RATE),
            engine=Engine(kind="sequential", together=1, layout="channels-first"),
            references=References(centralised=False),
        )
    )
    visits, places = made.plan.visits(1), suited(made.engine.trainer, clients)
    found: dict[str, Any] = {"clients in the bank": places, "steps": sum(len(visit.batches) for visit in visits)}
    with precision("tf32"):
        careful = Local(kit, module.to(kit.device), "tf32", last=False, careful=True)
        careful.inputs, careful.labels = kit.normal(BATCH, 1, 28, 28), kit.labels(BATCH)
        found["eager loop, s"] = found["steps"] * kit.seconds(careful.step)
    ends = []
    for name, together in (("slots", 1), ("bank", places)):
        here = {"device": Gpu() if kit.cuda else Host(), "together": together}
        engine, times = Cuda(**{**vars(made.engine), **here}), []
        for _ in range(1 + ROUNDS):
            began = time.perf_counter()
            outcome = engine.round(made.start, {}, visits, {})
            kit.wait()
            times.append(time.perf_counter() - began)
            if kit.over():
                break
        engine.close()
        ends.append(outcome.reduced()["update"])
        found |= {f"{name}, s": statistics.median(times[1:] or times), f"{name}, first round s": times[0]}
        found[f"{name}, MB"] = kit.megabytes()
    found["bank and slots differ by, relative"] = float((ends[1] - ends[0]).norm() / ends[0].norm())
    return found
