"""The numbers are uniform, independent, and a pure function of what they are for."""

from __future__ import annotations

import pytest
import torch

from ssl_lightning.augment.random import fold, mix, normal, permutation, sample_keys, shuffled, uniform

COUNT = 50_000
GOLDEN_UNIFORM = [0.6384553909301758, 0.5185530185699463, 0.6959061026573181]
GOLDEN_NORMAL = [0.354333, 0.046522, 0.512662]
GOLDEN_ORDER = [2, 7, 1, 5, 0, 6, 3, 4]
GOLDEN_SHUFFLED = [55582, 46370, 56354, 42607]


@pytest.fixture(scope="module")
def keys() -> torch.Tensor:
    return sample_keys(0, 0, torch.arange(COUNT))


def unsigned(key: torch.Tensor) -> list[int]:
    return [value % 2**64 for value in key.tolist()]


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def test_mix_is_the_published_splitmix64() -> None:
    """The generator's first output from seed 0, and from 1234567, as in the reference
    implementations' test vectors."""
    assert mix(0) == 0xE220A8397B1DCDAF
    assert mix(1234567) == 6457827717110365317


def test_golden_values_do_not_change() -> None:
    assert mix(1, 2, 3) == 15020427595393229491
    assert sample_keys(3, 1, torch.arange(3)).tolist() == [
        6153317894576023040,
        2931004567720371905,
        -5695255825332753864,
    ]
    assert uniform(torch.tensor([7]), 3)[0].tolist() == pytest.approx(GOLDEN_UNIFORM, abs=0)
    assert normal(torch.tensor([7]), 3)[0].tolist() == pytest.approx(GOLDEN_NORMAL, abs=1e-5)
    assert permutation(0, 0, 8).tolist() == GOLDEN_ORDER


@pytest.mark.parametrize("seed", [0, 1, -5, 2**63, 2**64 - 1])
def test_tensors_and_integers_give_one_hash(seed: int) -> None:
    index = torch.tensor([0, 1, 2**40, 2**63 - 1])
    assert unsigned(sample_keys(seed, 4, index)) == [mix(seed, 4, i) for i in index.tolist()]
    passes = torch.tensor([4, 0, 7, 2**35])
    assert unsigned(sample_keys(seed, passes, index)) == [
        mix(seed, p, i) for p, i in zip(passes.tolist(), index.tolist(), strict=True)
    ]
    assert unsigned(fold(sample_keys(seed, 4, index), 2, 2**32 - 1)) == [
        mix(seed, 4, i, 2, 2**32 - 1) for i in index.tolist()
    ]


def test_uniform_numbers_fill_their_range_evenly(keys: torch.Tensor) -> None:
    u = uniform(keys, 4)
    assert u.dtype == torch.float32 and u.min() >= 0 and u.max() < 1
    for column in u.unbind(1):
        counts = torch.histc(column, 100, 0, 1)
        chi_squared = float(((counts - COUNT / 100) ** 2 / (COUNT / 100)).sum())
        assert 50 < chi_squared < 165  # 99 degrees of freedom: outside with probability 3e-5
    moved = uniform(keys, 2, -3.0, 5.0)
    assert torch.allclose(moved, u[:, :2] * 8 - 3, atol=1e-5)


def test_normal_numbers_have_the_moments_of_a_normal(keys: torch.Tensor) -> None:
    z = normal(keys, 4).double()
    assert z.isfinite().all()
    for power, moment, tolerance in [(1, 0, 0.01), (2, 1, 0.015), (3, 0, 0.03), (4, 3, 0.1)]:
        assert float((z**power).mean()) == pytest.approx(moment, abs=tolerance)


def test_the_extreme_draw_is_finite() -> None:
    key = torch.tensor([0x9E3779B97F4A7C15 - 2**64])  # its first 64 bits are all zero
    assert uniform(key, 1).item() == 0
    assert normal(key, 1).item() == pytest.approx(-5.294, abs=0.01)


def test_neighbouring_keys_folds_and_draws_are_independent(keys: torch.Tensor) -> None:
    u = uniform(keys, 3)
    others = {
        "next sample": u.roll(1, 0),
        "next draw": u.roll(1, 1),
        "next fold": uniform(fold(keys, 1), 3),
        "fold of zero": uniform(fold(keys, 0), 3),
        "next pass": uniform(sample_keys(0, 1, torch.arange(COUNT)), 3),
        "next seed": uniform(sample_keys(1, 0, torch.arange(COUNT)), 3),
        "the key beside it": uniform(keys + 1, 3),
    }
    for name, other in others.items():
        assert abs(correlation(u, other)) < 0.015, name
        assert not (u == other).all(), name
    assert abs(correlation(uniform(fold(keys, 1), 3), uniform(fold(keys, 2), 3))) < 0.015


def test_every_bit_of_a_key_moves_half_the_bits_of_its_fold(keys: torch.Tensor) -> None:
    few = keys[:500]
    for bit in range(64):
        flipped = few ^ (1 << bit if bit < 63 else -(2**63))
        moved = fold(few, 3) ^ fold(flipped, 3)
        share = sum(value.bit_count() for value in unsigned(moved)) / (64 * len(few))
        assert share == pytest.approx(0.5, abs=0.02)


def test_no_two_keys_collide_and_the_order_of_folds_matters(keys: torch.Tensor) -> None:
    views = torch.cat([fold(keys, view, operation) for view in range(3) for operation in range(3)])
    assert len(views.unique()) == 9 * COUNT


def test_a_sample_draws_the_same_in_any_batch_and_at_any_length(keys: torch.Tensor) -> None:
    some = torch.tensor([17, 3, 40_000])
    assert torch.equal(sample_keys(0, 0, some), keys[some])
    assert torch.equal(uniform(keys[some], 5), uniform(keys, 9)[some, :5])
    assert torch.equal(normal(keys[some], 5), normal(keys, 9)[some, :5])


def test_drawing_touches_no_global_generator(keys: torch.Tensor) -> None:
    before = torch.get_rng_state()
    uniform(keys, 2), normal(keys, 2), permutation(0, 0, 10)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_permutation_is_one_and_depends_on_seed_and_pass() -> None:
    order = permutation(5, 2, 10_000)
    assert torch.equal(order.sort().values, torch.arange(10_000))
    assert torch.equal(order, permutation(5, 2, 10_000))
    for other in (permutation(5, 3, 10_000), permutation(6, 2, 10_000)):
        assert int((order == other).sum()) < 10
    assert len(permutation(0, 0, 0)) == 0


def test_every_place_of_a_permutation_is_equally_likely() -> None:
    first = torch.stack([permutation(0, pass_, 5) for pass_ in range(2000)])
    for place in first.unbind(1):
        assert place.bincount(minlength=5).sub(400).abs().max() < 80  # 4.5 deviations


def whole(n: int, pass_: int = 0, seed: int = 0) -> torch.Tensor:
    return shuffled(seed, pass_, n, torch.arange(n))


@pytest.mark.parametrize("apart", [41, pytest.param(1, marks=pytest.mark.slow)])
def test_an_order_by_position_is_a_permutation_of_any_size(apart: int) -> None:
    for n in (*range(50), *range(50, 2001, apart)):
        assert torch.equal(whole(n, n).sort().values, torch.arange(n)), n
    for n in (65_537, 262_144, 262_145, 999_983):
        assert torch.equal(whole(n).sort().values, torch.arange(n)), n
    n = 2**61 - 1
    positions = torch.randint(0, n, (1000,), generator=torch.Generator().manual_seed(0))
    samples = shuffled(0, 0, n, positions)
    assert samples.min() >= 0 and samples.max() < n and len(samples.unique()) == 1000
    assert abs(float(samples.double().mean()) / n - 0.5) < 0.05


def test_an_order_by_position_is_a_pure_function_of_seed_pass_and_position() -> None:
    n = 70_001
    order, some = whole(n, 2, 5), torch.tensor([69_999, 0, 17])
    assert torch.equal(shuffled(5, 2, n, some), order[some])
    passes = torch.tensor([2, 3, 2])
    assert shuffled(5, passes, n, some).tolist() == [int(order[69_999]), int(whole(n, 3, 5)[0]), int(order[17])]
    for other in (whole(n, 3, 5), whole(n, 2, 6), order.roll(1), torch.arange(n)):
        assert int((order == other).sum()) < 10
    assert order[:4].tolist() == GOLDEN_SHUFFLED


@pytest.mark.parametrize("n", [200, 257, 300])
def test_every_sample_and_every_pair_of_neighbours_is_equally_likely_at_every_position(n: int) -> None:
    """Chi-squared over (position, sample), over pairs of neighbours and over their distance, of
    2,000 passes; each within 4 standard deviations of its expectation."""
    passes = 2000
    pass_ = torch.arange(passes).repeat_interleave(n)
    order = shuffled(1, pass_, n, torch.arange(n).repeat(passes)).view(passes, n)
    cells = torch.arange(n) * n + order
    pairs = order[:, :-1] * n + order[:, 1:]
    distances = (order[:, 1:] - order[:, :-1]) % n
    apart = ~torch.eye(n, dtype=torch.bool).flatten()
    for values, kept in (
        (cells, torch.ones(n * n, dtype=torch.bool)),
        (pairs, apart),
        (distances, torch.arange(n) > 0),
    ):
        counts = torch.bincount(values.flatten(), minlength=len(kept)).double()[kept]
        assert counts.sum() == values.numel()
        expected = values.numel() / len(counts)
        chi_squared = float((counts - expected).square().sum() / expected)
        freedom = len(counts) - 1
        assert abs(chi_squared - freedom) < 4 * (2 * freedom) ** 0.5


def test_a_long_order_has_no_trend() -> None:
    """Of 2^20 + 3 samples: neighbours, and those a row or a column of the rectangle apart, are
    uncorrelated, and each stretch of the pass holds samples from everywhere."""
    n = 2**20 + 3
    order = whole(n).double()
    for shift in (1, 2, 1024, 1025, 2**19):
        assert abs(correlation(order, order.roll(shift))) < 0.005
    assert abs(correlation(order, torch.arange(n).double())) < 0.005
    for stretch in order[: 2**20].view(64, -1):
        counts = torch.histc(stretch, 64, 0, n)
        assert float((counts - 256).square().sum() / 256) < 63 + 6 * 126**0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_what_a_cpu_draws(keys: torch.Tensor) -> None:
    assert torch.equal(sample_keys(3, 1, torch.arange(100, device="cuda")).cpu(), sample_keys(3, 1, torch.arange(100)))
    assert torch.equal(uniform(keys.cuda(), 4, -1, 2).cpu(), uniform(keys, 4, -1, 2))
    assert torch.allclose(normal(keys.cuda(), 4).cpu(), normal(keys, 4), atol=1e-5)
