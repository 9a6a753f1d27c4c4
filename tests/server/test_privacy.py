"""Privacy mechanisms: bounds that hold, noise of the derived size, a fixed divisor, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fedlens.errors import ConfigurationError, RunError
from fedlens.server.privacy import (
    AnyMechanism,
    Central,
    CentralAdaptive,
    LocalLaplace,
    clipped,
    joint_norm,
    moved_clip,
    noise_on_sum,
)
from fedlens.settings import settings

DRAWS = 200_000


@settings
class Holder:
    """Something that has a mechanism."""

    privacy: AnyMechanism | None = None


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def zeros(size: int = DRAWS) -> Tensor:
    return torch.zeros(size, dtype=torch.float64)


def same(one: Tensor, other: Tensor, atol: float = 1e-11) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=atol)


# Clipping


def test_the_clip_is_joint_over_all_uploads_of_a_client():
    # Together (3, 0, 0, 4) is 5 long; a clip of 1 divides all by 5. Name by name it would give 1 and 1, and length 1.4.
    upload, within = clipped({"update": row(3, 0), "c": row(0, 4)}, 1.0, 2)
    same(upload["update"], row(0.6, 0))
    same(upload["c"], row(0, 0.8))
    assert not within


def test_the_l1_clip_is_joint_too():
    # |3| + |-1| + |4| = 8, and a clip of 2 divides by 4.
    upload, within = clipped({"update": row(3, -1), "c": row(4)}, 2.0, 1)
    same(upload["update"], row(0.75, -0.25))
    same(upload["c"], row(1))
    assert not within


def test_an_upload_within_the_bound_is_not_touched():
    given = {"update": torch.tensor([0.3, 0.4]), "c": torch.tensor([[1.2]])}  # 1.3 long, and 1.9 in L1
    for bound, order in ((1.3 + 1e-6, 2), (1.9 + 1e-6, 1)):
        upload, within = clipped(given, bound, order)
        assert within and all(torch.equal(upload[name], given[name]) for name in given)
    assert not clipped(given, 1.29, 2)[1] and not clipped(given, 1.89, 1)[1]


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("length", [1e-3, 1.0, 1e6, 1e30])
def test_rounding_never_lengthens_an_upload_beyond_the_bound(order, dtype, length):
    draw = torch.Generator().manual_seed(order)
    for size in (1, 7, 5_000):
        upload = {"a": torch.randn(size, generator=draw).to(dtype) * length, "b": torch.ones(2, 3, dtype=dtype)}
        for bound in (1e-4, 0.1 * length, 0.3 * joint_norm(upload, order)):
            if joint_norm(upload, order) <= bound:
                continue
            kept = joint_norm(clipped(upload, bound, order)[0], order)
            assert bound * (1 - 1e-6) <= kept <= bound


def test_clipping_keeps_the_direction():
    upload = {"a": torch.randn(40, generator=torch.Generator().manual_seed(3)), "b": torch.ones(3)}
    short, _ = clipped(upload, 0.5, 2)
    before, after = (torch.cat([each["a"], each["b"]]).double() for each in (upload, short))
    assert torch.cosine_similarity(before, after, dim=0) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_an_upload_that_is_not_finite_is_refused(broken):
    with pytest.raises(RunError, match="not finite"):
        clipped({"update": row(1, broken)}, 1.0, 2)


# Central


def test_the_divisor_is_the_expected_number_of_clients():
    # Four clients are expected, two answer with (2, 6) each: the sum (4, 12) over 4 is half of their mean.
    mechanism = Central(noise=0.0, clip=100.0)
    uploads = [mechanism.client({"update": row(2, 6)}, 100.0, rng())[0]["update"] for _ in range(2)]
    same(mechanism.server({"update": uploads[0] + uploads[1]}, 4, 100.0, rng())["update"], row(1, 3))


def test_noise_on_the_mean_has_the_derived_deviation():
    # z = 1.5, C = 0.4, m = 20: the sum gets 0.6, the mean 0.6 / 20 = 0.03. The deviation of n normal draws is off by
    # 1/sqrt(2n) of itself, 0.16 % here; five of those are 0.8 %. Their mean is off by 0.03 / sqrt(n).
    noise = Central(noise=1.5, clip=0.4).server({"update": zeros()}, 20, 0.4, rng(1))["update"]
    assert noise.std().item() == pytest.approx(0.03, rel=0.008)
    assert abs(noise.mean().item()) < 5 * 0.03 / math.sqrt(DRAWS)
    # E x^4 / (E x^2)^2 is 3 for a normal, with deviation sqrt(24 / n); 6 for a Laplace distribution.
    assert (noise**4).mean() / (noise**2).mean() ** 2 == pytest.approx(3, abs=5 * math.sqrt(24 / DRAWS))


def test_noise_follows_the_bound_in_force_and_not_the_one_in_the_settings():
    noise = Central(noise=1.0, clip=1.0).server({"update": zeros()}, 1, 0.25, rng(2))["update"]
    assert noise.std().item() == pytest.approx(0.25, rel=0.008)


def test_every_upload_and_every_draw_has_noise_of_its_own():
    mechanism, draw = Central(noise=1.0, clip=1.0), rng(3)
    one = mechanism.server({"update": zeros(), "c": zeros()}, 1, 1.0, draw)
    two = mechanism.server({"update": zeros(), "c": zeros()}, 1, 1.0, draw)
    rows = torch.stack([one["update"], one["c"], two["update"], two["c"]])
    off = torch.corrcoef(rows) - torch.eye(4, dtype=torch.float64)  # independent: 0 with deviation 1/sqrt(n)
    assert off.abs().max().item() < 5 / math.sqrt(DRAWS)


def test_noise_repeats_with_its_generator_whatever_the_order_of_the_uploads():
    mechanism, sums = Central(noise=1.0, clip=1.0), {"update": row(1, 2), "c": row(3)}
    one = mechanism.server(sums, 2, 1.0, rng(4))
    other = mechanism.server(dict(reversed(sums.items())), 2, 1.0, rng(4))
    assert all(torch.equal(one[name], other[name]) for name in sums)


def test_type_and_shape_of_an_upload_are_kept():
    sums = {"update": torch.ones(2, 3), "reach": torch.ones(())}
    central = Central(noise=1.0, clip=1.0).server(sums, 2, 1.0, rng())
    local, _ = LocalLaplace(epsilon=1.0, clip=1.0).client(sums, 1.0, rng())
    for name, total in sums.items():
        for made in (central[name], local[name]):
            assert made.shape == total.shape and made.dtype == torch.float32


def test_clients_of_a_central_mechanism_add_no_noise():
    for mechanism in (Central(noise=9.0, clip=2.0), CentralAdaptive(noise=0.1, clip=2.0)):
        upload, within = mechanism.client({"update": row(3, 4)}, 2.0, rng())
        same(upload["update"], row(1.2, 1.6))  # 2/5 of it
        assert not within
        assert mechanism.client({"update": row(0.3, 0.4)}, 2.0, rng())[1]


# The bound that adapts

NORMS = (1.0, 2.0, 3.0, 4.0, 5.0)


def next_clip(mechanism: CentralAdaptive, clip: float) -> float:
    within = [mechanism.client({"update": row(0, norm)}, clip, rng())[1] for norm in NORMS]
    return mechanism.next_clip(clip, within, len(NORMS), rng())


def test_the_bound_moves_as_the_recursion_says():
    # From 2.5, norms 1 and 2 of five are within: exp(-0.2 (0.4 - 0.5)) = exp(0.02), twice, as 2.55 is still below 3.
    mechanism = CentralAdaptive(noise=0.0, clip=2.5)
    first = next_clip(mechanism, 2.5)
    assert first == pytest.approx(2.5 * math.exp(0.02), rel=1e-12)
    assert next_clip(mechanism, first) == pytest.approx(2.602026935480971, rel=1e-12)  # 2.5 exp(0.04)
    # From 3 on three of five are within: exp(-0.2 (0.6 - 0.5)). A norm equal to the bound is within.
    assert next_clip(mechanism, 3.0) == pytest.approx(3 * math.exp(-0.02), rel=1e-12)


@pytest.mark.parametrize("start", [0.1, 40.0])
@pytest.mark.parametrize(("target", "quantile"), [(0.5, 3.0), (0.7, 4.0)])
def test_the_bound_settles_at_the_quantile_of_the_norms(start, target, quantile):
    # It ends up swinging about the norm where the share jumps past the target, in steps of at most 0.2 * 0.1 in log.
    mechanism, clip = CentralAdaptive(noise=0.0, clip=start, target=target), start
    for _ in range(100):
        clip = next_clip(mechanism, clip)
    assert abs(math.log(clip / quantile)) <= 0.02 + 1e-9


def test_a_client_that_comes_or_goes_moves_the_share_by_half_a_client():
    # Of m = 10: 6 within, 4 not: share 0.6. Without one of the 6: 0.5 + (5 - 9/2) / 10 = 0.55, half of 1/m less.
    # The paper's listing would count 5 of 10, a whole 1/m less, and would need twice the noise.
    mechanism = CentralAdaptive(noise=0.0, clip=1.0)
    everybody = mechanism.next_clip(1.0, [True] * 6 + [False] * 4, 10, rng())
    one_less = mechanism.next_clip(1.0, [True] * 5 + [False] * 4, 10, rng())
    assert -math.log(everybody) == pytest.approx(0.2 * 0.1)
    assert -math.log(one_less) == pytest.approx(0.2 * 0.05)
    assert mechanism.next_clip(1.0, [], 10, rng()) == 1.0


def test_the_count_has_noise_of_m_over_20_unless_told_otherwise():
    # log C' = -0.2 (N(0, sigma_b^2) / m) where nobody answers: deviation 0.2 * 2 / 40 = 0.01, and 0.2 * 8 / 40 = 0.04.
    for count_noise, deviation in ((None, 0.01), (8.0, 0.04)):
        mechanism, draw = CentralAdaptive(noise=1.0, clip=1.0, count_noise=count_noise), rng(5)
        logs = [math.log(mechanism.next_clip(1.0, [], 40, draw)) for _ in range(20_000)]
        assert np.std(logs) == pytest.approx(deviation, rel=5 / math.sqrt(2 * 20_000))
    assert CentralAdaptive(noise=0.0).count_deviation(40) == 0


def test_the_noise_is_split_between_sum_and_count():
    # z = 1, sigma_b = 5: (1 - 1/100)^(-1/2) = 1.0050378. z = 3, sigma_b = 2.5: (1/9 - 1/25)^(-1/2) = 15/4.
    assert noise_on_sum(1.0, 5.0) == pytest.approx(1.0050378152592121, rel=1e-12)
    assert noise_on_sum(3.0, 2.5) == pytest.approx(3.75, rel=1e-12)
    assert noise_on_sum(0.0, 0.0) == 0 and noise_on_sum(1e-200, 5.0) == 1e-200
    # m = 100 has sigma_b = 5: the same draws as a fixed bound with that multiplier.
    adaptive = CentralAdaptive(noise=1.0).server({"update": zeros(9)}, 100, 0.3, rng(6))["update"]
    same(adaptive, Central(noise=1.0050378152592121, clip=0.3).server({"update": zeros(9)}, 100, 0.3, rng(6))["update"])


def test_a_count_without_room_for_its_noise_is_refused():
    with pytest.raises(ConfigurationError, match=r"count_noise = 0\.5 is too small") as told:
        CentralAdaptive(noise=1.0, count_noise=0.5)  # 2 sigma_b = z: nothing is left for the sum
    assert told.value.problems[0].do == "set count_noise above 0.5"
    CentralAdaptive(noise=1.0, count_noise=0.51)
    with pytest.raises(ConfigurationError) as told:
        CentralAdaptive(noise=1.0).check(10)  # m / 20 = 0.5
    assert told.value.problems[0].where == "privacy.mechanism.count_noise"
    assert "let 11 or more clients take part" in told.value.problems[0].do
    CentralAdaptive(noise=1.0).check(11)
    with pytest.raises(ConfigurationError, match="larger than the count can be"):
        CentralAdaptive(noise=1.0, count_noise=12.0).check(11)


def test_a_fixed_bound_stays_and_a_moved_one_follows_the_noisy_share():
    assert Central(noise=1.0, clip=2.0).next_clip(2.0, [False] * 5, 5, rng()) == 2.0
    assert LocalLaplace(epsilon=1.0, clip=2.0).next_clip(2.0, [False] * 5, 5, rng()) == 2.0
    assert moved_clip(2.0, 1.5, 0.5, 0.2) == pytest.approx(2 * math.exp(-0.2))  # noise may push a share past 1


# Local


def test_local_laplace_noise_has_the_scale_of_the_diameter():
    # clip 0.5, epsilon 2: scale b = 2 * 0.5 / 2 = 0.5. E|x| = b, with deviation b / sqrt(n); E x^2 = 2 b^2.
    noise = LocalLaplace(epsilon=2.0, clip=0.5).client({"update": zeros()}, 0.5, rng(7))[0]["update"]
    assert noise.abs().mean().item() == pytest.approx(0.5, rel=5 / math.sqrt(DRAWS))
    assert (noise**2).mean().item() == pytest.approx(2 * 0.5**2, rel=5 * math.sqrt(5 / DRAWS))


def test_what_a_local_client_sends_tells_no_more_than_epsilon_allows():
    # The furthest two uploads, +C and -C, after clipping: P(sent > C) is 1/2, and 1/2 exp(-2C/b) = 1/2 exp(-epsilon).
    # Both are shares of n draws, deviation at most 1/(2 sqrt(n)). With b = C/epsilon it would be 1/2 exp(-2 epsilon).
    epsilon, clip, draws = 1.0, 3.0, 10_000
    mechanism, draw = LocalLaplace(epsilon=epsilon, clip=clip), rng(8)
    shares = []
    for far in (row(1e9), row(-1e9)):
        sent = [mechanism.client({"update": far}, clip, draw)[0]["update"].item() for _ in range(draws)]
        shares.append(np.mean(np.array(sent) > clip))
    assert shares[0] == pytest.approx(0.5, abs=2.5 / math.sqrt(draws))
    assert shares[1] == pytest.approx(0.5 * math.exp(-epsilon), abs=2.5 / math.sqrt(draws))


def test_a_local_client_clips_all_its_uploads_before_the_noise():
    mechanism = LocalLaplace(epsilon=1e12, clip=2.0)  # the noise is of order 4e-12
    upload, within = mechanism.client({"update": row(3, -1), "c": row(4)}, 2.0, rng())
    same(upload["update"], row(0.75, -0.25), atol=1e-9)
    same(upload["c"], row(1), atol=1e-9)
    assert not within


def test_the_server_of_a_local_mechanism_adds_nothing():
    same(LocalLaplace(epsilon=0.1, clip=2.0).server({"u": row(2, 6)}, 4, 2.0, rng())["u"], row(0.5, 1.5))


@pytest.mark.parametrize(
    "write",
    [
        lambda: LocalLaplace(epsilon=1.0),
        lambda: LocalLaplace(1.0),
        lambda: LocalLaplace(epsilon=1.0, clip=None),
        lambda: Holder(privacy="local-laplace:1"),
        lambda: Holder(privacy={"kind": "local-laplace", "epsilon": 1.0}),
    ],
)
def test_local_laplace_without_a_clip_is_refused_with_the_reason(write):
    with pytest.raises(ConfigurationError) as told:
        write()
    (problem,) = told.value.problems
    assert problem.where.endswith(".clip")
    assert "sensitivity is infinite" in problem.what and "no privacy" in problem.what
    assert problem.do.startswith("set clip, the L1 norm")


# As a user writes it


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (None, None),
        ({"kind": "central", "noise": 1, "clip": 0.5}, Central(noise=1.0, clip=0.5)),
        ("central-adaptive:1", CentralAdaptive(noise=1.0, clip=0.1, target=0.5, clip_lr=0.2, count_noise=None)),
        ({"kind": "local-laplace", "epsilon": 2.0, "clip": 3}, LocalLaplace(epsilon=2.0, clip=3.0)),
        (Central(noise=0.0, clip=1.0), Central(noise=0.0, clip=1.0)),
    ],
)
def test_every_way_to_write_a_mechanism_means_the_same(written, meant):
    assert Holder(privacy=written).privacy == meant


@pytest.mark.parametrize(
    ("written", "where", "what"),
    [
        ("centrl:1", "Holder.privacy", "'centrl' is not a known privacy mechanism"),
        ("central:1", "Holder.privacy.clip", "'clip' is missing"),
        ("central", "Holder.privacy.noise", "'noise' is missing"),
        ({"kind": "central", "noise": -1, "clip": 1}, "Holder.privacy.noise", "greater than or equal to 0"),
        ({"kind": "central", "noise": 1, "clip": 0}, "Holder.privacy.clip", "greater than 0"),
        ({"kind": "central", "noise": 1, "clip": math.inf}, "Holder.privacy.clip", "finite"),
        ({"kind": "central", "noise": 1, "clip": 1, "target": 0.5}, "Holder.privacy.target", "not a known key"),
        ({"kind": "central-adaptive", "noise": 1, "target": 1.0}, "Holder.privacy.target", "less than 1"),
        ({"kind": "central-adaptive", "noise": 1, "clip_lr": 0}, "Holder.privacy.clip_lr", "greater than 0"),
        ({"kind": "central-adaptive", "noise": 1, "count_noise": 0}, "Holder.privacy", "count_noise = 0 is too small"),
        ({"kind": "local-laplace", "epsilon": 0, "clip": 1}, "Holder.privacy.epsilon", "greater than 0"),
    ],
)
def test_a_wrong_mechanism_is_told_with_its_place(written, where, what):
    with pytest.raises(ConfigurationError) as refused:
        Holder(privacy=written)
    problem = refused.value.problems[0]
    assert problem.where == where and what in problem.what
