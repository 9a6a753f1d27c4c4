"""Codecs: bytes written by hand, what is lost and how much, what error feedback brings back, what is refused."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
import torch
from torch import Tensor

from fedlens.errors import ConfigurationError, RunError
from fedlens.server.codec import QSGD, BFloat16, Float16, Plain, Sign, TopK
from fedlens.server.communication import CASTS, CODECS, Communication, with_feedback

pytestmark = pytest.mark.filterwarnings("error")
LOSSY = [Float16(), BFloat16(), QSGD(), QSGD(levels=3, bucket=7), TopK(0.1), Sign()]
ALL = [Plain(), *LOSSY]
BOTH = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
EVERY = pytest.mark.parametrize("codec", ALL, ids=str)
SMALL = QSGD(levels=1, bucket=4)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def numbers(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype)


def noise(size: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def back(codec, vector: Tensor, seed: int = 0) -> Tensor:
    return codec.decode(codec.encode(vector, rng(seed)), len(vector), vector)


# Bytes, by hand


@pytest.mark.parametrize(
    ("codec", "vector", "payload"),
    [
        (Plain(), numbers(1, -2), struct.pack("<2d", 1, -2)),
        (Plain(), numbers(1, -2, dtype=torch.float32), struct.pack("<2f", 1, -2)),
        (Float16(), numbers(1, -2), struct.pack("<2e", 1, -2)),
        # 1.0 is 3f800000 in float32, -2.0 is c0000000: the upper halves, low byte first
        (BFloat16(), numbers(1, -2), b"\x80\x3f\x00\xc0"),
        # s = 1 and one entry to a bucket: it is its norm (3, 5), or zero. Codes level + 1: 1 0 1 1 | 2. The low bits
        # 1 0 1 1 0, the high bits 0 0 0 0 1: 10110000 01......
        (SMALL, numbers(0, -3, 0, 0, 5), struct.pack("<2f", 3, 5) + b"\xb0\x40"),
        (TopK(0.5), numbers(1, -5, 2, 3), struct.pack("<2I2f", 1, 3, -5, 3)),
        # mean magnitude (3 + 1 + 2) / 3; 1 0 1.....
        (Sign(), numbers(3, -1, 2), struct.pack("<f", 2) + b"\xa0"),
    ],
    ids=str,
)
def test_a_payload_is_these_bytes(codec, vector, payload):
    assert codec.encode(vector, rng()) == payload


@pytest.mark.parametrize(
    ("codec", "size", "length"),
    [
        (Plain(), 1000, 4000),
        (Float16(), 1000, 2000),
        (BFloat16(), 1000, 2000),
        (QSGD(), 1000, 1000 + 8),  # 255 levels: 8 bits; two buckets of 512
        (QSGD(levels=128), 1000, 1125 + 8),  # 257 levels: 9 bits
        (QSGD(levels=7), 512, 256 + 4),  # 15 levels: 4 bits; one bucket, full
        (QSGD(levels=3), 7, 3 + 4),  # 7 levels: 3 bits, 21 in all
        (QSGD(levels=1, bucket=4), 10, 3 + 12),  # 3 levels: 2 bits, 20 in all; three buckets
        (QSGD(levels=32767), 1000, 2000 + 8),  # 65535 levels: 16 bits
        (QSGD(bucket=10**12), 1000, 1000 + 4),
        (TopK(), 1000, 80),  # ten of 8 bytes
        (TopK(), 1001, 88),  # 10.01: eleven
        (TopK(), 5, 8),  # 0.05: one
        (TopK(0.07), 100, 56),  # 7, though 0.07 * 100 = 7.000000000000001
        (TopK(1e-12), 5, 8),
        (TopK(1.0), 3, 24),
        (Sign(), 1000, 125 + 4),
        (Sign(), 1001, 126 + 4),
    ],
    ids=str,
)
def test_a_payload_takes_so_many_bytes(codec, size, length):
    assert len(codec.encode(noise(size, dtype=torch.float32), rng())) == length


# What comes back


@BOTH
def test_no_codec_brings_back_every_bit(dtype):
    vector = torch.cat([noise(999, dtype=dtype), numbers(0.0, -0.0, 1e-40, dtype=dtype)])
    found = back(Plain(), vector)
    assert found.dtype == dtype and found.numpy().tobytes() == vector.numpy().tobytes()


@BOTH
@EVERY
def test_every_codec_returns_the_shape_and_dtype_it_was_given_and_a_tensor_of_its_own(codec, dtype):
    for size in [*range(1, 20), 511, 512, 513]:
        vector = noise(size, seed=size, dtype=dtype)
        before, payload = vector.clone(), codec.encode(vector, rng())
        found = codec.decode(payload, size, vector)
        assert found.shape == (size,) and found.dtype == dtype and found.isfinite().all()
        kept = found.clone()
        found += 1
        assert torch.equal(vector, before)
        assert torch.equal(codec.decode(payload, size, vector), kept)


@BOTH
def test_a_cast_keeps_what_it_has_digits_for(dtype):
    exact = numbers(0, 1, -1.5, 0.1015625, 240, -(2.0**-14), dtype=dtype)  # 0.1015625 = 13/128
    for cast in (Float16(), BFloat16()):
        assert torch.equal(back(cast, exact), exact)


def test_a_cast_rounds_to_the_nearest_and_half_way_to_even():
    # float16 has steps of 2^-10 above 1, bfloat16 of 2^-7; at 1 + 1/2 and 1 + 3/2 steps the even neighbours are 1 and
    # 1 + 2 steps.
    for cast, step in ((Float16(), 2.0**-10), (BFloat16(), 2.0**-7)):
        found = back(cast, 1 + step * numbers(0.5, 0.75, 1.25, 1.5))
        assert torch.equal(found, 1 + step * numbers(0, 1, 1, 2))


def test_a_bfloat16_has_the_range_of_float32():
    assert back(BFloat16(), numbers(2.0**127, -(2.0**-126))).tolist() == [2.0**127, -(2.0**-126)]


@BOTH
@EVERY
def test_zeros_come_back_as_zeros(codec, dtype):
    assert not back(codec, torch.zeros(13, dtype=dtype)).any()  # nan would count as something


def test_a_bucket_of_zeros_beside_another_stays_zero():
    assert back(SMALL, numbers(0, 0, 0, 0, 7)).tolist() == [0, 0, 0, 0, 7]


@EVERY
def test_one_entry_comes_back_but_for_rounding(codec):
    # It is its own norm, its own largest entry and its own mean magnitude.
    for value in (0.3, -0.3):
        found = back(codec, numbers(value)).item()
        assert found == pytest.approx(value, rel=2**-8 if isinstance(codec, BFloat16) else 2**-11)


@EVERY
def test_equal_generators_make_equal_payloads_and_only_qsgd_draws(codec):
    vector = noise(600)
    payload = codec.encode(vector, rng())
    assert codec.encode(vector, rng()) == payload
    assert (codec.encode(vector, rng(1)) != payload) == isinstance(codec, QSGD)


# QSGD


def test_qsgd_is_right_in_the_mean():
    # Every draw lies in an interval of one step, norm / s, so by Hoeffding the mean of D draws is further than
    # step * sqrt(ln(2 / p) / (2 D)) off with probability p. D = 4000 and p = 1e-9: 0.052 steps. Rounding to the nearest
    # would be off by up to half a step.
    vector, draws = noise(60), 4000
    found = back(QSGD(levels=3, bucket=60), vector.repeat(draws)).view(draws, 60).mean(0)
    step = vector.norm() / 3
    assert (found - vector).abs().max() <= step * math.sqrt(math.log(2e9) / (2 * draws))


def test_a_level_is_one_of_the_two_nearest():
    vector = noise(700, dtype=torch.float32)
    step = torch.cat([part.norm().repeat(len(part)) for part in vector.split(512)]) / 15
    found = back(QSGD(levels=15), vector)
    assert ((found - vector).abs() <= step * (1 + 1e-6)).all()
    torch.testing.assert_close((found / step).round(), found / step, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("levels", "bound"), [(4, 16**0.5 / 4), (8, 16 / 8**2), (1, 16**0.5), (127, 16 / 127**2)])
def test_the_variance_of_qsgd_is_within_the_papers_bound(levels, bound):
    codec = QSGD(levels, bucket=16)
    assert codec.variance == pytest.approx(bound)
    for seed, kind in enumerate((torch.ones_like, torch.randn_like, lambda v: torch.randn_like(v) ** 3)):
        torch.manual_seed(seed)
        vector = kind(torch.empty(16, dtype=torch.float64))
        lost = (back(codec, vector.repeat(2000)).view(2000, 16) - vector).square().sum(1).mean()
        # What is expected, from the chance f of the level above: step^2 f (1 - f), summed.
        f = (vector.abs() / vector.norm() * levels).frac()
        expected = (vector.norm() / levels) ** 2 * (f * (1 - f)).sum()
        assert lost <= bound * vector.square().sum()
        assert lost == pytest.approx(expected.item(), rel=0.1, abs=1e-9)


def test_half_way_between_two_levels_every_draw_loses_the_same():
    # (1 1 1 1) has norm 2; at s = 1 every entry becomes 0 or 2, wrong by 1 either way.
    assert (back(QSGD(levels=1), torch.ones(4)) - 1).abs().tolist() == [1, 1, 1, 1]


def test_the_norm_is_never_below_an_entry():
    # The nearest float32 is above 0.1 and 0.3, and below 0.7. A float32 has 24 bits: the next is 2^-23 away at most.
    for value in (0.1, 0.3, 0.7, 1 / 3):
        norm = struct.unpack("<f", QSGD().encode(numbers(value), rng())[:4])[0]
        assert value <= norm <= value * (1 + 2**-23)


def test_the_highest_draw_does_not_lift_the_highest_level():
    class Highest:
        def random(self, size: int) -> np.ndarray:
            return np.full(size, 1 - 2.0**-53)

    # 4 is its own norm, so that its level is 127 already; 127 + 1 - 2^-53 is 128 in float64.
    codec = QSGD(levels=127)
    assert codec.decode(codec.encode(numbers(4), Highest()), 1, numbers(0)).item() == 4


# Top-k and sign


def test_top_k_keeps_the_largest_and_the_first_of_equal_ones():
    vector = numbers(2, -3, 1, 3, -2, 2, 0, 0)
    for kept, expected in [
        (1, [0, -3, 0, 0, 0, 0, 0, 0]),
        (2, [0, -3, 0, 3, 0, 0, 0, 0]),
        (3, [2, -3, 0, 3, 0, 0, 0, 0]),
        (4, [2, -3, 0, 3, -2, 0, 0, 0]),
        (8, [2, -3, 1, 3, -2, 2, 0, 0]),
    ]:
        assert back(TopK(kept / 8), vector).tolist() == expected


def test_top_k_keeps_what_sorting_would_keep():
    for seed in range(20):
        size = int(rng(seed).integers(1, 400))
        vector = torch.from_numpy(rng(seed).integers(-20, 21, size)).float()  # many ties
        kept = math.ceil(0.1 * size)
        order = sorted(range(size), key=lambda i, v=vector: (-abs(v[i].item()), i))[:kept]
        expected = torch.zeros(size)
        expected[order] = vector[order]
        assert torch.equal(back(TopK(0.1), vector), expected)


def test_the_sign_carries_the_mean_magnitude():
    assert back(Sign(), numbers(4, -1, 0, -3)).tolist() == [2, -2, 2, -2]  # 8 / 4; zero counts as positive


# Error feedback


@pytest.mark.parametrize("codec", LOSSY, ids=str)
def test_with_feedback_what_was_read_and_what_is_left_add_up_to_what_was_meant(codec):
    inputs = [noise(100, seed) for seed in range(20)]
    residual, read = None, torch.zeros(100, dtype=torch.float64)
    for seed, vector in enumerate(inputs):
        payload, decoded, residual = with_feedback(codec, vector, residual, rng(seed))
        assert torch.equal(decoded, codec.decode(payload, 100, vector))
        read += decoded
    assert residual.norm() > 0
    torch.testing.assert_close(read + residual, torch.stack(inputs).sum(0), rtol=0, atol=1e-12)


def test_the_first_visit_has_nothing_to_add():
    vector = noise(50)
    payload, decoded, residual = with_feedback(Sign(), vector, None, rng())
    assert payload == Sign().encode(vector, rng())
    assert torch.equal(residual, vector - decoded)


def test_what_was_lost_is_sent_at_the_next_visit():
    # One of two is kept. (3, 2): 3 goes, 2 stays. With (1, 1): 1 against 3, so that 3 goes and 1 stays.
    codec = TopK(0.5)
    _, first, residual = with_feedback(codec, numbers(3, 2), None, rng())
    _, second, residual = with_feedback(codec, numbers(1, 1), residual, rng())
    assert (first.tolist(), second.tolist(), residual.tolist()) == ([3, 0], [0, 3], [1, 0])


def test_the_plain_codec_leaves_nothing_over():
    vector = noise(50, dtype=torch.float32)
    assert not with_feedback(Plain(), vector, None, rng())[2].any()


def descend(feedback: bool) -> Tensor:
    """Top-1 on x^2 / 2 + y^2 / 2 from (1, 1): two clients with gradients (x + 10, y) and (x - 10, y)."""
    point, residuals = numbers(1, 1), [None, None]
    for _ in range(1500):
        total = torch.zeros(2, dtype=torch.float64)
        for client, shift in enumerate((10.0, -10.0)):
            update = -0.01 * (point + numbers(shift, 0))
            _, read, left = with_feedback(TopK(0.5), update, residuals[client], rng())
            residuals[client] = left if feedback else None
            total += read / 2
        point = point + total
    return point


def test_feedback_lets_top_k_reach_the_minimum_where_alone_it_cannot():
    # The clients disagree about x more than y ever matters, so alone y is never sent. With feedback y waits in the
    # residual until it is longer than an update of x, 0.1: it then moves by some 0.1 at most.
    x, y = descend(feedback=False).tolist()
    assert y == 1 and abs(x) < 1e-6
    assert descend(feedback=True).abs().max() < 0.2


def slide(feedback: bool) -> Tensor:
    """Signs on f = |x + y| / 2 + |x - y| from (1, 1): the second counterexample of Karimireddy et al. 2019."""
    point, residual = numbers(1, 1), None
    for t in range(1, 2001):
        along = 0.5 if point.sum() >= 0 else -0.5
        across = 1.0 if point[0] >= point[1] else -1.0
        gradient = numbers(along + across, along - across)
        _, read, left = with_feedback(Sign(), -0.1 / math.sqrt(t) * gradient, residual, rng())
        residual = left if feedback else None
        point = point + read
    return point


def test_feedback_lets_signs_reach_the_minimum_where_alone_they_cannot():
    # The gradient is (1.5, -0.5) or (-0.5, 1.5): its signs always differ, so that x + y stays 2 and f at least 1.
    assert slide(feedback=False).sum().item() == pytest.approx(2, abs=1e-9)
    assert slide(feedback=True).abs().max() < 0.05


def test_what_qsgd_leaves_over_grows_without_end_unless_its_variance_is_below_one():
    left = {}
    for levels in (1, 8, 23):  # s^2 is 1, 64 and 529; one bucket of 512
        residual, vector = None, noise(512)
        for visit in range(60):
            _, _, residual = with_feedback(QSGD(levels), vector, residual, rng(visit))
        left[levels] = (residual.norm() / vector.norm()).item()
    assert left[1] > 1e5 and left[8] > 100 and left[23] < 1


# What is refused


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@EVERY
def test_what_is_not_finite_is_refused(codec, bad):
    vector = noise(20)
    vector[7] = bad
    with pytest.raises(RunError, match=f"codec {codec.kind}, entry 7.*\n.*seen: {bad}"):
        codec.encode(vector, rng())


@pytest.mark.parametrize(
    ("codec", "fits", "too_large"),
    [
        # The next float16 after 65504 would be 65536: 65520 is half way, and even is up.
        (Float16(), 65519.9, 65520.0),
        # The next bfloat16 after (2 - 2^-7) 2^127 would be 2^128; half way is (2 - 2^-8) 2^127.
        (BFloat16(), (2 - 2**-8) * 2.0**127 * (1 - 2**-20), (2 - 2**-8) * 2.0**127),
        (QSGD(), 3e38, 4e38),
        (QSGD(), 3e38, 1e300),
        (TopK(1.0), 3e38, 4e38),
        (Sign(), 1e38, 1e39),  # the mean of it and 0
        (Sign(), 1e38, 1.7e308),
    ],
    ids=str,
)
def test_numbers_too_large_for_the_wire_are_refused_not_capped(codec, fits, too_large):
    assert back(codec, numbers(0, fits)).isfinite().all()
    with pytest.raises(RunError, match=f"codec {codec.kind}: .* is too large to be sent"):
        codec.encode(numbers(0, too_large), rng())


@EVERY
def test_a_payload_of_another_length_is_refused(codec):
    vector = noise(21)
    payload = codec.encode(vector, rng())
    for wrong in (payload[:-1], payload + b"\x00", b""):
        with pytest.raises(RunError, match=rf"codec {codec.kind}(.|\n)*{len(wrong)} bytes where 21 entries take"):
            codec.decode(wrong, 21, vector)


def test_a_float32_payload_is_not_read_as_float64():
    with pytest.raises(RunError, match="8 bytes where 2 entries take 16"):
        Plain().decode(Plain().encode(torch.ones(2), rng()), 2, numbers(0))


@pytest.mark.parametrize(
    ("codec", "size", "payload", "seen"),
    [
        (QSGD(levels=1), 4, struct.pack("<f", 1) + b"\xff", "level 2 of 1"),
        (TopK(0.5), 4, struct.pack("<2I2f", 1, 4, 1, 1), "places that do not rise within 4"),
        (TopK(0.5), 4, struct.pack("<2I2f", 1, 1, 1, 1), "places that do not rise within 4"),
    ],
    ids=str,
)
def test_what_no_encoder_writes_is_refused(codec, size, payload, seen):
    with pytest.raises(RunError, match=seen):
        codec.decode(payload, size, numbers(0))


# Settings


def test_codecs_are_written_short_or_as_tables():
    assert Communication() == Communication(Plain(), Plain(), True)
    assert Communication(up="qsgd:63", down="bfloat16") == Communication(QSGD(63), BFloat16())
    assert Communication(up="top-k:1").up == TopK(1.0)
    assert Communication(up={"kind": "qsgd", "bucket": 64}).up == QSGD(bucket=64)
    for kind, cls in CODECS.items():
        assert type(Communication(up=kind).up) is cls and cls().kind == kind
    for kind, cls in CASTS.items():
        assert type(Communication(down=kind).down) is cls


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"up": "top-k:0"}, "greater than 0"),
        ({"up": "top-k:1.5"}, "less than or equal to 1"),
        ({"up": "qsgd:0"}, "greater than or equal to 1"),
        ({"up": "qsgd:32768"}, "less than or equal to 32767"),
        ({"up": "topk"}, "did you mean 'top-k'"),
        ({"up": "sign:2"}, "takes no parameter"),
        ({"down": "sign"}, "'sign' is not a known codec for the model"),
        ({"down": TopK()}, "down"),
    ],
    ids=str,
)
def test_codecs_that_cannot_be_are_refused(wrong, told):
    with pytest.raises(ConfigurationError, match=told):
        Communication(**wrong)


def test_feedback_with_a_qsgd_that_loses_more_than_it_sends_is_refused():
    with pytest.raises(ConfigurationError, match="levels to 23 or more"):  # sqrt(512) = 22.6
        Communication(up="qsgd:22")
    with pytest.raises(ConfigurationError, match="levels to 9 or more"):
        Communication(up=QSGD(8, bucket=64))
    assert Communication(up="qsgd:23").remembers
    assert Communication(up=QSGD(9, bucket=64)).remembers
    assert not Communication(up="qsgd:1", error_feedback=False).remembers


def test_clients_remember_only_where_something_is_lost():
    assert not Communication().remembers
    assert Communication(up="float16").remembers
    assert not Communication(up="sign", error_feedback=False).remembers
