"""Prototypes compare by cosine, and the swapped prediction is the paper's and lightly's loss."""

from __future__ import annotations

import pytest
import torch
from lightly.loss import SwaVLoss
from torch import Tensor
from torch.testing import assert_close

from ssl_lightning.nn.heads import Prototypes
from ssl_lightning.nn.losses.clustering import swapped_prediction
from ssl_lightning.nn.sinkhorn import sinkhorn


def test_scores_are_cosines_with_directions_of_length_1() -> None:
    torch.manual_seed(0)
    prototypes, z = Prototypes(5, 7), 4 * torch.randn(3, 5)
    with torch.no_grad():
        expected = torch.stack([torch.stack([a @ c / (a.norm() * c.norm()) for c in prototypes.weight]) for a in z])
        assert_close(prototypes(z), expected)
        prototypes.weight.mul_(torch.rand(7, 1) + 0.5)
        prototypes.normalise()
        assert_close(prototypes.weight.norm(dim=1), torch.ones(7))
        assert_close(prototypes(z), expected)


def test_scores_are_float32_under_autocast() -> None:
    """They are divided by 0.05: bfloat16's steps of 1/256 would be an error of 8 %."""
    prototypes, z = Prototypes(5, 7), torch.randn(3, 5).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        scores = prototypes(z)
    assert scores.dtype == torch.float32 and torch.equal(scores, prototypes(z.float()))


@pytest.mark.parametrize("number", [1, 0, -3])
def test_fewer_than_two_prototypes_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match=f"prototypes={number}: at least 2"):
        Prototypes(4, number)


def views(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(count)
    return [torch.rand(6, 5, generator=generator).mul(2).sub(1).requires_grad_() for _ in range(count)]


def equation_2(scores: list[Tensor], codes: list[Tensor], temperature: float) -> Tensor:
    """arXiv 2006.09882, Equations 1, 2 and 6, one sample, one pair and one prototype at a time, in
    float64."""
    terms = []
    for i, code in enumerate(codes):
        for v, score in enumerate(scores):
            if v == i:
                continue
            for n in range(len(code)):
                e = [(s.double() / temperature).exp() for s in score[n]]
                terms.append(-sum(q.double() * torch.log(x / sum(e)) for q, x in zip(code[n], e, strict=True)))
    return torch.stack(terms).mean()


@pytest.mark.parametrize("count", [2, 5], ids=["full views", "with local views"])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_value_and_gradient_are_the_papers_and_lightlys(count: int, temperature: float) -> None:
    scores = views(count)
    codes = [sinkhorn(s, 0.05, 3) for s in scores[:2]]
    loss = swapped_prediction(scores, codes, temperature)
    slow = equation_2(scores, codes, temperature)
    theirs = SwaVLoss(temperature)(scores[:2], scores[2:])[0]
    assert_close(loss, slow.float(), rtol=1e-5, atol=0)
    assert_close(loss, theirs, rtol=1e-5, atol=0)
    gradients = torch.autograd.grad(loss, scores)
    assert_close(gradients, torch.autograd.grad(slow, scores), rtol=1e-4, atol=1e-6)
    assert_close(gradients, torch.autograd.grad(theirs, scores), rtol=1e-4, atol=1e-6)


def test_bf16_scores_are_compared_in_float32() -> None:
    scores = [s.detach().bfloat16() for s in views(4)]
    codes = [sinkhorn(s, 0.05, 3) for s in scores[:2]]
    with torch.autocast("cpu", torch.bfloat16):
        loss = swapped_prediction(scores, codes, 0.1)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, swapped_prediction([s.float() for s in scores], codes, 0.1))
