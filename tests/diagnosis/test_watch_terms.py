"""What acts on the weights beside the supervised loss is seen for what it is, and nothing is changed by looking."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedlens.diagnosis.evidence import Watched
from fedlens.diagnosis.watch import watching
from fedlens.diagnosis.watch.teachers import tie

CLASSES, WIDTH, EXAMPLES, BATCH, MU = 4, 6, 96, 8, 0.3
Term = Callable[[nn.Module, list[Tensor]], Any]
LOOKED = 5  # backward calls whose terms are measured


@pytest.fixture(autouse=True)
def still() -> Iterator[None]:
    torch.manual_seed(3)
    yield


def net() -> nn.Sequential:
    """Two layers of one shape among three, and a norm layer with buffers."""
    return nn.Sequential(
        nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)
    )


def data() -> tuple[Tensor, Tensor]:
    """Labels that depend on the inputs."""
    xs = torch.randn(EXAMPLES, WIDTH)
    return xs, xs[:, :CLASSES].argmax(1)


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def parts(model: nn.Module, anchor: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    return list(zip(model.parameters(), anchor, strict=True))


def square(model: nn.Module, anchor: list[Tensor]) -> Tensor:
    return MU / 2 * sum(((w - a) ** 2).sum() for w, a in parts(model, anchor))


def train(
    model: nn.Module,
    term: Term | None = None,
    *,
    join: Callable[[Tensor, Any], Tensor] = lambda loss, extra: loss + extra,
    by_hand: Callable[[nn.Module, list[Tensor]], None] | None = None,
    after: Callable[[nn.Module, list[Tensor]], None] | None = None,
    make: Any = torch.optim.SGD,
) -> None:
    """One epoch of steps; `by_hand` runs before each step, `after` behind it."""
    xs, ys = data()
    anchor = [p.detach().clone() for p in model.parameters()]
    optimizer = make(model.parameters(), lr=0.05)
    for rows in torch.arange(EXAMPLES).split(BATCH):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(xs[rows]), ys[rows])
        (loss if term is None else join(loss, term(model, anchor))).backward()
        if by_hand is not None:
            by_hand(model, anchor)
        optimizer.step()
        if after is not None:
            after(model, anchor)


def seen(model: nn.Module | None = None, *said: Any, **how: Any) -> Watched:
    model = model or net()
    with watching(state_of(model)) as watch:
        train(model.train(), *said, **how)
    assert not watch.deaf
    return watch.told()


def moved(one: Watched) -> list[Any]:
    return [p for p in one.pulls if p.distance > 0]


def test_the_supervised_loss_alone_has_nothing_beside() -> None:
    one = seen()
    assert one.beside is False and one.pulls == () and len(one.extra) == LOOKED
    assert all(extra == 0 for _, extra in one.extra) and one.extra[0][0] == 0 < one.extra[-1][0]


SQUARES: dict[str, Term] = {
    "power": square,
    "norm": lambda m, a: MU / 2 * sum((w - b).norm() ** 2 for w, b in parts(m, a)),
    "mse": lambda m, a: MU / 2 * sum(F.mse_loss(w, b, reduction="sum") for w, b in parts(m, a)),
    "vector": lambda m, a: MU / 2 * torch.cat([(w - b).reshape(-1) for w, b in parts(m, a)]).square().sum(),
    "foreach": lambda m, a: (
        MU / 2 * torch.stack(list(torch._foreach_norm(torch._foreach_sub(list(m.parameters()), a)))).square().sum()
    ),
}


@pytest.mark.parametrize("form", SQUARES)
def test_a_proximal_term_pulls_with_mu_however_it_is_written(form: str) -> None:
    one = seen(None, SQUARES[form])
    assert one.beside is True and len(moved(one)) == LOOKED - 1
    for p in moved(one):
        assert p.low == pytest.approx(MU, rel=1e-4) and p.high == pytest.approx(MU, rel=1e-4)
        assert p.off < 1e-4 and p.added and (p.aside is None or p.aside < 1e-2)
    for gone, extra in one.extra:
        assert extra == pytest.approx(MU / 2 * gone**2, abs=1e-6)


def test_a_term_that_compares_weights_with_themselves_is_there_and_has_no_gradient() -> None:
    one = seen(None, lambda m, a: MU / 2 * sum(((w - w.detach()) ** 2).sum() for w in m.parameters()))
    assert one.beside is True and len(moved(one)) == LOOKED - 1 and not any(p.most for p in one.pulls)


@pytest.mark.parametrize("sign", [-1, 1])
def test_what_is_added_to_gradients_by_hand_is_told_by_its_way_along_them(sign: int) -> None:
    def by_hand(model: nn.Module, anchor: list[Tensor]) -> None:
        for w in model.parameters():
            assert w.grad is not None
            w.grad += sign * 0.5 * w.grad

    one = seen(by_hand=by_hand)
    assert [p.along for p in one.pulls] == pytest.approx([sign] * LOOKED)


def test_gradients_that_are_cut_number_by_number_are_told_however_it_is_done() -> None:
    def hand(bound: float) -> Any:
        def clamp(model: nn.Module, anchor: list[Tensor]) -> None:
            for w in model.parameters():
                assert w.grad is not None
                w.grad.data.clamp_(-bound, bound)

        return clamp

    def library(model: nn.Module, anchor: list[Tensor]) -> None:
        nn.utils.clip_grad_value_(model.parameters(), 1e-4)

    def scaled(model: nn.Module, anchor: list[Tensor]) -> None:
        for w in model.parameters():
            assert w.grad is not None
            w.grad *= 0.01  # as of a loss that was scaled up before

    assert seen(by_hand=hand(1e-4)).clipped == 1.0 and seen(by_hand=library).clipped == 1.0
    assert not seen(by_hand=hand(10.0)).clipped and not seen(by_hand=scaled).clipped


def test_a_term_added_in_place_is_a_term() -> None:
    def join(loss: Tensor, extra: Tensor) -> Tensor:
        loss += extra
        return loss

    one = seen(None, square, join=join)
    assert one.beside is True and moved(one)[0].low == pytest.approx(MU, rel=1e-4)
    assert one.extra[-1][1] > 0


def test_a_scaled_objective_is_told_from_an_added_term() -> None:
    one = seen(None, square, join=lambda loss, extra: (loss + extra) / 2)
    assert one.extra == () and not any(p.added for p in one.pulls)
    assert moved(one)[0].low == pytest.approx(MU / 2, rel=1e-4)


def test_norms_that_are_not_squared_pull_equally_at_any_distance() -> None:
    one = seen(None, lambda m, a: MU / 2 * sum((w - b).norm() for w, b in parts(m, a)))
    for p in moved(one):
        assert p.least == pytest.approx(MU / 2, rel=1e-4) and p.most == pytest.approx(MU / 2, rel=1e-4)
        assert p.high > 1.05 * p.low


def test_other_tensors_for_an_anchor_are_another_point() -> None:
    def crossed(model: nn.Module, anchor: list[Tensor]) -> Tensor:
        return (
            MU
            / 2
            * sum(((w - a) ** 2).sum() for w, a in parts(model, [anchor[4], *anchor[1:4], anchor[0], *anchor[5:]]))
        )

    points = [p.aside for p in moved(seen(None, crossed)) if p.aside is not None]
    assert len(points) >= 3 and min(points) > 0.1


def test_a_pull_towards_zero_is_no_other_point() -> None:
    one = seen(None, lambda m, a: 0.01 * sum((w**2).sum() for w in m.parameters()) + square(m, a))
    points = [p.aside for p in moved(one) if p.aside is not None]
    assert points and max(points) < 1e-2 and min(p.off for p in moved(one)) > 1e-2


def test_a_term_without_a_gradient_has_only_a_value() -> None:
    def detached(model: nn.Module, anchor: list[Tensor]) -> Tensor:
        now = [value for name, value in model.state_dict().items() if name in dict(model.named_parameters())]
        return MU / 2 * sum(((w - a) ** 2).sum() for w, a in zip(now, anchor, strict=True))

    one = seen(None, detached)
    assert one.beside is False and one.pulls == () and one.extra[-1][1] > 0


def test_the_gradient_of_a_second_pass_is_autograds_own() -> None:
    """What is broadcast (a bias over rows) is summed up."""
    inputs, norms = torch.randn(BATCH, WIDTH), []

    def term(model: nn.Module, anchor: list[Tensor]) -> Tensor:
        outputs = model[0](inputs)
        slope = 2 * MU / outputs.numel() * outputs.detach()
        norms.append(sorted(grad.norm().item() for grad in (slope.T @ inputs, slope.sum(0))))
        return MU * outputs.square().mean()

    model = net()
    with watching(state_of(model)) as watch:
        train(model.train(), term)
    one = watch.told()
    assert [[p.least, p.most] for p in one.pulls] == [pytest.approx(pair) for pair in norms[: len(one.pulls)]]
    assert one.pulls and one.beside is True


def test_adding_nothing_is_no_term() -> None:
    two = seen(None, lambda m, a: 0.0, join=lambda loss, _: loss + 0.0)
    assert two.beside is False


def test_a_penalty_on_what_the_loss_is_made_of_is_not_measured() -> None:
    model, (xs, ys) = net(), data()
    with watching(state_of(model)) as watch:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for rows in torch.arange(EXAMPLES).split(BATCH):
            outputs = model(xs[rows])
            (F.cross_entropy(outputs, ys[rows]) + outputs.square().mean()).backward()
            optimizer.step()
    assert watch.told().beside is True and watch.told().pulls == ()


def pulled(model: nn.Module, anchor: list[Tensor]) -> None:
    for w, a in parts(model, anchor):
        assert w.grad is not None
        w.grad.add_(MU * (w.detach() - a))


def test_a_proximal_gradient_added_by_hand_is_a_term() -> None:
    one = seen(by_hand=pulled)
    assert one.beside is True and all(extra == 0 for _, extra in one.extra)
    assert all(p.low == pytest.approx(MU, rel=1e-2) and p.off < 1e-2 for p in moved(one))


def test_weights_moved_between_steps_are_not_the_loss_alone() -> None:
    @torch.no_grad()
    def back(model: nn.Module, anchor: list[Tensor]) -> None:
        for w, a in parts(model, anchor):
            w.sub_(0.05 * MU * (w - a))

    assert seen(after=back).beside is True


def test_clipped_gradients_say_nothing_against_a_term() -> None:
    one = seen(by_hand=lambda m, a: nn.utils.clip_grad_norm_(m.parameters(), 0.01) and None)
    assert one.beside is True


def test_optimisers_and_hooks_of_the_authors_are_not_judged() -> None:
    class Proximal(torch.optim.SGD):
        pass

    assert seen(make=Proximal).beside is None
    model = net()
    model[0].weight.register_hook(lambda grad: grad + 0.1)
    assert seen(model).beside is None


def test_many_steps_are_looked_at_now_and_then() -> None:
    """A term that comes late is a term."""
    model, (xs, ys) = net(), data()
    with watching(state_of(model)) as watch:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for step in range(120):
            loss = F.cross_entropy(model(xs[:BATCH]), ys[:BATCH])
            (loss + (model[0].weight.square().sum() if step > 60 else 0.0)).backward()
            optimizer.step()
    assert watch.told().beside is True


@pytest.mark.parametrize("form", ["power", "norm", None])
def test_looking_changes_nothing(form: str | None) -> None:
    first = net()
    second = copy.deepcopy(first)
    torch.manual_seed(5)
    train(first.train(), SQUARES.get(form or ""))
    torch.manual_seed(5)
    seen(second, SQUARES.get(form or ""))
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_a_penalty_on_weights_is_not_taken_for_the_loss() -> None:
    """The supervised loss is written out by hand: the only function of PyTorch's that is heard is the penalty."""
    model, (xs, ys) = net(), data()
    anchor = [p.detach().clone() for p in model.parameters()]
    with watching(state_of(model)) as watch:
        rows = torch.log_softmax(model(xs), 1)[torch.arange(EXAMPLES), ys]
        (-rows.mean() + sum(F.mse_loss(w, a) for w, a in parts(model, anchor))).backward()
    assert watch.told().loss is None and watch.told().beside is None


@pytest.mark.parametrize(("off", "stuck"), [(1, ()), (2, ("1",)), (4, ("1",))])
def test_a_layer_is_stuck_from_half_of_the_passes_on(off: int, stuck: tuple[str, ...]) -> None:
    model, (xs, ys) = net(), data()
    with watching(state_of(model)) as watch:
        for step in range(4):
            model.train(step >= off)
            F.cross_entropy(model(xs), ys).backward()
    assert watch.told().stuck == stuck


def distilled(rows_of: Callable[[Tensor], Tensor], soften: float = 2.0) -> Watched:
    """A student beside a teacher that knows the labels; `rows_of`: which of its rows each batch is given."""
    model, (xs, ys) = net(), data()
    known = 5 * F.one_hot(ys, CLASSES).float() + 0.1 * torch.randn(EXAMPLES, CLASSES)
    with watching(state_of(model)) as watch:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
        for _ in range(8):
            for rows in torch.randperm(EXAMPLES).split(BATCH):
                outputs = model(xs[rows])
                target = F.softmax(known[rows_of(rows)] / soften, 1)
                extra = F.kl_div(F.log_softmax(outputs / soften, 1), target, reduction="batchmean")
                optimizer.zero_grad()
                (F.cross_entropy(outputs, ys[rows]) + 0.2 * extra).backward()
                optimizer.step()
    return watch.told()


def test_a_teacher_of_the_same_examples_answers_their_labels() -> None:
    one = distilled(lambda rows: rows)
    assert one.teacher_rows == 8 * EXAMPLES and one.teacher == 1.0 and not one.teacher_blank
    assert one.teacher_tie is not None and one.teacher_tie.squares == pytest.approx(one.teacher_tie.most, rel=0.05)
    assert (one.student or 0) > 0.5 and one.loss == "cross_entropy" and one.beside is True


def test_a_teacher_of_other_examples_answers_at_random() -> None:
    one = distilled(lambda rows: torch.randint(EXAMPLES, (len(rows),)))
    assert one.teacher is not None and one.teacher_chance is not None and one.teacher_tie is not None
    error = (one.teacher_chance * (1 - one.teacher_chance) / one.teacher_rows) ** 0.5
    assert abs(one.teacher - one.teacher_chance) < 4 * error
    assert one.teacher_tie.squares < one.teacher_tie.freedom + 4 * (2 * one.teacher_tie.freedom) ** 0.5
    assert one.student_tie is not None and one.student_tie.squares > 10 * one.student_tie.freedom


def test_a_teacher_that_says_nothing_is_blank() -> None:
    one = distilled(lambda rows: rows, soften=1e9)
    assert one.teacher_rows == 0 and one.teacher is None and one.teacher_blank


def test_the_tie_of_a_table_is_its_chi_square() -> None:
    even = torch.full((3, 3), 4.0, dtype=torch.float64)
    assert tie(even) == (0.0, 4, 72.0)
    assert tie(torch.eye(3, dtype=torch.float64) * 5).squares == pytest.approx(15 * 2)
    one_answer = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float64)
    assert tie(one_answer).freedom == 0
    shares = torch.tensor([[9.0, 9.0], [1.0, 1.0]], dtype=torch.float64)
    assert tie(shares).most == pytest.approx(20 * (1 - 0.9**2 - 0.1**2) / (1 - 1 / 2))


def hot(labels: Tensor) -> Tensor:
    return F.one_hot(labels, CLASSES).float()


@pytest.mark.parametrize(
    "head, loss, squashed",
    [
        (nn.Softmax(1), F.cross_entropy, "softmax"),
        (nn.Softmax(1), lambda rows, ys: F.binary_cross_entropy_with_logits(rows, hot(ys)), "softmax"),
        (nn.Sigmoid(), lambda rows, ys: F.binary_cross_entropy_with_logits(rows, hot(ys)), "sigmoid"),
        (nn.Sigmoid(), lambda rows, ys: F.cross_entropy(rows.unsqueeze(2), ys.unsqueeze(1)), "sigmoid"),
        (nn.Softmax(1), lambda rows, ys: -rows.log_softmax(1).gather(1, ys.unsqueeze(1)).mean(), "softmax"),
        (nn.Identity(), F.cross_entropy, ""),
        (nn.Softmax(1), lambda rows, ys: F.nll_loss(rows.log(), ys), ""),
        (nn.Sigmoid(), lambda rows, ys: F.binary_cross_entropy(rows, hot(ys)), ""),
        (nn.LogSoftmax(1), F.nll_loss, ""),
        (nn.Sequential(nn.Sigmoid(), nn.Linear(CLASSES, CLASSES)), F.cross_entropy, ""),
    ],
)
def test_what_is_squashed_before_a_loss_of_logits_is_read_off_the_graph(
    head: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], squashed: str
) -> None:
    model, (xs, ys) = nn.Sequential(net(), head), data()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watching(state_of(model)) as watch:
        for at in range(0, EXAMPLES, BATCH):
            optimizer.zero_grad()
            loss(model(xs[at : at + BATCH]), ys[at : at + BATCH]).backward()
            optimizer.step()
    assert watch.told().squashed == squashed
