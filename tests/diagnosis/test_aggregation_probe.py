"""Made-up uploads give an aggregator's coefficients, fates and habits away, whatever form its author chose."""

import aggregators as made
import numpy as np
import pytest
import torch
from aggregators import Federation, mean, subject

from fedlens.diagnosis.probes.aggregation import examine_aggregation
from fedlens.diagnosis.subject.guard import Ailing


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def examined(aggregate=None, kind=Federation, **parts):
    job = subject(aggregate, kind, **parts)
    return examine_aggregation(job, job.fresh().facts())


def clean(seen):
    assert seen.weights == pytest.approx(seen.wanted, rel=1e-4)
    assert (seen.residual, seen.order, seen.copies, seen.again, seen.scale, seen.carried) == (0,) * 6
    assert seen.current == pytest.approx(1, abs=1e-5)
    assert not seen.landed
    assert not seen.truncated
    assert not seen.changes_input
    assert not seen.extra
    assert seen.rule == "mean"
    assert seen.noise == 0


def test_a_weighted_mean_is_clean_and_passes_nan_on():
    seen = examined(mean)
    clean(seen)
    assert sum(seen.wanted) == pytest.approx(1)
    assert len(set(seen.wanted)) == 5  # unequal counts, or uniform and weighted would be one
    assert seen.twice == 0
    assert set(seen.fates.values()) == {"mean", "one"}
    largest = int(np.argmax(seen.examples))
    assert seen.ones == {"1.num_batches_tracked": largest}
    assert seen.non_finite == "passed on"
    assert seen.empty == "refused"


def test_a_sum_in_float64_is_clean():
    seen = examined(made.reduced)
    clean(seen)
    assert not seen.dtypes


def test_a_uniform_mean_is_told_from_a_weighted_one():
    seen = examined(made.uniform)
    assert seen.weights == pytest.approx([0.2] * 5, rel=1e-4)
    assert set(seen.fates.values()) == {"uniform"}
    clean(examined(made.uniform, declared={"weighting": "uniform"}))


def test_the_first_client_is_told_by_its_coefficient_and_by_the_order():
    seen = examined(made.first)
    assert seen.weights == pytest.approx([1, 0, 0, 0, 0], abs=1e-4)
    assert seen.order > 1
    assert set(seen.fates.values()) == {"one"}
    assert set(seen.ones.values()) == {0}


def test_the_largest_client_alone_is_no_robust_rule():
    seen = examined(made.largest)
    assert seen.weights[int(np.argmax(seen.examples))] == pytest.approx(1)
    assert (seen.rule, seen.order) == ("mean", 0)


def test_truncation_shows_though_small_uploads_hide_it():
    seen = examined(made.whole_numbers)
    assert seen.weights == pytest.approx([1, 0, 0, 0, 0], abs=1e-4)
    assert (seen.truncated, seen.grid) == (True, 1.0)


def test_an_unweighted_first_upload_leaves_too_much_of_the_model():
    seen = examined(made.first_unweighted)
    p = seen.wanted
    assert seen.weights == pytest.approx([1, *p[1:]], rel=1e-4)
    assert seen.current == pytest.approx(2 - p[0], rel=1e-4)


def test_a_sum_without_division_and_one_by_a_constant_differ_in_how_they_grow():
    seen = examined(made.total)
    assert seen.weights == pytest.approx([1] * 5, rel=1e-4)
    assert "sum" in seen.fates.values()
    by_cohort = dict(examined(made.tenth).by_cohort)
    assert all(value == pytest.approx(m / 10, rel=1e-3) for m, value in by_cohort.items())
    assert len(by_cohort) == 2


def test_writing_into_an_upload_is_seen():
    seen = examined(made.in_place)
    assert seen.changes_input
    assert seen.wrote == ("upload 0",)


def test_the_fate_of_buffers_is_told_entry_by_entry():
    buffers = ("1.running_mean", "1.running_var", "1.num_batches_tracked")
    assert {examined(made.parameters_only).fates[name] for name in buffers} == {"kept"}
    seen = examined(made.first_buffers)
    assert {name: seen.ones[name] for name in buffers} == dict.fromkeys(buffers, 0)
    assert seen.weights == pytest.approx(seen.wanted, rel=1e-4)
    cast = examined(made.float_counters)
    assert cast.fates["1.num_batches_tracked"] == "cast"
    assert cast.dtypes == {"1.num_batches_tracked": ("int64", "float32")}


def test_swapped_entries_are_named_and_do_not_spoil_the_coefficients():
    seen = examined(made.swapped)
    assert dict(seen.landed) == {
        "3.weight": "5.weight",
        "5.weight": "3.weight",
        "3.bias": "5.bias",
        "5.bias": "3.bias",
    }
    assert seen.weights == pytest.approx(seen.wanted, rel=1e-4)
    assert seen.residual > 1


@pytest.mark.parametrize("rule", ["median", "trimmed", "krum"])
def test_robust_rules_are_recognised(rule):
    wanted = {"trimmed": "trimmed-mean"}.get(rule, rule)
    seen = examined(getattr(made, rule))
    assert (seen.rule, seen.order, seen.copies) == (wanted, 0, 0)


def test_the_server_rate_is_the_sum_of_the_coefficients():
    seen = examined(made.stepped(0.01))
    assert seen.total == pytest.approx(0.01, rel=1e-3)
    assert seen.residual == 0
    assert examined(made.stepped(-1.0)).total == pytest.approx(-1, rel=1e-4)
    clean(examined(made.stepped(0.5), declared={"server_lr": 0.5}))


def test_an_adaptive_step_is_recognised_by_its_signs():
    assert examined(made.stepped(0.01, lambda move: move / (move.abs() + 1e-3))).rule == "adaptive"


def test_noise_is_taken_out_of_the_coefficients_and_told_apart():
    seen = examined(made.private, declared={"dp": {"clip": 0.1, "noise": 1.0}})
    assert seen.noise == pytest.approx(1.0 * 0.1 / 5, rel=0.1)  # noise * clip over the cohort
    length = 0.02 * sum(v.numel() for v in made.network().parameters()) ** 0.5
    assert seen.total == pytest.approx(0.1 / length, rel=0.15)  # every update is cut to the bound
    assert seen.residual > 1
    assert set(seen.fates.values()) <= {"mean", "uniform", "one"}
    quiet = examined(made.clipped)
    assert (quiet.rule, quiet.residual, quiet.noise) == ("norm-clip", 0, 0)


def test_noise_that_no_seed_repeats_is_averaged():
    random = np.random.default_rng()

    def noisy(current, uploads):
        torch.manual_seed(int(random.integers(2**31)))
        return made.clipped(current, uploads, bound=100.0, noise=2e-4)

    seen = examined(noisy, declared={"weighting": "uniform"})
    assert seen.weights == pytest.approx([0.2] * 5, abs=0.02)
    assert set(seen.fates.values()) <= {"mean", "uniform", "one"}
    assert (seen.order, seen.carried) == (0, 0)


def test_a_grid_is_measured():
    seen = examined(made.rounded)
    assert seen.truncated
    assert seen.grid == pytest.approx(0.05, rel=1e-3)


def test_uploads_that_are_each_rounded_by_a_step_of_their_own_are_seen_in_one_alone():
    """To 15 levels up to the largest number of each entry: the mean of several lies on no grid."""

    def levels(value):
        step = value.abs().max() / 7
        return (value / step).round() * step if value.is_floating_point() else value

    def quantised(current, uploads):
        return mean(current, [({name: levels(value) for name, value in s.items()}, n) for s, n in uploads])

    assert examined(quantised).grid > 0
    assert examined(mean).grid == 0


class Momentum(Federation):
    declared = {"momentum": 0.9}  # noqa: RUF012

    def __init__(self):
        self.velocity = None

    def aggregate(self, current, uploads, round):
        made = mean(current, uploads)
        step = {name: made[name] - current[name] for name in current}
        old = self.velocity or {name: torch.zeros_like(value) for name, value in step.items()}
        self.velocity = {name: 0.9 * old[name] + step[name] for name in step}
        return {name: current[name] + self.velocity[name] for name in current}


class Hoarding(Federation):
    """Its sums are never emptied, so that every round is averaged with all before."""

    def __init__(self):
        self.sums, self.count = {}, 0

    def aggregate(self, current, uploads, round):
        for state, n in uploads:
            self.count += n
            for name in current:
                self.sums[name] = self.sums.get(name, 0) + n * state[name]
        return {name: value / self.count for name, value in self.sums.items()}


def test_what_a_server_carries_into_the_next_round_is_measured():
    assert examined(kind=Momentum).past == pytest.approx(0.9, abs=1e-3)
    assert examined(kind=Hoarding).carried == pytest.approx(0.5, abs=0.01)  # half of each of two rounds


class Updates(Federation):
    def fit(self, client, received, round):
        trained = self.trained(client, received)
        return {name: trained[name] - received[name] for name in received}, 30 + client

    def aggregate(self, current, uploads, round):
        p = made.shares(uploads)
        step = {n: sum(s * up[n] for s, (up, _) in zip(p, uploads, strict=True)) for n in current}
        return {name: (value + step[name]).to(value.dtype) for name, value in current.items()}


class Replacing(Updates):
    def aggregate(self, current, uploads, round):
        return mean(current, uploads)


class Doubling(Federation):
    def aggregate(self, current, uploads, round):
        return {name: value + mean(current, uploads)[name] for name, value in current.items()}


def test_updates_are_told_from_weights_and_mixed_up_ones_by_how_much_of_the_model_stays():
    clean(examined(kind=Updates))
    assert examined(kind=Replacing).current == pytest.approx(0, abs=1e-4)
    assert examined(kind=Doubling).current == pytest.approx(2, rel=1e-4)


class OwnWeights(Federation):
    """Clients whose first models have nothing to do with the one that is sent."""

    def trained(self, client, received):
        draw = torch.Generator().manual_seed(client)
        return {
            name: value[torch.randperm(len(value), generator=draw)].flip(0) * 0.9 if value.dim() > 1 else value
            for name, value in received.items()
        }


def test_unrelated_weights_of_the_networks_own_size_are_no_updates():
    seen = examined(mean, kind=OwnWeights)
    assert seen.current == pytest.approx(1, abs=1e-4) and seen.total == pytest.approx(1, rel=1e-4)


class Silent(Federation):
    """The first clients that are asked answer nothing."""

    def fit(self, client, received, round):
        return None if client < 2 else super().fit(client, received, round)


def test_clients_that_answer_nothing_do_not_keep_the_aggregator_from_being_examined():
    clean(examined(mean, kind=Silent))


class Arrays(Federation):
    def init(self):
        return [value.numpy() for value in network_state().values()]

    def fit(self, client, received, round):
        draw = np.random.default_rng(client)
        moved = [v + draw.normal(0, 0.02, v.shape).astype(v.dtype) if v.dtype.kind == "f" else v + 7 for v in received]
        return moved, 30 + client, {"loss": 1.0}

    def aggregate(self, current, uploads, round):
        return made.arrays(current, [(state, n) for state, n, _ in uploads])


def network_state():
    return made.network().state_dict()


class Named(Federation):
    """Uploads name their client, and the server keeps them by that name."""

    def fit(self, client, received, round):
        return {"weights": self.trained(client, received), "num_examples": 30 + client, "cid": client}

    def aggregate(self, current, uploads, round):
        by_client = {upload["cid"]: (upload["weights"], upload["num_examples"]) for upload in uploads}
        return mean(current, list(by_client.values()))


class Fixed(Federation):
    """Twenty clients take part in every round, and the server divides by twenty."""

    clients, cohort = 40, 20
    declared = {"weighting": "uniform"}  # noqa: RUF012

    def aggregate(self, current, uploads, round):
        return {n: v + (sum(s[n] - v for s, _ in uploads) / 20).to(v.dtype) for n, v in current.items()}


class Strict(Fixed):
    declared = {}  # noqa: RUF012

    def aggregate(self, current, uploads, round):
        if len(uploads) < 20:
            raise RuntimeError("a round with fewer than 20 uploads is void")
        return mean(current, uploads)


class Alone(Federation):
    cohort = 1

    def aggregate(self, current, uploads, round):
        return uploads[0][0]


class Uncounted(Federation):
    def fit(self, client, received, round):
        return self.trained(client, received)

    def aggregate(self, current, uploads, round):
        return made.uniform(current, [(state, 1) for state in uploads])


class Shares(Federation):
    def fit(self, client, received, round):
        return self.trained(client, received), (30 + client) / 300

    def aggregate(self, current, uploads, round):
        return {n: sum(p * state[n] for state, p in uploads).to(v.dtype) for n, v in current.items()}


class Sized(Federation):
    """The server knows the clients' sizes itself, from the cohort that it drew."""

    def sample(self, round):
        self.drawn = [3, 1, 6, 2, 5]
        return self.drawn

    def train_data(self, client):
        return torch.zeros(20 * client + 5, 12), torch.zeros(20 * client + 5, dtype=torch.long)

    def aggregate(self, current, uploads, round):
        sizes = [20 * client + 5 for client in self.drawn[: len(uploads)]]
        return mean(current, [(state, n) for (state, _), n in zip(uploads, sizes, strict=True)])


class Zeros(Federation):
    model = None

    def init(self):
        return {"weight": torch.zeros(4, 60), "bias": torch.zeros(4)}

    aggregate = staticmethod(lambda current, uploads, round: mean(current, uploads))


class Few(Zeros):
    """Fewer numbers than uploads."""

    def init(self):
        return {"weight": torch.tensor([0.1, -0.2, 0.3])}


class Halves(Zeros):
    def init(self):
        return {"weight": torch.linspace(-1, 1, 240).view(4, 60).half(), "bias": torch.ones(4).half()}


class Doubles(Zeros):
    def init(self):
        return {"weight": torch.linspace(-1, 1, 240).view(4, 60).double(), "bias": torch.ones(4).double()}


HEALTHY = [Arrays, Named, Fixed, Strict, Alone, Uncounted, Shares, Sized, Zeros, Few, Halves, Doubles]


@pytest.mark.parametrize("kind", HEALTHY, ids=lambda kind: kind.__name__)
def test_healthy_servers_of_every_form_are_clean(kind):
    clean(examined(kind=kind))


def test_a_job_that_is_slow_to_make_is_made_anew_only_if_it_keeps_something(monkeypatch):
    monkeypatch.setattr("fedlens.diagnosis.probes.aggregation.SLOW", -1.0)
    clean(examined(mean))
    assert examined(kind=Hoarding).carried == pytest.approx(0.5, abs=0.01)


def test_a_job_whose_aggregator_always_fails_is_not_examined():
    def broken(current, uploads):
        raise ValueError("no")

    with pytest.raises(Ailing, match="ValueError: no"):
        examined(broken)
