"""Sinkhorn-Knopp gives the codes of the paper's Algorithm 1 and of lightly, and the right
ones where those overflow or underflow."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from lightly.loss.swav_loss import sinkhorn as sinkhorn_of_lightly
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from ssl_lightning.nn.sinkhorn import sinkhorn


def similarities(samples: int, prototypes: int, dim: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(samples)
    z, c = (
        F.normalize(torch.randn(n, dim, generator=generator, dtype=torch.float64), dim=1) for n in (samples, prototypes)
    )
    return z @ c.T


def algorithm_1(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """arXiv 2006.09882, Appendix A.1, number by number: rows of Q are prototypes, columns
    samples."""
    samples, prototypes = scores.shape
    q = [[float((scores[b, k] / epsilon).exp()) for b in range(samples)] for k in range(prototypes)]
    whole = sum(map(sum, q))
    q = [[x / whole for x in row] for row in q]
    for _ in range(iterations):
        for k in range(prototypes):
            row = sum(q[k])
            q[k] = [x / row / prototypes for x in q[k]]
        for b in range(samples):
            column = sum(q[k][b] for k in range(prototypes))
            for k in range(prototypes):
                q[k][b] = q[k][b] / column / samples
    return torch.tensor([[q[k][b] * samples for k in range(prototypes)] for b in range(samples)])


@pytest.mark.parametrize(
    ("samples", "prototypes"), [(12, 5), (5, 12), (1, 4)], ids=["more samples", "more prototypes", "one sample"]
)
@pytest.mark.parametrize(("epsilon", "iterations"), [(0.05, 3), (0.05, 1), (0.5, 2), (0.02, 5)])
def test_codes_are_the_papers_and_those_of_lightly(
    samples: int, prototypes: int, epsilon: float, iterations: int
) -> None:
    scores = similarities(samples, prototypes)
    codes = sinkhorn(scores, epsilon, iterations)
    assert_close(codes, algorithm_1(scores, epsilon, iterations), rtol=1e-5, atol=2e-6)
    assert_close(codes, sinkhorn_of_lightly(scores, iterations, epsilon).float(), rtol=1e-5, atol=2e-6)
    assert_close(codes.sum(dim=1), torch.ones(samples))


def doubles(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Equations 3 to 5 with logarithms, in float64."""
    log_codes = scores.double() / epsilon
    for _ in range(iterations):
        log_codes = log_codes - log_codes.logsumexp(dim=0)
        log_codes = log_codes - log_codes.logsumexp(dim=1, keepdim=True)
    return log_codes.exp().float()


def test_logarithms_change_nothing() -> None:
    """The reference of the tests below, where the algorithm as it is written does not underflow."""
    scores = similarities(12, 5)
    assert_close(doubles(scores, 0.05, 3), algorithm_1(scores, 0.05, 3), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("epsilon", [0.05, 0.02, 0.011, 0.01, 0.005, 0.003])
@pytest.mark.parametrize("kind", ["cosines", "unbounded", "nobody's", "all far"])
def test_small_epsilons_and_scores_without_bounds(kind: str, epsilon: float) -> None:
    """Prototypes that no sample is near to are shared out too: by weights that float32 does not
    hold."""
    generator = torch.Generator().manual_seed(0)
    scores = {
        "cosines": similarities(64, 40),
        "unbounded": 10 * torch.randn(64, 40, generator=generator),
        "nobody's": similarities(64, 40) - 1.5 * (torch.arange(40) % 2),
        "all far": similarities(64, 40, dim=2) - 1e3,
    }[kind].float()  # fmt: skip
    codes = sinkhorn(scores, epsilon, 3)
    assert_close(codes, doubles(scores, epsilon, 3), rtol=0, atol=2e-3 if kind == "unbounded" else 1e-4)
    assert_close(codes.sum(dim=1), torch.ones(64))
    assert_close(torch.cat(in_processes(scores.split([40, 24]), epsilon)), codes, rtol=1e-3, atol=2e-5)


def in_processes(parts: Sequence[Tensor], epsilon: float) -> list[Tensor]:
    """The codes of samples that are shared out among processes, here threads."""
    together, rows = Barrier(len(parts)), [torch.empty(0)] * len(parts)

    def process(number: int) -> Tensor:
        def gather(row: Tensor) -> Tensor:
            rows[number] = row
            together.wait()
            everyone = torch.cat(rows)
            together.wait()
            return everyone

        return sinkhorn(parts[number], epsilon, 3, gather)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(process, range(len(parts))))


def test_in_the_limit_each_prototype_has_as_many_samples() -> None:
    codes = sinkhorn(similarities(24, 6), 0.2, 300)
    assert_close(codes.sum(dim=0), torch.full((6,), 24 / 6), rtol=1e-4, atol=0)


@pytest.mark.parametrize("epsilon", [0.05, 1e-3, 1e-6])
@pytest.mark.parametrize(
    "scores",
    [
        similarities(16, 6),
        similarities(3, 40),
        similarities(1, 7),
        similarities(16, 6).bfloat16(),
        -torch.ones(8, 4),
        torch.ones(8, 4),
        torch.eye(8)[:, :4] * 2 - 1,
        similarities(16, 6) - 0.9,
        1e4 * similarities(16, 6),
        -1e4 * torch.ones(4, 4),
    ],
    ids=[
        "cosines",
        "more prototypes",
        "one sample",
        "bf16",
        "all opposite",
        "all equal",
        "one each",
        "far",
        "no cosines",
        "far beyond",
    ],
)
def test_each_sample_has_a_distribution_whatever_the_scores(scores: Tensor, epsilon: float) -> None:
    codes = sinkhorn(scores, epsilon, 3)
    assert codes.dtype == torch.float32 and bool((codes >= 0).all())
    assert_close(codes.sum(dim=1), torch.ones(len(scores)))


def test_codes_of_bf16_scores_are_made_in_float32() -> None:
    rough = similarities(16, 6).bfloat16()
    assert_close(sinkhorn(rough, 0.05, 3), sinkhorn(rough.double(), 0.05, 3))


def test_codes_have_no_gradient_and_leave_the_scores_alone() -> None:
    scores = similarities(6, 3).float().requires_grad_()
    before = scores.detach().clone()
    assert not sinkhorn(scores, 0.05, 3).requires_grad
    assert torch.equal(scores, before)


@pytest.mark.parametrize(("epsilon", "iterations"), [(0.0, 3), (-0.05, 3), (float("nan"), 3), (0.05, 0)])
def test_mistakes_are_named(epsilon: float, iterations: int) -> None:
    wrong = r"iterations=0\) must be at least 1" if iterations < 1 else rf"epsilon={epsilon}\) must be above 0"
    with pytest.raises(ValueError, match=rf"sinkhorn\({wrong}"):
        sinkhorn(torch.zeros(2, 2), epsilon, iterations)
