"""wav2vec 2.0's contrastive loss against its formula, place by place."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.testing import assert_close

from ssl_lightning.nn.losses.contrastive import quantized_nce

S, M, K, D, V = 3, 7, 5, 6, 3
HIDDEN = [7, 4, 2]


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Few codes, so that many others have the same; one sample where all have."""
    generator = torch.Generator().manual_seed(0)
    c, q = (torch.randn(S, M, D, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for _ in range(2))
    code = torch.randint(0, V, (S, M, 2), generator=generator)
    code[2] = 0
    real = torch.arange(M) < torch.tensor(HIDDEN)[:, None]
    other = (torch.rand(S, M, K, generator=generator) * torch.tensor(HIDDEN)[:, None, None]).long()
    return c, q, code, other, real


def written_out(
    c: Tensor, q: Tensor, code: Tensor, other: Tensor, real: Tensor, temperature: float
) -> tuple[Tensor, int]:
    """-log exp(sim(c, q) / kappa) / sum exp(sim(c, q~) / kappa) over a place's own target and the
    others that are not made of the same entries (arXiv 2006.11477, Equation 3)."""
    total, correct = c.new_zeros(()), 0
    for s in range(S):
        for m in range(HIDDEN[s]):
            targets = [q[s, m]] + [q[s, k] for k in other[s, m].tolist() if code[s, k].tolist() != code[s, m].tolist()]
            norm = (c[s, m] @ c[s, m]).sqrt()
            similar = torch.stack([c[s, m] @ t / (norm * (t @ t).sqrt()) for t in targets]) / temperature
            total = total - torch.log(similar[0].exp() / similar.exp().sum())
            correct += int(len(targets) > 1 and similar[0] > similar[1:].max())
    return total, correct


def test_value_and_gradient_are_the_formulas() -> None:
    """Others with the same code do not count; places that are not hidden have no gradient."""
    c, q, code, other, real = inputs()
    nll, correct = quantized_nce(c, q, code, other, real, 0.1)
    expected, right = written_out(c, q, code, other, real, 0.1)
    assert_close(nll, expected, rtol=1e-10, atol=0)
    assert correct == right and 0 < right < sum(HIDDEN), "and a place with nothing to be told from is no success"
    for ours, theirs in zip(torch.autograd.grad(nll, (c, q)), torch.autograd.grad(expected, (c, q)), strict=True):
        assert_close(ours, theirs, rtol=1e-8, atol=1e-10)
        assert not ours[~real].any() and ours[:2][real[:2]].any(dim=1).all(), "both sides learn"
        assert not ours[2].any(), "all of one code: nothing to be told apart"


def test_half_precision_is_compared_in_float32() -> None:
    c, q, code, other, real = inputs(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        nll, _ = quantized_nce(c, q, code, other, real, 0.1)
    assert nll.dtype == torch.float32
    assert_close(nll.double(), written_out(c.double(), q.double(), code, other, real, 0.1)[0], rtol=1e-5, atol=0)
    nll.backward()
    assert c.grad is not None and c.grad.dtype == torch.bfloat16
