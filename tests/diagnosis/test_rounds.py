"""What is counted of a job's own rounds: every fault of an aggregator has the numbers that linear algebra gives it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import Toy, mean_of, subject

from fedlens.diagnosis.job import Declared, Upload
from fedlens.diagnosis.probes.rounds import examine_rounds

PARAMETERS = ("a", "b")


def played(job, count=3, **options):
    made = subject(job)
    patient = made.fresh()
    return examine_rounds(patient, patient.facts(), count, **options)


class Faulty(Toy):
    """Parameters by `rule`, buffers by their mean."""

    def rule(self, current, uploads, name, round):
        raise NotImplementedError

    def aggregate(self, current, uploads, round):
        new = super().aggregate(current, uploads, round)
        return {**new, **{name: self.rule(current, uploads, name, round) for name in PARAMETERS}}


def shares(round):
    counts = np.array([visit.examples for visit in round.visits])
    return counts / counts.sum()


def test_a_healthy_job_is_its_weighted_mean_and_nothing_else():
    seen = played(Toy)
    assert len(seen.rounds) == 3 and seen.failure is None and seen.payload == "weights"
    for round in seen.rounds:
        assert round.wanted == pytest.approx(shares(round))
        assert round.weights == pytest.approx(shares(round), abs=1e-4)
        assert round.total == pytest.approx(1, abs=1e-4)
        assert round.effective == pytest.approx(1, abs=1e-3)
        assert round.residual < 1e-5 and round.unexplained < 1e-5 and round.current == 0
        assert round.cosine == pytest.approx(1)
        assert set(round.fates.values()) == {"mean"} and len(round.fates) == 3
        assert not round.dropped and not round.negative and round.grid == 0 and round.zero < 0.01
        assert round.reported == {"accuracy": pytest.approx(0.1 * round.number)}
    assert seen.rounds[0].past is None
    assert seen.rounds[1].past == 0


def test_independent_updates_of_one_length_have_the_coherence_of_their_weights():
    round = played(Toy).rounds[0]
    # D_i are orthogonal up to 1/sqrt(400): ||Dbar||^2 = sum p_i^2 s^2, by sum p_i s^2
    assert round.coherence == pytest.approx(float((shares(round) ** 2).sum()), rel=0.2)
    size = 0.1 * math.sqrt(400)
    assert round.visits[0].norm == pytest.approx(size, rel=0.15)
    assert round.visits[0].size == pytest.approx(size / round.norm, rel=0.15)


def test_the_first_client_alone_is_one_weight_of_four():
    class Job(Faulty):
        def rule(self, current, uploads, name, round):
            return uploads[0].state[name]

    round = played(Job).rounds[1]
    assert round.weights == pytest.approx((1, 0, 0, 0), abs=1e-4)
    assert round.effective == pytest.approx(float((shares(round) ** 2).sum()), rel=1e-3)
    assert round.residual > 0.5 and round.unexplained < 1e-3


def test_the_first_client_alone_has_an_effective_ratio_of_one_by_m_where_sizes_are_equal():
    class Job(Faulty):
        def __init__(self):
            self.sizes = [50] * self.clients

        def rule(self, current, uploads, name, round):
            return uploads[0].state[name]

    assert played(Job).rounds[0].effective == pytest.approx(1 / 4, rel=1e-3)


def test_a_sum_that_begins_with_an_unweighted_client_totals_two_less_its_share():
    class Job(Faulty):
        def rule(self, current, uploads, name, round):
            whole = sum(upload.examples for upload in uploads)
            later = sum(upload.examples / whole * upload.state[name] for upload in uploads[1:])
            return uploads[0].state[name] + later

    class Updates(Job):
        declared = Declared(payload="update")

        def fit(self, client, received, round):
            upload = super().fit(client, received, round)
            return Upload({name: upload.state[name] - received[name] for name in received}, upload.examples)

        def rule(self, current, uploads, name, round):
            return current[name] + super().rule(current, uploads, name, round)

    round = played(Updates).rounds[0]
    p = shares(round)
    assert round.total == pytest.approx(2 - p[0], rel=1e-3)
    assert round.weights == pytest.approx((1, *p[1:]), abs=1e-3)
    # of weights, the model itself grows beside: A = sum a_i D_i + (1 - p0) w
    for round in played(Job).rounds:
        p = shares(round)
        assert round.total == pytest.approx(2 - p[0], rel=1e-3)
        assert round.current == pytest.approx(1 - p[0], rel=1e-3)
        assert round.unexplained < 1e-3


def test_updates_that_take_the_place_of_the_model_are_told():
    class Job(Faulty):
        def rule(self, current, uploads, name, round):
            return mean_of(uploads, name) - current[name]

    round = played(Job).rounds[0]
    assert round.current == pytest.approx(-1, rel=1e-3) and round.total == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("rate", [-1.0, 0.01, 3.0])
def test_the_total_is_the_rate_of_the_server(rate):
    class Job(Faulty):
        def rule(self, current, uploads, name, round):
            return current[name] + rate * (mean_of(uploads, name) - current[name])

    for round in played(Job).rounds:
        assert round.total == pytest.approx(rate, rel=1e-3)
        assert round.effective == pytest.approx(1, rel=1e-2)
        assert round.residual == pytest.approx(abs(rate - 1), rel=1e-3)
        assert round.unexplained < 1e-3 and round.cosine == pytest.approx(math.copysign(1, rate), abs=1e-5)
        assert not round.past


def test_a_uniform_mean_of_unequal_clients_is_told_by_its_effective_number():
    class Job(Faulty):
        def rule(self, current, uploads, name, round):
            return mean_of(uploads, name, [1 / len(uploads)] * len(uploads))

    class Uniform(Job):
        declared = Declared(weighting="uniform")

    round = played(Job).rounds[0]
    assert round.weights == pytest.approx((0.25,) * 4, abs=1e-4)
    assert round.effective == pytest.approx(4 * float((shares(round) ** 2).sum()), rel=1e-3)
    assert played(Uniform).rounds[0].effective == pytest.approx(1, abs=1e-3)
    assert played(Uniform).rounds[0].residual < 1e-5


def test_an_aggregate_that_is_never_installed_changes_nothing():
    class Job(Toy):
        def aggregate(self, current, uploads, round):
            return current

    round = played(Job).rounds[1]
    assert round.total == 0 and round.weights == (0, 0, 0, 0) and round.effective == 0
    assert round.residual == pytest.approx(1) and round.moved == 0 and round.zero == 1 and round.cosine is None
    assert round.dropped == PARAMETERS
    assert round.fates == {
        "norm.running_mean": "kept",
        "norm.running_var": "kept",
        "norm.num_batches_tracked": "kept",
    }


def test_a_parameter_that_the_server_leaves_out_is_named():
    class Job(Faulty):
        def rule(self, current, uploads, name, round):
            return current[name] if name == "b" else mean_of(uploads, name)

    class Lacking(Toy):
        def aggregate(self, current, uploads, round):
            return {"a": mean_of(uploads, "a")}

    assert played(Job).rounds[0].dropped == ("b",)
    round = played(Lacking, 1).rounds[0]
    assert round.dropped == ("b",) and set(round.fates.values()) == {"missing"}


def test_swapped_entries_of_one_shape_leave_a_residual():
    class Job(Faulty):
        def rule(self, current, uploads, name, round):
            return mean_of(uploads, {"a": "b", "b": "a"}[name])

    round = played(Job, 1).rounds[0]
    assert round.residual > 5 and round.unexplained > 0.9


def test_buffers_kept_or_of_one_client_are_told():
    class Kept(Toy):
        def aggregate(self, current, uploads, round):
            new = super().aggregate(current, uploads, round)
            return {**new, "norm.running_mean": current["norm.running_mean"]}

    class First(Toy):
        def aggregate(self, current, uploads, round):
            new = super().aggregate(current, uploads, round)
            return {**new, "norm.running_mean": uploads[0].state["norm.running_mean"]}

    class Uniform(Toy):
        def aggregate(self, current, uploads, round):
            even = mean_of(uploads, "norm.running_mean", [0.25] * 4)
            cast = current["norm.num_batches_tracked"].float()
            new = super().aggregate(current, uploads, round)
            return {**new, "norm.running_mean": even, "norm.num_batches_tracked": cast}

    for job, fate in ((Kept, "kept"), (First, "one"), (Uniform, "uniform")):
        round = played(job, 1).rounds[0]
        assert round.fates["norm.running_mean"] == fate
        assert round.fates["norm.running_var"] == "mean"
        assert round.residual < 1e-5  # parameters are well
    assert played(Uniform, 1).rounds[0].fates["norm.num_batches_tracked"] == "cast"


def test_buffers_of_which_no_client_sends_a_change_are_kept():
    class Job(Toy):
        def fit(self, client, received, round):
            sent = super().fit(client, received, round)
            return replace(sent, state={**sent.state, "norm.running_mean": received["norm.running_mean"]})

    assert played(Job, 1).rounds[0].fates["norm.running_mean"] == "kept"


def test_a_model_that_is_rounded_to_half_precision_and_noise_in_uploads_are_seen():
    class Half(Toy):
        def aggregate(self, current, uploads, round):
            new = super().aggregate(current, uploads, round)
            return {name: v.half().float() if v.dtype == torch.float32 else v for name, v in new.items()}

    assert played(Half, 1).rounds[0].narrow == "float16" and played(Toy, 1).rounds[0].narrow == ""
    assert all(visit.noise == 0 for visit in played(Toy, 1).rounds[0].visits)


@pytest.mark.parametrize("momentum", [0.9, 1.0])
def test_what_remains_of_earlier_rounds_is_the_coefficient_of_the_change_before(momentum):
    class Job(Faulty):
        def __init__(self):
            super().__init__()
            self.memory = dict.fromkeys(PARAMETERS, 0.0)

        def rule(self, current, uploads, name, round):
            self.memory[name] = momentum * self.memory[name] + mean_of(uploads, name) - current[name]
            return current[name] + self.memory[name]

    for round in played(Job, 4).rounds[1:]:
        assert round.past == pytest.approx(momentum, rel=1e-3)
        assert round.total == pytest.approx(1, rel=1e-3)
        assert round.effective == pytest.approx(1, rel=1e-2)
        assert round.unexplained < 2e-3


def test_noise_on_the_aggregate_leaves_total_and_effective_number_as_they_are():
    class Job(Faulty):
        shape = (400, 50)

        def rule(self, current, uploads, name, round):
            return mean_of(uploads, name) + 0.15 * torch.randn(self.shape)

    for round in played(Job).rounds:
        assert round.residual > 2
        assert abs(round.total - 1) < 4 * round.total_error and round.total_error < 0.03
        assert round.effective == pytest.approx(1, abs=0.05)
        assert abs(round.past or 0) < 0.05


def test_identical_updates_accuse_nobody():
    class Job(Toy):
        def direction(self, client, round):
            return super().direction(0, round)

    class Collinear(Toy):
        def direction(self, client, round):
            return {name: (client + 1) * value for name, value in super().direction(0, round).items()}

    same = played(Job).rounds[1]
    assert same.weights == () and same.effective is None
    assert same.total == pytest.approx(1, rel=1e-3) and same.residual < 1e-5 and same.coherence == pytest.approx(1)
    collinear = played(Collinear).rounds[1]
    assert collinear.weights == () and collinear.total is None and collinear.residual < 1e-5


def test_a_client_that_sends_no_change_does_not_lower_the_total():
    class Job(Toy):
        def direction(self, client, round):
            return {name: value * (client != 2) for name, value in super().direction(client, round).items()}

    seen = [round for round in played(Job).rounds if 2 in round.asked]
    assert seen
    for round in seen:
        place = round.asked.index(2)
        assert round.visits[place].still == PARAMETERS and round.visits[place].zero == 1
        assert round.total == pytest.approx(1, rel=1e-3)
        assert round.effective == pytest.approx(1, rel=1e-2)


def test_tiny_steps_are_told_beside_what_rounding_explains():
    class Job(Toy):
        def direction(self, client, round):
            return {name: 1e-5 * value for name, value in super().direction(client, round).items()}

    for round in played(Job).rounds:
        assert round.residual > 1e-3  # float32 alone
        assert round.residual < round.rounding
        assert round.total == pytest.approx(1, abs=0.02)


def test_numbers_that_were_rounded_to_a_grid_are_told():
    class Job(Faulty):
        def rule(self, current, uploads, name, round):
            return (mean_of(uploads, name) / 0.05).round() * 0.05

    class Uploads(Toy):
        def fit(self, client, received, round):
            upload = super().fit(client, received, round)
            rounded = {name: (upload.state[name] / 0.05).round() * 0.05 for name in PARAMETERS}
            return Upload({**upload.state, **rounded}, upload.examples)

    assert played(Job).rounds[1].grid == pytest.approx(0.05, rel=1e-3)
    assert all(visit.grid == pytest.approx(0.05, rel=1e-3) for visit in played(Uploads).rounds[1].visits)


def test_updates_are_told_from_weights():
    class Job(Toy):
        def fit(self, client, received, round):
            upload = super().fit(client, received, round)
            return Upload({name: upload.state[name] - received[name] for name in received}, upload.examples)

        def aggregate(self, current, uploads, round):
            mean = super().aggregate(current, uploads, round)
            return {name: current[name] + mean[name] for name in current}

    class FromZero(Job):
        def init(self):
            return {name: torch.zeros_like(value) for name, value in super().init().items()}

    for job in (Job, FromZero):
        seen = played(job)
        assert all(round.total == pytest.approx(1, abs=1e-4) for round in seen.rounds)
        assert all(set(round.fates.values()) == {"mean"} for round in seen.rounds)
    assert played(Job).payload == "update"


def test_entries_declared_local_or_frozen_are_left_out():
    class Job(Toy):
        declared = Declared(local_entries=("b", "norm."))

        def fit(self, client, received, round):
            upload = super().fit(client, received, round)
            return Upload({"a": upload.state["a"]}, upload.examples)

        def aggregate(self, current, uploads, round):
            return {**current, "a": mean_of(uploads, "a")}

    round = played(Job).rounds[1]
    assert round.residual < 1e-5 and round.total == pytest.approx(1, abs=1e-4)
    assert not round.dropped and not round.fates and not any(visit.missing for visit in round.visits)


def test_a_fit_that_raises_ends_the_playing_with_what_was_there():
    class Job(Toy):
        def fit(self, client, received, round):
            if round == 3:
                raise ValueError("out of data")
            return super().fit(client, received, round)

    seen = played(Job, 5)
    assert len(seen.rounds) == 2 and seen.failure.stage == "fit" and "out of data" in str(seen.failure)


def test_an_evaluate_that_raises_costs_only_its_reports():
    class Job(Toy):
        def evaluate(self, state, round):
            raise ValueError("no test set")

    seen = played(Job)
    assert len(seen.rounds) == 3 and seen.failure.stage == "evaluate" and seen.rounds[2].reported == {}


def test_uploads_that_are_not_finite_are_recorded_and_left_out_of_what_is_wanted():
    class Job(Toy):
        def fit(self, client, received, round):
            upload = super().fit(client, received, round)
            if client == 1:
                upload.state["a"][0, 0] = math.nan
            return upload

        def aggregate(self, current, uploads, round):
            return super().aggregate(current, [u for u in uploads if bool(u.state["a"].isfinite().all())], round)

    class Accepting(Job):
        aggregate = Toy.aggregate

    for round in played(Job, 5).rounds:
        assert [visit.finite for visit in round.visits] == [client != 1 for client in round.asked]
        assert round.finite and round.residual < 1e-5 and round.total == pytest.approx(1, abs=1e-4)
    assert not played(Accepting, 5).rounds[-1].finite


def test_shapes_that_change_are_recorded_and_left_out():
    class Job(Toy):
        def fit(self, client, received, round):
            upload = super().fit(client, received, round)
            upload.state["b"] = upload.state["b"].flatten()
            upload.state["a"] = upload.state["a"].half()
            return upload

        def aggregate(self, current, uploads, round):
            new = super().aggregate(
                current, [Upload({**u.state, "b": u.state["a"]}, u.examples) for u in uploads], round
            )
            return {**new, "b": current["b"]}

    visit = played(Job, 1).rounds[0].visits[0]
    assert visit.reshaped == ("b",) and visit.retyped == ("a",)


def test_uploads_that_lie_in_one_memory_are_told_and_only_the_last_is_in_the_aggregate():
    class Job(Toy):
        def __init__(self):
            super().__init__()
            self.own = self.init()

        def fit(self, client, received, round):
            for name, value in super().fit(client, received, round).state.items():
                self.own[name].copy_(value)
            return Upload(self.own, self.sizes[client])

    round = played(Job, 1).rounds[0]
    assert all(visit.aliased and len(visit.shares) == 3 for visit in round.visits)
    assert round.weights == pytest.approx((0, 0, 0, 1), abs=1e-4)
    assert not any(visit.aliased for visit in played(Toy, 1).rounds[0].visits)


def test_jobs_that_speak_in_lists_of_arrays_are_counted_alike():
    class Job(Toy):
        def init(self):
            return [np.ones((30, 4)), np.full((4,), 2.0)]

        def fit(self, client, received, round):
            rng = np.random.default_rng([client, round])
            return [value + 0.1 * rng.standard_normal(value.shape) for value in received], self.sizes[client], {}

        def aggregate(self, current, uploads, round):
            whole = sum(count for _, count, _ in uploads)
            return [sum(u[0][k] * u[1] / whole for u in uploads) for k in range(2)]

    for round in played(Job).rounds:
        assert round.weights == pytest.approx(shares(round), abs=1e-6)
        assert round.residual < 1e-12 and round.rounding < 1e-12


def test_a_client_that_answers_nothing_is_left_out():
    class Job(Toy):
        def fit(self, client, received, round):
            return None if client == 0 else super().fit(client, received, round)

    for round in played(Job, 4).rounds:
        assert [visit.client for visit in round.visits] == [client for client in round.asked if client]
        assert round.residual < 1e-5


class Network(Toy):
    """Two classes on the two sides of a line; clients take plain steps."""

    clients, cohort, classes = 3, 3, 2

    def model(self):
        return torch.nn.Linear(2, 2)

    def init(self):
        torch.manual_seed(0)
        return self.model().state_dict()

    def train_data(self, client):
        inputs = torch.randn(40, 2, generator=torch.Generator().manual_seed(client))
        return inputs, (inputs[:, 0] > 0).long()

    def test_data(self):
        return self.train_data(99)

    def fit(self, client, received, round):
        module = self.model()
        module.load_state_dict(received)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
        inputs, labels = self.train_data(client)
        for _ in range(5):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(inputs), labels).backward()
            optimizer.step()
        return Upload(module.state_dict(), len(labels))


def test_models_are_examined_in_the_watched_rounds_and_at_the_end():
    from fedlens.diagnosis.examiner import Examiner

    made = subject(Network)
    patient = made.fresh()
    told = []
    seen = examine_rounds(
        patient, patient.facts(), 4, examiner=Examiner(made.fresh()), each=lambda round, state: told.append(round)
    )
    assert told == list(seen.rounds)
    assert [round.exam is not None for round in seen.rounds] == [True, True, False, True]
    first = seen.rounds[0]
    assert all(visit.gain > 0 and visit.accuracy > 0.5 for visit in first.visits) and first.gain > 0
    assert seen.rounds[2].visits[0].gain is None
    assert first.visits[0].watched.steps == 5 and first.visits[0].watched.start == 0
    assert len(seen.seconds_fit) == 4 and min(seen.seconds_fit) > 0 and seen.seconds_rest > 0
