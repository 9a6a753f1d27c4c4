"""What a call of `fit` does inside PyTorch is seen, and nothing is left behind."""

import copy
import math
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.functional import cross_entropy as imported_before
from torch.nn.utils import clip_grad_norm_
from torch.optim.optimizer import _global_optimizer_pre_hooks

from fedlens.diagnosis.evidence import Watched
from fedlens.diagnosis.watch import watching
from fedlens.diagnosis.watch.identity import number_of, number_of_memory
from fedlens.diagnosis.watch.losses import run_length

State = dict[str, Tensor]
CLASSES, WIDTH, EXAMPLES, BATCH = 4, 6, 32, 8
Loss = Callable[[Tensor, Tensor], Tensor]


class Net(nn.Module):
    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(WIDTH, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout))
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


@pytest.fixture(autouse=True)
def still() -> Iterator[None]:
    torch.manual_seed(1)
    yield


def data() -> tuple[Tensor, Tensor]:
    """Standard normal inputs and as many examples of each class, shuffled."""
    return torch.randn(EXAMPLES, WIDTH), torch.arange(CLASSES).repeat(EXAMPLES // CLASSES)[torch.randperm(EXAMPLES)]


def state_of(model: nn.Module) -> State:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def train(model: nn.Module, xs: Tensor, ys: Tensor, loss: Loss = F.cross_entropy, make: Any = None) -> None:
    optimizer = make(model.parameters()) if make else torch.optim.SGD(model.parameters(), lr=0.1)
    for begin in range(0, len(xs), BATCH):
        optimizer.zero_grad()
        loss(model(xs[begin : begin + BATCH]), ys[begin : begin + BATCH]).backward()
        optimizer.step()


def seen_of(work: Callable[[], Any], received: State, returned: State | None = None, **options: Any) -> Watched:
    with watching(received, **options) as watch:
        work()
    return watch.told(returned)


def seen_training(model: nn.Module, **how: Any) -> Watched:
    xs, ys = data()
    return seen_of(lambda: train(model.train(), xs, ys, **how), state_of(model))


def test_a_plain_fit_is_told_in_full() -> None:
    model, (xs, ys) = Net(), data()
    received = state_of(Net())

    def fit() -> State:
        model.load_state_dict(received)
        train(model.train(), xs, ys)
        return state_of(model)

    with watching(received) as watch:
        returned = fit()
    seen = watch.told(returned)
    steps = EXAMPLES // BATCH
    assert (seen.start, seen.steps, seen.samples, seen.batches) == (0.0, steps, EXAMPLES, (BATCH,) * steps)
    assert seen.rates == (0.1,) * steps and seen.optimizer == "SGD" and seen.carried is False
    assert seen.settings["momentum"] == 0 and "lr" not in seen.settings
    assert (seen.loss, seen.reduction, seen.outputs) == ("cross_entropy", "mean", CLASSES)
    assert (seen.labels, seen.label_low, seen.label_high, seen.ignored) == (CLASSES, 0, CLASSES - 1, 0.0)
    assert seen.probabilities is False and seen.logits is None
    assert (seen.stuck, seen.unused, seen.outside, seen.clipped) == ((), (), (), 0.0) and seen.updating is True
    assert seen.input_low == xs[:BATCH].min().item() and seen.input_high == xs[:BATCH].max().item()
    assert seen.input_mean == pytest.approx(xs[:BATCH].mean().item(), abs=1e-6)
    assert seen.input_std == pytest.approx(xs[:BATCH].std(correction=0).item())
    assert seen.loss_first == pytest.approx(math.log(CLASSES), abs=1.0) and seen.loss_last is not None
    assert seen.gradient_norm is not None and seen.gradient_norm > 0


def test_the_line_of_the_loss_is_the_authors() -> None:
    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        return nn.CrossEntropyLoss()(outputs, labels)

    where = seen_training(Net(), loss=loss).loss_where
    assert where.split(":")[0].endswith("test_watch.py")
    assert int(where.split(":")[1]) == loss.__code__.co_firstlineno + 1


def test_first_and_last_loss_and_the_gradient_are_those_of_backward() -> None:
    model, values, norms = nn.Linear(WIDTH, CLASSES), [], []

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        found = F.cross_entropy(outputs, labels)
        found.register_hook(lambda _: values.append(found.item()))
        return found

    class Keeping(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            grads = [p.grad.reshape(-1) for p in self.param_groups[0]["params"]]
            norms.append(torch.cat(grads).norm().item())
            return super().step(closure)

    seen = seen_training(model, loss=loss, make=lambda p: Keeping(p, lr=0.1))
    assert (seen.loss_first, seen.loss_last) == (values[0], values[-1])
    assert seen.gradient_norm == pytest.approx(norms[0])


def test_a_start_elsewhere_is_measured() -> None:
    model, (xs, ys) = nn.Linear(WIDTH, CLASSES), data()
    received = {name: 2 * value for name, value in state_of(model).items()}  # the model is half of what was sent
    assert seen_of(lambda: train(model, xs, ys), received).start == pytest.approx(0.5)


def test_a_start_is_found_without_names() -> None:
    model, (xs, ys) = Net(), data()
    received = {str(place): value.detach().clone() for place, value in enumerate(model.state_dict().values())}
    assert seen_of(lambda: train(model, xs, ys), received).start == 0.0
    received["0"] = received["0"] + 1
    assert (seen_of(lambda: train(Net(), xs, ys), received).start or 0) > 0.1


def test_a_start_is_found_under_a_wrappers_prefix() -> None:
    model, (xs, ys) = Net(), data()
    received = {f"module.{name}": value for name, value in state_of(model).items()}
    assert seen_of(lambda: train(model, xs, ys), received).start == 0.0


def test_only_entries_of_the_model_count_for_the_start() -> None:
    model, (xs, ys) = Net(), data()
    received = state_of(model)
    received["head.weight"] = received["head.weight"] + 1
    shared = frozenset(name for name in received if name.startswith("body"))
    assert seen_of(lambda: train(model, xs, ys), received, model_names=shared).start == 0.0
    assert (seen_of(lambda: train(Net(), xs, ys), received).start or 0) > 0.0


def test_a_list_based_client_is_followed() -> None:
    model, (xs, ys) = Net(), data()
    arrays = [value.numpy().copy() for value in Net().state_dict().values()]
    received = {str(place): torch.from_numpy(np.array(array)) for place, array in enumerate(arrays)}

    def fit() -> list[np.ndarray]:
        model.load_state_dict({n: torch.tensor(a) for n, a in zip(model.state_dict(), arrays, strict=True)})
        train(model, xs, ys)
        return [value.numpy() for value in model.state_dict().values()]

    with watching(received) as watch:
        back = fit()
    seen = watch.told({str(place): torch.from_numpy(np.array(array)) for place, array in enumerate(back)})
    assert seen.start == 0.0 and seen.outside == ()


@pytest.mark.parametrize("style", ["data", "no_grad", "grad", "assign"])
def test_steps_by_hand_are_counted_and_their_rate_found(style: str) -> None:
    model, (xs, ys) = nn.Linear(WIDTH, CLASSES), data()

    def fit() -> None:
        for begin in range(0, EXAMPLES, BATCH):
            loss = F.cross_entropy(model(xs[begin : begin + BATCH]), ys[begin : begin + BATCH])
            if style == "grad":
                for p, g in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True):
                    p.data.sub_(0.05 * g)
                continue
            model.zero_grad()
            loss.backward()
            with torch.no_grad():
                for p in model.parameters():
                    if style == "data":
                        p.data -= 0.05 * p.grad
                    elif style == "no_grad":
                        p.sub_(0.05 * p.grad)
                    else:
                        p.data = p.data - 0.05 * p.grad

    seen = seen_of(fit, state_of(model))
    assert (seen.start, seen.steps, seen.optimizer, seen.unused) == (0.0, EXAMPLES // BATCH, None, ())
    assert seen.rates == pytest.approx([0.05] * (EXAMPLES // BATCH), rel=1e-2)
    assert seen.batches == (BATCH,) * (EXAMPLES // BATCH) and (seen.gradient_norm or 0) > 0


def test_tensors_made_anew_at_every_step_are_followed() -> None:
    received = {"weight": torch.randn(WIDTH, CLASSES), "bias": torch.zeros(CLASSES)}
    xs, ys = data()

    def fit() -> None:
        weight, bias = (received[name].clone().requires_grad_() for name in ("weight", "bias"))
        for begin in range(0, EXAMPLES, BATCH):
            loss = F.cross_entropy(xs[begin : begin + BATCH] @ weight + bias, ys[begin : begin + BATCH])
            loss.backward()
            weight, bias = ((p - 0.1 * p.grad).detach().requires_grad_() for p in (weight, bias))

    seen = seen_of(fit, received)
    assert (seen.start, seen.steps, seen.batches) == (0.0, EXAMPLES // BATCH, (BATCH,) * (EXAMPLES // BATCH))
    assert seen.rates == pytest.approx((0.1,), rel=1e-2)


def test_backward_without_any_step_is_no_step() -> None:
    model, (xs, ys) = nn.Linear(WIDTH, CLASSES), data()
    seen = seen_of(lambda: F.cross_entropy(model(xs), ys).backward(), state_of(model))
    assert seen.steps == 0 and seen.rates == ()


def test_adam_its_settings_and_its_carried_state_are_told() -> None:
    model, (xs, ys) = Net(), data()
    kept = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=0.5)
    first = seen_of(lambda: train(model, xs, ys, make=lambda _: kept), state_of(model))
    second = seen_of(lambda: train(model, xs, ys, make=lambda _: kept), state_of(model))
    assert first.optimizer == "Adam" and first.rates[0] == 0.01
    assert (first.settings["weight_decay"], first.settings["beta1"], first.settings["beta2"]) == (0.5, 0.9, 0.999)
    assert (first.carried, second.carried) == (False, True)


@pytest.mark.parametrize("make", [torch.optim.Adagrad, torch.optim.RMSprop, torch.optim.AdamW])
def test_a_new_optimiser_carries_nothing(make: Any) -> None:
    assert seen_training(Net(), make=make).carried is False


def test_a_changing_rate_is_told_step_by_step() -> None:
    model, (xs, ys) = nn.Linear(WIDTH, CLASSES), data()

    def fit() -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        decay = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(xs), ys).backward()
            optimizer.step()
            decay.step()

    seen = seen_of(fit, state_of(model))
    assert seen.rates == (1.0, 0.5, 0.25) and seen.batches == (EXAMPLES,) * 3


def test_two_optimisers_after_one_backward_take_one_step() -> None:
    model, (xs, ys) = Net(), data()

    class Both:
        def __init__(self) -> None:
            self.parts = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (model.body, model.head)]

        def zero_grad(self) -> None:
            model.zero_grad()

        def step(self) -> None:
            for part in self.parts:
                part.step()

    seen = seen_of(lambda: train(model, xs, ys, make=lambda _: Both()), state_of(model))
    assert seen.steps == EXAMPLES // BATCH and seen.start == 0.0


def test_an_optimiser_around_another_takes_one_step_with_it() -> None:
    model, (xs, ys) = nn.Linear(WIDTH, CLASSES), data()

    class Twice(torch.optim.Optimizer):
        """Looks at the loss at a shifted point before it steps, as sharpness-aware training does."""

        def __init__(self, parameters: Any) -> None:
            super().__init__(list(parameters), {"lr": 0.1})
            self.inside = torch.optim.SGD(self.param_groups[0]["params"], lr=0.1)

        def step(self, closure: Any = None) -> Any:
            closure()
            return self.inside.step()

    def fit() -> None:
        optimizer = Twice(model.parameters())
        F.cross_entropy(model(xs), ys).backward()
        optimizer.step(lambda: F.cross_entropy(model(xs), ys).backward())

    seen = seen_of(fit, state_of(model))
    assert (seen.steps, seen.samples, seen.optimizer) == (1, EXAMPLES, "Twice")


def test_gradient_accumulation_has_fewer_steps_than_batches() -> None:
    model, (xs, ys) = nn.Linear(WIDTH, CLASSES), data()

    def fit() -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for place, begin in enumerate(range(0, EXAMPLES, BATCH)):
            F.cross_entropy(model(xs[begin : begin + BATCH]), ys[begin : begin + BATCH]).backward()
            if place % 2:
                optimizer.step()
                optimizer.zero_grad()

    seen = seen_of(fit, state_of(model))
    assert seen.steps == EXAMPLES // BATCH // 2 and seen.samples == EXAMPLES


def test_an_evaluation_inside_fit_is_no_training() -> None:
    model, (xs, ys) = Net(), data()

    def fit() -> None:
        for _ in range(2):
            train(model.train(), xs, ys)
            model.eval()
            with torch.no_grad():
                F.cross_entropy(model(xs), torch.full_like(ys, 3))
            F.cross_entropy(model(xs), torch.full_like(ys, 3))  # an author who forgets no_grad

    seen = seen_of(fit, state_of(model))
    assert seen.samples == 2 * EXAMPLES and seen.stuck == () and seen.batches == (BATCH,) * (2 * EXAMPLES // BATCH)
    assert seen.labels == CLASSES


def test_a_model_trained_in_evaluation_mode_is_stuck() -> None:
    model, (xs, ys) = Net().eval(), data()
    seen = seen_of(lambda: train(model, xs, ys), state_of(model))
    assert seen.stuck == ("body.1", "body.3") and seen.updating is False


def test_without_running_statistics_nothing_is_said_of_them() -> None:
    model, (xs, ys) = nn.Linear(WIDTH, CLASSES).eval(), data()
    seen = seen_of(lambda: train(model, xs, ys), state_of(model))
    assert seen.stuck == () and seen.updating is None


def test_probabilities_where_logits_belong_are_seen() -> None:
    seen = seen_training(Net(), loss=lambda outputs, labels: F.cross_entropy(outputs.softmax(1), labels))
    assert seen.probabilities is True
    seen = seen_training(Net(), loss=lambda outputs, labels: F.cross_entropy(outputs.log_softmax(1), labels))
    assert seen.probabilities is False


def test_nll_of_anything_but_log_probabilities_is_seen() -> None:
    assert seen_training(Net(), loss=F.nll_loss).logits is True
    assert seen_training(Net(), loss=lambda outputs, labels: F.nll_loss(outputs.softmax(1), labels)).logits is True
    right = seen_training(Net(), loss=lambda outputs, labels: F.nll_loss(outputs.log_softmax(1), labels))
    assert right.logits is False and right.loss == "nll_loss"


def test_a_loss_imported_by_its_name_is_seen() -> None:
    assert seen_training(Net(), loss=imported_before).loss == "cross_entropy"
    assert seen_training(Net(), loss=lambda a, b: F.cross_entropy(a, b, reduction="sum")).reduction == "sum"


@pytest.mark.parametrize("loss", [F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss])
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_outputs_and_labels_that_are_spread_over_each_other_are_told(loss: Any) -> None:
    one = nn.Linear(WIDTH, 1)
    assert seen_training(one, loss=lambda a, b: loss(a, b.float())).spread is True
    assert seen_training(one, loss=lambda a, b: loss(a.squeeze(1), b.float())).spread is False
    assert seen_training(one, loss=lambda a, b: loss(a, b[:1].float())).spread is False  # one number for all
    assert seen_training(Net()).spread is None


@pytest.mark.parametrize("loss", [F.mse_loss, F.cross_entropy, F.binary_cross_entropy_with_logits])
def test_one_hot_rows_of_zeros_are_counted(loss: Loss) -> None:
    xs, ys = data()
    hot = F.one_hot(ys, CLASSES).float()
    hot[ys == 3] = 0
    model = Net()
    seen = seen_of(lambda: train(model, xs, hot, loss=loss), state_of(model))
    assert seen.ignored == pytest.approx(1 / CLASSES) and (seen.labels, seen.label_high) == (CLASSES - 1, 2)
    assert seen.outputs == CLASSES


def test_labels_that_cross_entropy_ignores_are_counted() -> None:
    xs, ys = data()
    model, ys = Net(), torch.where(ys == 3, -100, ys)
    seen = seen_of(lambda: train(model, xs, ys), state_of(model))
    assert seen.ignored == pytest.approx(1 / CLASSES) and (seen.label_low, seen.label_high) == (0, 2)


def test_soft_labels_and_several_losses_leave_the_one_with_labels() -> None:
    teacher, student, (xs, ys) = Net(0.0).eval(), Net(), data()
    received = state_of(student)

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        soft = F.kl_div(outputs.log_softmax(1), teacher(xs[: len(outputs)]).softmax(1), reduction="batchmean")
        near = sum(F.mse_loss(p, received[name]) for name, p in student.named_parameters())
        return soft + near + F.cross_entropy(outputs, labels)

    seen = seen_of(lambda: train(student, xs, ys, loss=loss), received)
    assert seen.loss == "cross_entropy" and seen.labels == CLASSES and seen.samples == EXAMPLES
    assert seen.stuck == () and seen.start == 0.0


def test_binary_labels_are_told() -> None:
    xs, ys = data()
    model = nn.Sequential(nn.Linear(WIDTH, 1), nn.Flatten(0))
    binary = (ys > 1).float()
    seen = seen_of(lambda: train(model, xs, binary, loss=F.binary_cross_entropy_with_logits), state_of(model))
    assert (seen.labels, seen.label_low, seen.label_high, seen.outputs) == (2, 0, 1, 1)
    assert seen.probabilities is False


def test_a_label_beyond_the_head_is_seen_although_the_loss_fails() -> None:
    model, (xs, ys) = Net(), data()
    with pytest.raises(IndexError), watching(state_of(model)) as watch:
        train(model, xs, ys + 1)
    seen = watch.told(None)
    assert seen.label_high == CLASSES and seen.outputs == CLASSES


def test_the_order_of_labels_is_measured() -> None:
    ys = torch.arange(CLASSES).repeat(64)
    xs, model = torch.randn(len(ys), WIDTH), nn.Linear(WIDTH, CLASSES)
    by_class = seen_of(lambda: train(model, xs, ys.sort()[0]), state_of(model)).run
    shuffled = seen_of(lambda: train(model, xs, ys[torch.randperm(len(ys))]), state_of(model)).run
    each = len(ys) * (1 - 1 / CLASSES) / CLASSES  # C runs instead of about N (1 - 1/C)
    assert by_class == pytest.approx(each, rel=0.05) and shuffled == pytest.approx(1, abs=0.15)


def test_the_order_within_a_batch_is_no_order() -> None:
    batch = np.sort(np.arange(CLASSES).repeat(4))
    assert run_length([batch] * 8) == pytest.approx(1, abs=0.1)
    assert run_length([np.zeros(8, np.int64)] * 3) == 1


def test_a_loader_is_seen_as_its_batches() -> None:
    xs, ys = data()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(xs[:20], ys[:20]), batch_size=8, shuffle=True)
    model = Net()

    def fit() -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

    assert seen_of(fit, state_of(model)).batches == (8, 8, 4)


def test_keyword_inputs_are_measured() -> None:
    class Keyword(Net):
        def forward(self, *, x: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x)

    model, (xs, ys) = Keyword(), data()

    def fit() -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            F.cross_entropy(model(x=xs), ys).backward()
            optimizer.step()

    assert seen_of(fit, state_of(model)).batches == (EXAMPLES, EXAMPLES)


def test_parameters_without_gradient_are_named() -> None:
    class Dead(Net):
        def __init__(self) -> None:
            super().__init__()
            self.spare = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body(x).detach())

    seen = seen_training(Dead())
    assert set(seen.unused) == {"body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias"} | {
        "spare.weight",
        "spare.bias",
    }


def test_training_another_instance_than_the_returned_one_is_seen() -> None:
    kept, (xs, ys) = Net(), data()
    received = state_of(kept)
    trained = [name for name, _ in kept.named_parameters()]
    moved = copy.deepcopy(kept)
    seen = seen_of(lambda: train(moved, xs, ys), received, state_of(kept))
    assert set(seen.outside) == set(trained) - {"body.0.bias"} or set(seen.outside) == set(trained)
    wide, other = (nn.Sequential(nn.Linear(WIDTH, 200), nn.ReLU(), nn.Linear(200, CLASSES)) for _ in range(2))
    stale = seen_of(lambda: train(copy.deepcopy(wide), xs, ys), state_of(wide), state_of(other))
    assert set(stale.outside) == set(wide.state_dict())


@pytest.mark.parametrize("form", ["update", "noisy", "sparse", "clipped", "half"])
def test_an_upload_in_another_form_is_not_outside(form: str) -> None:
    model, (xs, ys) = Net(), data()
    received = state_of(model)
    with watching(received) as watch:
        train(model, xs, ys)
    change = {name: value - received[name] for name, value in state_of(model).items()}
    back = {name: value.clone() for name, value in change.items()}
    if form == "noisy":
        back = {n: received[n] + v + 0.05 * torch.randn(v.shape) for n, v in change.items()}
    elif form == "sparse":
        top = torch.cat([change[name].abs().reshape(-1) for name, _ in model.named_parameters()]).topk(8).values[-1]
        back = {n: received[n] + torch.where(v.abs() >= top, v, torch.zeros_like(v)) for n, v in change.items()}
    elif form == "clipped":
        back = {n: received[n] + 0.01 * v for n, v in change.items()}
    elif form == "half":
        back = {n: (received[n] + v).half().float() for n, v in change.items()}
    assert watch.told(back).outside == ()


def test_clipping_is_told_by_the_share_of_steps() -> None:
    def clipping(bound: float, one_by_one: bool = False) -> Callable[[Any], torch.optim.Optimizer]:
        class Clipping(torch.optim.SGD):
            def zero_grad(self, set_to_none: bool = True) -> None:
                super().zero_grad(set_to_none)

        def make(parameters: Any) -> torch.optim.Optimizer:
            optimizer = Clipping(list(parameters), lr=0.1)
            own = optimizer.param_groups[0]["params"]
            inner = optimizer.step

            def step(closure: Any = None) -> Any:
                for part in [[p] for p in own] if one_by_one else [own]:
                    clip_grad_norm_(part, bound)
                return inner(closure)

            optimizer.step = step  # type: ignore[method-assign]
            return optimizer

        return make

    def fit(bound: float, one_by_one: bool = False) -> Watched:
        return seen_training(nn.Linear(WIDTH, CLASSES), make=clipping(bound, one_by_one))

    assert (fit(1e-3).clipped, fit(1e-3).separately) == (1.0, False)
    assert (fit(1e3).clipped, fit(1e-3, True).separately) == (0.0, True)


def test_one_model_has_one_number_and_two_have_two() -> None:
    shared = Net()
    first, second, other = (seen_training(model).identities for model in (shared, shared, Net()))
    assert first and set(first) & set(second) and not set(first) & set(other)


def test_a_number_is_never_given_twice() -> None:
    seen = set()
    for _ in range(50):  # each is freed before the next, mostly at the same address
        seen |= {number_of(nn.Identity()), number_of_memory(torch.zeros(8))}
    assert len(seen) == 100


def test_the_light_watch_tells_starts_steps_sizes_and_flags() -> None:
    model, (xs, ys) = Net().eval(), data()
    seen = seen_of(lambda: train(model, xs, ys), state_of(model), light=True)
    steps = EXAMPLES // BATCH
    assert (seen.start, seen.steps, seen.rates, seen.samples) == (0.0, steps, (0.1,) * steps, EXAMPLES)
    assert seen.stuck and seen.identities and seen.loss is None and seen.input_low is None


def listened() -> tuple[Any, ...]:
    hooks = (torch.nn.modules.module._global_forward_pre_hooks, _global_optimizer_pre_hooks)
    functions = (torch.autograd.backward, torch.autograd.grad, torch._C._nn.cross_entropy_loss, torch.kl_div)
    clip = torch.nn.utils.clip_grad_norm_.__globals__["_clip_grads_with_norm_"]
    return (*(len(one) for one in hooks), *functions, "__call__" in vars(Net), Net.__call__, nn.Module.__call__, clip)


def test_a_fit_that_fails_leaves_nothing_behind() -> None:
    model, (xs, ys) = Net(), data()
    before = listened()

    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        if labels is last:
            raise RuntimeError("midway")
        return F.cross_entropy(outputs, labels)

    def fit() -> None:
        train(model, xs, ys, loss=loss)
        loss(model(xs), last)

    last = ys.clone()
    with pytest.raises(RuntimeError, match="midway"), watching(state_of(model)) as watch:
        assert listened() != before
        fit()
    assert listened() == before and watch.told(None).steps == EXAMPLES // BATCH


def test_watches_may_be_nested() -> None:
    model, (xs, ys) = Net(), data()
    before = listened()
    with watching(state_of(model), light=True) as outer:
        train(model, xs, ys)
        with watching(state_of(model)) as inner:
            train(model, xs, ys)
        train(model, xs, ys)
    steps = EXAMPLES // BATCH
    assert (outer.told().steps, inner.told().steps, inner.told().loss) == (3 * steps, steps, "cross_entropy")
    assert inner.told().samples == EXAMPLES and listened() == before


def test_threads_see_their_own_work() -> None:
    xs, ys = data()
    told: dict[int, int | None] = {}
    ready = threading.Barrier(2)

    def work(times: int) -> None:
        model = nn.Linear(WIDTH, CLASSES)
        with watching(state_of(model)) as watch:
            ready.wait()
            for _ in range(times):
                train(model, xs, ys)
            ready.wait()
        told[times] = watch.told().steps

    threads = [threading.Thread(target=work, args=(times,)) for times in (1, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == {times: times * EXAMPLES // BATCH for times in (1, 3)}


def test_watching_changes_no_result_and_leaves_no_trace_in_the_model() -> None:
    xs, ys = data()
    first, second = Net(), Net()
    second.load_state_dict(first.state_dict())
    torch.manual_seed(3)
    train(first, xs, ys)
    torch.manual_seed(3)
    with watching(state_of(second)):
        train(second, xs, ys)
        copied = pickle.loads(pickle.dumps(second))
    assert all(map(torch.equal, first.state_dict().values(), second.state_dict().values()))
    assert not copied._forward_pre_hooks and set(vars(second)) == set(vars(first))


def test_what_cannot_be_seen_is_not_told() -> None:
    received = {"weight": torch.ones(3)}
    nothing = seen_of(lambda: received["weight"].numpy() * 2, received, received)
    assert nothing == Watched()
    model, (xs, ys) = nn.Linear(WIDTH, CLASSES), data()

    def functional() -> None:
        def loss(parameters: State, x: Tensor, y: Tensor) -> Tensor:
            return F.cross_entropy(torch.func.functional_call(model, parameters, (x[None],)), y[None])

        torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(dict(model.named_parameters()), xs, ys)

    seen = seen_of(functional, state_of(model), state_of(model))
    assert seen.steps is None and seen.start is None and seen.outside == ()


def test_what_goes_wrong_in_the_watch_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("fedlens.diagnosis.watch.watch.Watch.before", broken)
    assert seen_training(Net()) == Watched()


def test_parts_of_the_graph_and_generators_pass_through() -> None:
    model, (xs, ys) = nn.Linear(WIDTH, CLASSES), data()

    def fit() -> None:
        loss = F.cross_entropy(model(xs), ys)
        found = torch.autograd.grad(loss, model.parameters(), retain_graph=True)
        torch.autograd.backward(torch.autograd.graph.get_gradient_edge(loss), torch.ones(()))
        assert all(torch.equal(g, p.grad) for g, p in zip(found, model.parameters(), strict=True))

    assert seen_of(fit, state_of(model)).start == 0.0


def test_a_closure_and_a_checkpoint_are_followed() -> None:
    model, (xs, ys) = nn.Linear(WIDTH, CLASSES), data()

    def fit() -> None:
        optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)

        def closure() -> Tensor:
            optimizer.zero_grad()
            hidden = torch.utils.checkpoint.checkpoint(model, xs, use_reentrant=True)
            loss = F.cross_entropy(model(xs) + 0 * hidden, ys)
            loss.backward()
            return loss

        optimizer.step(closure)

    seen = seen_of(fit, state_of(model))
    assert (seen.steps, seen.optimizer, seen.start, seen.unused) == (1, "LBFGS", 0.0, ())
