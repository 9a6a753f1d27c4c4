"""The experiments that wait for a GPU, in their order: what is expected beside what is found. See gpu.md.

    python bench/gpu.py                        all parts, thirteen minutes on a free GPU
    python bench/gpu.py --only 1 2 3           some of them
    python bench/gpu.py --device cpu --tiny    does all of it work? No figures to keep

Needs PyTorch and NumPy; parts 0, 7, 8 and 9 also what fedlens needs (PYTHONPATH=src will do), and they say so where it
is absent. Every part has a limit of time, notes what it had to leave out, and writes gpu.json (into $OUT, where that is
set) when it ends. Inputs are random numbers, never zeros, which some kernels multiply faster.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Step = Callable[[], object]
BATCH, CLASSES, RATE = 10, 10, 0.01
TRAINING_GFLOP = 7.783  # ResNet-50 with a CIFAR stem, forward and backward, for each image (counted)
FORWARD_GFLOP = 2.596
ROUNDS, COHORT, STEPS = 100, 10, 45  # source 003: ResNet-50, 10 clients a round, 45 steps of 10


# What is measured with.


class Kit:
    """A device and how things are timed on it. On the CPU a captured step is the step itself."""

    def __init__(self, device: str, tiny: bool) -> None:
        self.device, self.tiny, self.cuda = torch.device(device), tiny, device == "cuda"
        self.end = time.monotonic()

    def limit(self, seconds: float) -> None:
        """From now on, `over` is false for so many seconds."""
        self.end = time.monotonic() + seconds

    def over(self) -> bool:
        """Whether the part has used up its time."""
        return time.monotonic() > self.end

    def wait(self) -> None:
        """Until the device has done all."""
        if self.cuda:
            torch.cuda.synchronize()

    def seconds(self, step: Step, times: int = 30, repeats: int = 5) -> float:
        """The median, over repeats of some runs, of one run's seconds."""
        times, repeats = (2, 2) if self.tiny else (times, repeats)
        step()
        found = []
        for _ in range(repeats):
            self.wait()
            began = time.perf_counter()
            for _ in range(times):
                step()
            self.wait()
            found.append((time.perf_counter() - began) / times)
            if self.over():
                break
        return statistics.median(found)

    def stream(self) -> Any:
        """A queue of work of its own."""
        return torch.cuda.Stream() if self.cuda else None

    def on(self, stream: Any) -> Any:
        """Inside, what is asked for goes there."""
        return torch.cuda.stream(stream) if self.cuda else nullcontext()

    def captured(self, step: Step, stream: Any = None) -> Step:
        """`step` as a graph, captured on a stream of its own after three runs that set libraries up."""
        stream = stream or self.stream()
        if self.cuda:
            stream.wait_stream(torch.cuda.current_stream())
        with self.on(stream):
            for _ in range(1 if self.tiny else 3):
                step()
        self.wait()
        if not self.cuda:
            return step
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            step()
        replay: Step = graph.replay
        return replay

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Random numbers."""
        return torch.randn(*shape, device=self.device).to(dtype)

    def labels(self, *shape: int) -> Tensor:
        """Random classes."""
        return torch.randint(0, CLASSES, shape, device=self.device)

    def megabytes(self) -> float | None:
        """Held on the device at most since the last question."""
        if not self.cuda:
            return None
        most = torch.cuda.max_memory_reserved() / 2**20
        torch.cuda.reset_peak_memory_stats()
        return round(most)

    def clean(self) -> None:
        """Give memory back."""
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()


@contextmanager
def precision(name: str) -> Iterator[None]:
    """float32 ("exact": with deterministic algorithms, as fedlens has it), tf32, or bfloat16 by autocast."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    tf32 = name == "tf32"
    new = hasattr(cudnn, "conv")
    places = [(cudnn.conv, matmul), "fp32_precision"] if new else [(cudnn, matmul), "allow_tf32"]
    for place in places[0]:
        setattr(place, places[1], ("tf32" if tf32 else "ieee") if new else tf32)
    cudnn.deterministic = name in ("exact", "bf16 deterministic")
    try:
        yield
    finally:
        cudnn.deterministic = False


# The networks.


class Block(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and the shortcut (He et al. 2016)."""

    def __init__(self, into: int, width: int, stride: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        out = 4 * width
        self.inner = nn.Sequential(
            *(nn.Conv2d(into, width, 1, bias=False), norm(width), nn.ReLU()),
            *(nn.Conv2d(width, width, 3, stride, 1, bias=False), norm(width), nn.ReLU()),
            *(nn.Conv2d(width, out, 1, bias=False), norm(out)),
        )
        same = stride == 1 and into == out
        self.outer = nn.Sequential() if same else nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), norm(out))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.inner(x) + self.outer(x))


def resnet(kit: Kit, norm: str) -> nn.Module:
    """ResNet-50 for 32 x 32 images, 23,520,842 parameters, with batch or group norm (two groups). Tiny: a part."""
    made: Callable[[int], nn.Module] = nn.BatchNorm2d if norm == "BN" else lambda channels: nn.GroupNorm(2, channels)
    first, blocks = (8, (1, 1, 1, 1)) if kit.tiny else (64, (3, 4, 6, 3))
    layers: list[nn.Module] = [nn.Conv2d(3, first, 3, 1, 1, bias=False), made(first), nn.ReLU()]
    into = first
    for stage, count in enumerate(blocks):
        for place in range(count):
            width = first * 2**stage
            layers.append(Block(into, width, 2 if stage and not place else 1, made))
            into = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(into, CLASSES)).to(kit.device)


class Local:
    """One client's training as fedlens has it: parameters are views of one vector, gradients are laid into one, the
    update is one operation with the rate on the device. `careful`: instead, what a careful plain loop does."""

    def __init__(self, kit: Kit, module: nn.Module, how: str, last: bool, careful: bool = False) -> None:
        self.module, self.how, self.last, self.careful = module, how, last, careful
        self.parameters = list(module.parameters())
        self.vector = torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters])
        self.gradient, at = torch.empty_like(self.vector), 0
        for parameter in self.parameters:
            if not careful:
                parameter.data = self.vector[at : at + parameter.numel()].view_as(parameter)
            at += parameter.numel()
        self.rate = torch.tensor(RATE, device=kit.device)
        batch = 2 if kit.tiny else BATCH
        self.inputs, self.labels = kit.normal(batch, 3, 32, 32), kit.labels(batch)
        if last:
            self.inputs = self.inputs.contiguous(memory_format=torch.channels_last)
            if careful:
                module.to(memory_format=torch.channels_last)

    def outputs(self, inputs: Tensor) -> Tensor:
        """Logits, in float32."""
        low = self.how.startswith("bf16")
        with torch.autocast(inputs.device.type, torch.bfloat16) if low else nullcontext():
            return self.module(inputs).float()

    def step(self) -> None:
        """One step of SGD."""
        loss = F.cross_entropy(self.outputs(self.inputs), self.labels)
        slopes = torch.autograd.grad(loss, self.parameters)
        with torch.no_grad():
            if self.careful:
                torch._foreach_add_(self.parameters, slopes, alpha=-RATE)
            else:
                torch.cat([slope.reshape(-1) for slope in slopes], out=self.gradient)
                self.vector.addcmul_(self.gradient, self.rate, value=-1)


# The parts.


def ceilings(kit: Kit) -> dict[str, Any]:
    """What the device can do at best: products, copies, and how often something can be asked of it."""
    side, found = (128 if kit.tiny else 8192), {}
    for name, dtype in (("bf16", torch.bfloat16), ("tf32", torch.float32), ("float32", torch.float32)):
        one, other = kit.normal(side, side, dtype=dtype), kit.normal(side, side, dtype=dtype)
        with precision(name):
            found[f"{name} TFLOP/s"] = 2e-12 * side**3 / kit.seconds(lambda: one @ other, 10)  # noqa: B023
    numbers = kit.normal(2**12 if kit.tiny else 2**28)
    target = torch.empty_like(numbers)
    found["copy TB/s"] = 2e-12 * numbers.nbytes / kit.seconds(lambda: target.copy_(numbers), 10)
    few, many = kit.normal(10), 100 if kit.tiny else 1000

    def asked() -> None:
        for _ in range(many):
            few.add_(1.0)

    found["kernel, asked for, us"] = 1e6 * kit.seconds(asked, 3) / many
    found["kernel, in a graph, us"] = 1e6 * kit.seconds(kit.captured(asked), 3) / many
    host = torch.randn(1000 if kit.tiny else 23_520_842)
    found["model to the device, ms"] = 1e3 * kit.seconds(lambda: host.to(kit.device), 3)
    there = host.to(kit.device)
    found["model from the device, ms"] = 1e3 * kit.seconds(lambda: there.cpu(), 3)
    return found


def steps(kit: Kit) -> dict[str, Any]:
    """ResNet-50's step at B = 10: norm x layout x precision x form, ms, and the kernels in it."""
    found: dict[str, Any] = {"ms": {}, "kernels": {}, "left out": []}
    wanted = [
        (norm, layout, how)
        for how in ("tf32", "bf16", "exact", "bf16 deterministic")
        for norm in ("BN", "GN")
        for layout in ("NCHW", "NHWC")
    ]
    for norm, layout, how in wanted[:4] if kit.tiny else wanted:
        name = f"{norm} {layout} {how}"
        if kit.over():
            found["left out"].append(name)
            continue
        with precision(how):
            careful = Local(kit, resnet(kit, norm), how, layout == "NHWC", careful=True)
            found["ms"][f"{name} eager"] = 1e3 * kit.seconds(careful.step, 10, 3)
            found["ms"][f"{name} graph, 161 tensors"] = 1e3 * kit.seconds(kit.captured(careful.step), 20, 3)
            one = Local(kit, resnet(kit, norm), how, layout == "NHWC")
            found["kernels"][name] = kernels(kit, one.step)
            found["ms"][f"{name} graph"] = 1e3 * kit.seconds(kit.captured(one.step))
        del careful, one
        kit.clean()
    return found


def kernels(kit: Kit, step: Step) -> int | None:
    """How many kernels a step asks for."""
    if not kit.cuda:
        return None
    step()
    try:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
            step()
            kit.wait()
        return sum(1 for event in seen.events() if event.device_type == torch.autograd.DeviceType.CUDA)
    except RuntimeError:  # some machines let nobody look
        return None


def best_form(results: dict[str, Any], norm: str) -> tuple[str, str]:
    """The layout and precision of the fastest captured step in bfloat16; where none was measured, a guess."""
    measured = results.get("2", {}).get("ms", {})
    graphs = {name: ms for name, ms in measured.items() if name.startswith(norm) and name.endswith("bf16 graph")}
    if not graphs:
        return "NCHW" if norm == "GN" else "NHWC", "bf16"
    return min(graphs, key=graphs.__getitem__).split()[1], "bf16"


def together(kit: Kit, results: dict[str, Any]) -> dict[str, Any]:
    """K captured clients on K streams: ms of a client's step, by K; and evaluation on 10,000 images."""
    found: dict[str, Any] = {"left out": []}
    for norm in ("GN", "BN"):
        layout, how = best_form(results, norm)
        row = found[f"{norm} {layout} {how}"] = {}
        slots: list[tuple[Any, Step]] = []
        for count in (1, 2) if kit.tiny else (1, 2, 4, 8, 10, 16):
            if kit.over():
                found["left out"].append(f"{norm} K={count}")
                continue
            with precision(how):
                while len(slots) < count:
                    stream = kit.stream()
                    slots.append(
                        (stream, kit.captured(Local(kit, resnet(kit, norm), how, layout == "NHWC").step, stream))
                    )
            row[f"K={count} ms"] = 1e3 * kit.seconds(lambda: replayed(kit, slots), 20) / count  # noqa: B023
            row[f"K={count} MB"] = kit.megabytes()
        slots.clear()
        kit.clean()
        row["evaluation s"] = examined(kit, norm, layout, how)
        kit.clean()
    return found


def replayed(kit: Kit, slots: list[tuple[Any, Step]]) -> None:
    """One step of every slot."""
    for stream, step in slots:
        with kit.on(stream):
            step()


def examined(kit: Kit, norm: str, layout: str, how: str) -> float:
    """Seconds of a captured evaluation on 10,000 images, a thousand at a time."""
    count, many = (4, 1) if kit.tiny else (1000, 10)
    one = Local(kit, resnet(kit, norm).eval(), how, layout == "NHWC")
    images = kit.normal(count, 3, 32, 32)
    images = images.contiguous(memory_format=torch.channels_last) if layout == "NHWC" else images
    right = torch.zeros((), device=kit.device, dtype=torch.int64)

    @torch.no_grad()
    def look() -> None:
        right.add_((one.outputs(images).argmax(1) == 0).sum())

    with precision(how):
        return many * kit.seconds(kit.captured(look), 5)


def updates(kit: Kit) -> dict[str, Any]:
    """An SGD step on 161 tensors or on one vector, captured, us; and how gradients get into the vector."""
    module = resnet(kit, "GN")
    shapes = [parameter.shape for parameter in module.parameters()]
    separate = [kit.normal(*shape).requires_grad_() for shape in shapes]
    slopes = [kit.normal(*shape) for shape in shapes]
    for one, slope in zip(separate, slopes, strict=True):
        one.grad = slope
    vector = torch.cat([one.detach().reshape(-1) for one in separate])
    gradient, rate = torch.randn_like(vector), torch.tensor(RATE, device=kit.device)
    views, at = [], 0
    for shape in shapes:
        views.append(gradient[at : at + shape.numel()].view(shape))
        at += shape.numel()

    def added() -> None:
        gradient.zero_()
        torch._foreach_add_(views, slopes)

    forms: dict[str, Step] = {
        "vector, rate on the device": lambda: vector.addcmul_(gradient, rate, value=-1),
        "vector, rate a number": lambda: vector.add_(gradient, alpha=-RATE),
        "161 tensors, foreach": torch.optim.SGD(separate, RATE, foreach=True).step,
        "161 tensors, fused": torch.optim.SGD(separate, RATE, fused=True).step,
        "161 tensors, add_ foreach": lambda: torch._foreach_add_([s.detach() for s in separate], slopes, alpha=-RATE),
        "gradients laid in by cat": lambda: torch.cat([s.reshape(-1) for s in slopes], out=gradient),
        "gradients laid in by copy": lambda: torch._foreach_copy_(views, slopes),
        "gradients added to zeros": added,
    }
    return {f"{name}, us": 1e6 * kit.seconds(kit.captured(form)) for name, form in forms.items()}


def layers(kit: Kit) -> dict[str, Any]:
    """Ten clients' convolutions of one stage, us: each alone on a stream, grouped, and 1x1 ones as batched products."""
    found: dict[str, Any] = {"left out": []}
    clients, batch = (2, 2) if kit.tiny else (10, BATCH)
    for stage, (side, channels) in enumerate(((32, 64), (16, 128), (8, 256), (4, 512)), 1):
        for size in (1, 3):
            into = 4 * channels if size == 1 else channels
            if kit.over():
                found["left out"].append(f"stage {stage} {size}x{size}")
                continue
            found |= layer(kit, f"stage {stage} {size}x{size}", clients, batch, into, channels, side, size)
            kit.clean()
    for kind in ("1x1 apart", "1x1 grouped", "1x1 product", "3x3 apart", "3x3 grouped"):
        found[f"{kind}, us"] = sum(value for name, value in found.items() if f"{kind}, " in name)
    return found


def layer(kit: Kit, name: str, clients: int, batch: int, into: int, out: int, side: int, size: int) -> dict[str, float]:
    """One layer's forward pass and its two gradients, bf16, channels last, captured."""
    half, last = torch.bfloat16, torch.channels_last
    inputs = kit.normal(clients, batch, into, side, side, dtype=half)
    weights = kit.normal(clients, out, into, size, size, dtype=half) / (into * size)
    slopes = kit.normal(clients, batch, out, side, side, dtype=half)
    apart = [
        (x.contiguous(memory_format=last), w.contiguous(memory_format=last), s.contiguous(memory_format=last))
        for x, w, s in zip(inputs, weights, slopes, strict=True)
    ]
    grouped = [part.transpose(0, 1).flatten(1, 2).contiguous(memory_format=last) for part in (inputs, slopes)]
    joined = weights.flatten(0, 1).contiguous(memory_format=last)
    back = torch.ops.aten.convolution_backward

    def gradient(slope: Tensor, x: Tensor, w: Tensor, groups: int, which: int) -> None:
        mask = [which == 0, which == 1, False]
        back(slope, x, w, None, [1, 1], [size // 2] * 2, [1, 1], False, [0, 0], groups, mask)

    def each(work: Callable[[Tensor, Tensor, Tensor], object]) -> Step:
        return lambda: [work(*one) for one in apart]

    forms: dict[str, Step] = {
        "apart, forward": each(lambda x, w, s: F.conv2d(x, w, padding=size // 2)),
        "apart, by inputs": each(lambda x, w, s: gradient(s, x, w, 1, 0)),
        "apart, by weights": each(lambda x, w, s: gradient(s, x, w, 1, 1)),
        "grouped, forward": lambda: F.conv2d(grouped[0], joined, padding=size // 2, groups=clients),
        "grouped, by inputs": lambda: gradient(grouped[1], grouped[0], joined, clients, 0),
        "grouped, by weights": lambda: gradient(grouped[1], grouped[0], joined, clients, 1),
    }
    if size == 1:
        rows = inputs.permute(0, 1, 3, 4, 2).reshape(clients, -1, into)
        slope, flat = slopes.permute(0, 1, 3, 4, 2).reshape(clients, -1, out), weights.flatten(2)
        forms["product, forward"] = lambda: torch.bmm(rows, flat.mT)
        forms["product, by inputs"] = lambda: torch.bmm(slope, flat)
        forms["product, by weights"] = lambda: torch.bmm(slope.mT, rows)
    return {f"{name} {form}, us": 1e6 * kit.seconds(kit.captured(step), 20, 3) for form, step in forms.items()}


def processes(kit: Kit, mps: bool) -> dict[str, Any]:
    """Eager steps a second of one and of four processes; with MPS too, where that is wished and there."""
    control = shutil.which("nvidia-cuda-mps-control")
    many = 2 if kit.tiny else 4
    found: dict[str, Any] = {"MPS control": control, "1 process, steps/s": crowd(kit, 1, {})}
    found[f"{many} processes, steps/s"] = crowd(kit, many, {})
    if control is None or not mps:
        return found
    with tempfile.TemporaryDirectory() as folder:
        places = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        environment = {**os.environ, **places}
        subprocess.run([control, "-d"], env=environment, check=False)
        try:
            found[f"{many} processes with MPS, steps/s"] = crowd(kit, many, places)
        finally:
            subprocess.run([control], input="quit\n", text=True, env=environment, check=False)
    return found


def crowd(kit: Kit, count: int, places: dict[str, str]) -> float:
    """Steps a second of `count` processes at the same time."""
    tiny = ["--tiny"] if kit.tiny else []
    asked = [sys.executable, __file__, "--device", kit.device.type, *tiny, "--worker", "0.5" if kit.tiny else "5"]
    environment = {**os.environ, **places}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    hands = [subprocess.Popen(asked, env=environment, **pipes) for _ in range(count)]
    try:
        for hand in hands:
            if hand.stdout.readline().strip() != "ready":
                raise RuntimeError("a process did not get ready")
        for hand in hands:
            hand.stdin.write("go\n")
            hand.stdin.flush()
        return sum(float(hand.stdout.readline()) for hand in hands)
    finally:
        for hand in hands:
            hand.kill()
            hand.communicate()


def worker(kit: Kit, seconds: float) -> None:
    """One process of a crowd: eager steps for so long, when it is told to."""
    with precision("bf16"):
        one = Local(kit, resnet(kit, "GN"), "bf16", last=False, careful=True)
        for _ in range(2 if kit.tiny else 10):
            one.step()
        kit.wait()
        print("ready", flush=True)
        sys.stdin.readline()
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            one.step()
            kit.wait()
            done += 1
        print(done / (time.perf_counter() - began), flush=True)


def small_models(kit: Kit) -> dict[str, Any]:
    """Part 8 lies beside this file."""
    from gpu_small import small

    found: dict[str, Any] = small(kit)
    return found


# The parts that ask fedlens.


def pictures() -> Any:
    """CIFAR-10 or, where it is not at hand, ten kinds of coloured stripes of its shape: a source for fedlens."""
    from fedlens.data import Data, Dataset, Split, load
    from fedlens.errors import DataError

    tiny = bool(os.environ.get("GPU_TINY"))
    try:
        if tiny:
            raise DataError("not wanted", do="")
        return load(Data("cifar10"))
    except DataError:
        counts = (200, 40) if tiny else (50_000, 10_000)
        parts = [striped(count, seed) for seed, count in enumerate(counts)]
        facts = tuple(map(str, range(CLASSES))), (0.5,) * 3, (0.25,) * 3
        return Split(*(Dataset(images, labels, *facts) for images, labels in parts), "stripes, not CIFAR-10")


def striped(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """u8 images whose direction, width and colour of stripes follow their class, under much noise."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    waves = torch.stack([torch.sin((rows * (k % 3) + columns * (k % 4)) * (0.2 + 0.05 * k)) for k in range(CLASSES)])
    colours = torch.rand(CLASSES, 3, generator=draw.manual_seed(7))[:, :, None, None]
    clean = 127 + 40 * waves[:, None] * colours
    noise = 60 * torch.randn(count, 3, 32, 32, generator=draw.manual_seed(seed))
    return (clean[labels] + noise).clamp(0, 255).to(torch.uint8), labels


def federation(kit: Kit, how: str, layout: str, rounds: int) -> Any:
    """Source 003's protocol, ready to run on the device."""
    from dataclasses import replace

    from fedlens import Clients, Data, Engine, Experiment, Local, Model, References
    from fedlens.engine.cuda import Cuda
    from fedlens.engine.cuda.device import Gpu, Host
    from fedlens.runs import prepare

    os.environ["GPU_TINY"] = "1" if kit.tiny else ""
    model = Model("resnet8" if kit.tiny else "resnet50", norm="group", groups=2)
    asked = Experiment(
        name="source-003",
        rounds=rounds,
        data=Data("gpu:pictures", augment="crop-flip"),
        clients=Clients(count=4 if kit.tiny else 100, cohort=2 if kit.tiny else COHORT),
        model=model,
        local=Local(batch=BATCH, steps=4 if kit.tiny else STEPS, lr=0.05),
        engine=Engine(kind="sequential", together=1, precision=how, layout=layout),
        references=References(centralised=False),
    )
    made = prepare(asked)
    return replace(made, engine=Cuda(**vars(made.engine), device=Gpu() if kit.cuda else Host()))


def small_net(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Convolution, batch norm, dropout: every kind of state, and nothing whose backward pass adds in any order."""
    layers = nn.Conv2d(shape[0], 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten()
    return nn.Sequential(*layers, nn.Dropout(0.2), nn.Linear(8 * (shape[1] // 4) * (shape[2] // 4), classes))


def still_net(shape: tuple[int, ...], classes: int) -> nn.Module:
    """The same without dropout, whose masks differ from device to device."""
    module = small_net(shape, classes)
    module[5] = nn.Identity()
    return module


def grouped_net(shape: tuple[int, ...], classes: int) -> nn.Module:
    """The same with group norm, for which clients can stand in a bank."""
    module = still_net(shape, classes)
    module[1] = nn.GroupNorm(2, 8)
    return module


def proofs(kit: Kit) -> dict[str, Any]:
    """Is it right? The engine beside the oracle in float64, and its runs with one, three and four slots to the bit."""
    from dataclasses import replace

    from fedlens import Clients, Data, Engine, Experiment, Local, Model, References
    from fedlens.engine.cuda import Cuda
    from fedlens.engine.cuda.device import Gpu, Host
    from fedlens.runs import prepare
    from fedlens.runs.loop import advance

    def end(model: str, how: str, **cuda: Any) -> Tensor:
        made = prepare(
            Experiment(
                rounds=3,
                data=Data("gpu:pictures", augment="crop-flip-cutout"),
                clients=Clients(count=40, cohort=6, partition={"kind": "quantity", "sigma": 1.0}),
                model=Model(f"gpu:{model}"),
                local=Local(batch=BATCH, lr=0.05, momentum=0.9, weight_decay=1e-3),
                engine=Engine(kind="sequential", together=1, precision=how, layout="channels-first"),
                references=References(centralised=False),
            )
        )
        if cuda:
            made = replace(made, engine=Cuda(**vars(made.engine), device=Gpu() if kit.cuda else Host(), **cuda))
        last: Tensor = list(advance(made))[-1].tree.vector
        return last

    os.environ["GPU_TINY"] = "1"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        one, other = end("still_net", "float64"), end("still_net", "float64", slots=2)
        alone, banked = end("grouped_net", "float64"), end("grouped_net", "float64", together=3)
        same = {how: [end("small_net", how, slots=slots) for slots in (1, 3, 4)] for how in ("float32", "bfloat16")}
    return {
        "difference in float64": float((one - other).norm() / one.norm()),
        "difference of a bank in float64": float((alone - banked).norm() / alone.norm()),
        "runs that differ": sum(not torch.equal(ends[0], end) for ends in same.values() for end in ends),
        "warnings": sorted({str(warning.message) for warning in told}),
    }


def run_rounds(kit: Kit, how: str, layout: str, rounds: int) -> dict[str, Any]:
    """Seconds, accuracies and the first update of some rounds; fewer where time is over."""
    from fedlens.runs.loop import advance

    made = federation(kit, how, layout, rounds)
    found: dict[str, Any] = {"train s": [], "evaluate s": [], "accuracy": [], "test set": made.split.test_is}
    for state in advance(made):
        found["accuracy"].append(state.accuracy)
        found["evaluate s"].append(state.evaluate_seconds)
        if state.round:
            found["train s"].append(state.train_seconds)
        if state.round == 1:
            found["update"] = state.tree.vector - made.start.vector
        if kit.over():
            break
    found["MB"] = kit.megabytes()
    kit.clean()
    return found


def layout_of(results: dict[str, Any]) -> str:
    """The better layout for group norm, as fedlens calls it."""
    return "channels-last" if best_form(results, "GN")[0] == "NHWC" else "channels-first"


def end_to_end(kit: Kit, results: dict[str, Any]) -> dict[str, Any]:
    """Three rounds of source 003's protocol in both precisions."""
    rounds = 1 if kit.tiny else 3
    runs = {how: run_rounds(kit, how, layout_of(results), rounds) for how in ("bfloat16", "float32")}
    one, other = (run.pop("update") for run in runs.values())
    return {**runs, "cosine of the first updates": float(torch.cosine_similarity(one, other, 0))}


def source_003(kit: Kit, results: dict[str, Any]) -> dict[str, Any]:
    """All rounds in bfloat16, or those that fit; the eager loop's time and the floor beside it."""
    rounds = 2 if kit.tiny else ROUNDS
    run = run_rounds(kit, "bfloat16", layout_of(results), rounds)
    del run["update"]
    counted = ROUNDS * COHORT * STEPS
    # The first round captures; the others are what a long run is made of.
    later = run["train s"][1:] or run["train s"]
    found = {**run, "rounds": len(run["train s"]), "first round s": run["train s"][0]}
    found["training of 100 rounds, s"] = run["train s"][0] + (ROUNDS - 1) * statistics.mean(later)
    found["evaluation of 100 rounds, s"] = ROUNDS * statistics.median(run["evaluate s"])
    with precision("bf16"):
        careful = Local(kit, resnet(kit, "GN"), "bf16", last=False, careful=True)
        found["eager loop of 100 rounds, s"] = counted * kit.seconds(careful.step, 10, 3)
    peak = results.get("1", {}).get("bf16 TFLOP/s")
    if peak:
        found["floor of training, s"] = 1e-3 * counted * BATCH * TRAINING_GFLOP / peak
        found["floor of evaluation, s"] = 1e-3 * ROUNDS * 10_000 * FORWARD_GFLOP / peak
    return found


# What is expected, and of which figures.


class Expected(NamedTuple):
    """A figure of `part`, or its ratio to another (`under`), should lie between `low` and `high`. Figures are named by
    their keys, joined by " > "; a "*" stands for the least of those that fit."""

    part: str
    what: str
    low: float
    high: float
    figure: str
    under: str = ""

    def value(self, found: dict[str, Any]) -> float:
        """The figure. Raises KeyError where it was not measured."""
        one = figure(found[self.part], self.figure)
        return one / figure(found[self.part], self.under) if self.under else one


def figure(found: dict[str, Any], name: str) -> float:
    """A figure by its keys; KeyError where there is none."""
    key, _, rest = name.partition(" > ")
    values = [found[one] for one in found if fnmatchcase(one, key)]
    if not values:
        raise KeyError(name)
    return min(figure(value, rest) for value in values) if rest else min(float(value) for value in values)


PREDICTIONS = [
    Expected("0", "float64: the engine beside the oracle, relative", 0, 1e-10, "difference in float64"),
    Expected("0", "float64: a bank beside the oracle, relative", 0, 1e-10, "difference of a bank in float64"),
    Expected("0", "slots whose runs differ in a bit", 0, 0, "runs that differ"),
    Expected("1", "bf16 product, TFLOP/s", 650, 850, "bf16 TFLOP/s"),
    Expected("1", "copy, TB/s", 3.9, 4.5, "copy TB/s"),
    Expected("1", "kernel asked for eagerly, us", 3, 8, "kernel, asked for, us"),
    Expected("1", "kernel in a graph, us", 0.8, 2.5, "kernel, in a graph, us"),
    Expected("2", "GN, NCHW, TF32, eager, ms", 8, 14, "ms > GN NCHW tf32 eager"),
    Expected("2", "the same captured, ms", 2.5, 4, "ms > GN NCHW tf32 graph"),
    Expected("2", "GN, bf16, captured, better layout, ms", 2, 3, "ms > GN * bf16 graph"),
    Expected("2", "GN, bf16, NCHW: eager / captured", 3, 5, "ms > GN NCHW bf16 eager", "ms > GN NCHW bf16 graph"),
    Expected("2", "GN, bf16, eager: NHWC / NCHW", 1.05, 2, "ms > GN NHWC bf16 eager", "ms > GN NCHW bf16 eager"),
    Expected("2", "BN, bf16, captured: NHWC / NCHW", 0.5, 0.95, "ms > BN NHWC bf16 graph", "ms > BN NCHW bf16 graph"),
    Expected("2", "deterministic / free, GN", 1, 1.2, "ms > GN * bf16 deterministic graph", "ms > GN * bf16 graph"),
    Expected("3", "GN: time of a step, K = 1 / K = 8", 2, 3, "GN* > K=1 ms", "GN* > K=8 ms"),
    Expected("3", "GN: least ms of a client's step", 0.7, 1.1, "GN* > K=* ms"),
    Expected("3", "GN: evaluation of 10,000 images, s", 0.06, 0.15, "GN* > evaluation s"),
    Expected("4", "update of one vector, us", 66, 110, "vector, rate on the device, us"),
    Expected("4", "161 tensors / one vector", 1.05, 2, "161 tensors, f*, us", "vector, rate on the device, us"),
    Expected("4", "gradients added / laid in", 1.3, 2.5, "gradients added to zeros, us", "gradients laid in by *, us"),
    Expected("5", "3x3 forward and backward: grouped / apart", 1, 5, "3x3 grouped, us", "3x3 apart, us"),
    Expected("5", "1x1: batched products / apart", 0.2, 0.7, "1x1 product, us", "1x1 apart, us"),
    Expected("6", "4 eager processes / 1, without MPS", 1, 2.5, "4 processes, steps/s", "1 process, steps/s"),
    Expected("7", "cosine of the first updates, bf16 and float32", 0.9, 0.999, "cosine of the first updates"),
    Expected("8", "MLP: one captured / one of 100", 10, 50, "MLP graph, us", "MLP vmap C=100 graph, us"),
    Expected("8", "McMahan: the same", 2, 20, "McMahan graph, us", "McMahan vmap C=100 graph, us"),
    Expected("8", "MobileNet-like: the same", 10, 50, "Mobile* GN graph, us", "Mobile* vmap C=100 graph, us"),
    Expected("8", "McMahan: convolutions / products", 1.5, 8, "McMahan v* graph, us", "McMahan as* v* graph, us"),
    Expected("8", "MLP, a round: eager loop / bank", 8, 30, "MLP round > eager loop, s", "MLP round > bank, s"),
    Expected("8", "MLP, a round: slots / bank", 2, 8, "MLP round > slots, s", "MLP round > bank, s"),
    Expected("8", "McMahan, a round: eager / bank", 2, 15, "McMahan round > eager*", "McMahan round > bank, s"),
    Expected("9", "training of 100 rounds, s", 35, 90, "training of 100 rounds, s"),
    Expected("9", "eager loop / ours", 5, 15, "eager loop of 100 rounds, s", "training of 100 rounds, s"),
]


def compared(found: dict[str, Any]) -> list[str]:
    """Predictions beside outcomes, a row of gpu.md each."""
    rows = ["| part | what | expected | found | |", "|---|---|---|---|---|"]
    for one in PREDICTIONS:
        try:
            value = one.value(found)
            seen = f"{value:.3g}"
            told = "as expected" if one.low <= value <= one.high else "below" if value < one.low else "above"
        except (KeyError, TypeError, ZeroDivisionError):
            seen, told = "not measured", ""
        rows.append(f"| {one.part} | {one.what} | {one.low:g} to {one.high:g} | {seen} | {told} |")
    return rows


Part = tuple[str, float, Callable[[Kit, dict[str, Any], argparse.Namespace], dict[str, Any]]]
PARTS: dict[str, Part] = {
    "0": ("is it right?", 60, lambda kit, found, asked: proofs(kit)),
    "1": ("ceilings", 60, lambda kit, found, asked: ceilings(kit)),
    "2": ("ResNet-50 steps", 150, lambda kit, found, asked: steps(kit)),
    "3": ("several clients at once", 90, lambda kit, found, asked: together(kit, found)),
    "4": ("updates", 30, lambda kit, found, asked: updates(kit)),
    "5": ("layers of ten clients", 60, lambda kit, found, asked: layers(kit)),
    "6": ("processes", 90, lambda kit, found, asked: processes(kit, asked.mps)),
    "7": ("three rounds in two precisions", 120, lambda kit, found, asked: end_to_end(kit, found)),
    "8": ("small models", 120, lambda kit, found, asked: small_models(kit)),
    "9": ("source 003's protocol, 100 rounds", 180, lambda kit, found, asked: source_003(kit, found)),
}


def place(kit: Kit) -> dict[str, Any]:
    """What it was measured on."""
    facts = {"torch": torch.__version__, "python": sys.version.split()[0], "tiny": kit.tiny, "device": "cpu"}
    if kit.cuda:
        seen = torch.cuda.get_device_properties(0)
        facts |= {"device": seen.name, "multiprocessors": seen.multi_processor_count, "GB": seen.total_memory / 2**30}
        facts |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return facts


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small sizes: does it work?")
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=list(PARTS), metavar="PART")
    parser.add_argument("--mps", action="store_true", help="part 6 also with an MPS daemon of its own, ended after it")
    parser.add_argument("--worker", type=float, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    kit = Kit(asked.device, asked.tiny)
    if asked.worker is not None:
        kit.limit(60)
        worker(kit, asked.worker)
        return
    torch.manual_seed(0)
    file = Path(os.environ.get("OUT", ".")) / "gpu.json"
    found: dict[str, Any] = {"place": place(kit)}
    print(json.dumps(found["place"]))
    for number in asked.only:
        title, limit, part = PARTS[number]
        kit.limit(limit)
        began = time.monotonic()
        try:
            found[number] = part(kit, found, asked)
        except Exception as error:  # one part that fails must not cost the others
            found[number] = {"failed": f"{type(error).__name__}: {error}"}
        kit.clean()
        print(
            f"\n{number}. {title} ({time.monotonic() - began:.0f} s)\n{json.dumps(found[number], indent=1)}", flush=True
        )
        file.write_text(json.dumps(found, indent=1) + "\n")
    print("", *compared(found), sep="\n")
    if kit.tiny:
        print("\nSmall sizes: these figures say only that the script works.")


if __name__ == "__main__":
    main()
