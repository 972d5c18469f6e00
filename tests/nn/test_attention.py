"""Attention sees what it may and nothing else, whichever kernel computes it."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.nn.attention import varlen
from torch.testing import assert_close

from ssl_lightning.nn import attention as kernels
from ssl_lightning.nn.attention import Lengths, Mask, attention, attention_mask, scope_of
from ssl_lightning.nn.transformer import Transformer

SEGMENT = torch.tensor([[1, 1, 1, 2, 2, 0, 0], [3, 5, 5, 5, 5, 5, 0], [6, 6, 6, 6, 6, 6, 6], [0, 7, 0, 8, 7, 8, 8]])
"""Rows that are shared and full ones, a sample of which there is nothing (4), and, in the last row,
samples whose tokens are not adjacent."""


@pytest.mark.parametrize("places", [5, 65, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_is_torchs_whichever_way_it_is_computed(places: int, dtype: torch.dtype) -> None:
    q, k, v = torch.randn(3, 2, 3, places, 8).to(dtype)
    assert_close(attention(q, k, v), F.scaled_dot_product_attention(q, k, v), rtol=2e-2, atol=2e-2)
    if dtype == torch.float32:
        assert_close(attention(q, k, v), F.scaled_dot_product_attention(q, k, v), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("plain", [True, False])
def test_a_mask_keeps_samples_apart_whichever_way_attention_is_computed(
    plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against softmax over the tokens that are seen alone, one token at a time; padding is not a
    number nowhere."""
    monkeypatch.setattr(kernels, "plain_is_faster", lambda *_: plain)
    segment = torch.tensor([[1, 1, 1, 2, 2, 0, 0], [3, 4, 4, 4, 4, 4, 0]])
    q, k, v = torch.randn(3, 2, 2, 7, 4, dtype=torch.float64)
    for causal in (False, True):
        result = attention(q, k, v, attention_mask(segment, torch.empty(2, 7, 8, dtype=torch.float64), causal))
        for b, h, i in product(range(2), range(2), range(7)):
            seen = [j for j in range(7) if segment[b, j] == segment[b, i] and (j <= i or not causal)]
            weights = (k[b, h, seen] @ q[b, h, i] / 2).softmax(dim=0)
            assert_close(result[b, h, i], weights @ v[b, h, seen])
    assert attention_mask(None, q) is None


# The kernel for samples of varying length, which CPUs do not have.


def one_by_one(
    q: Tensor, k: Tensor, v: Tensor, bounds: Tensor, other: Tensor, longest: int, *lengths: int, window_size: Any
) -> Tensor:
    """`torch.nn.attention.varlen.varlen_attn`: [T, heads, d] each. What no sample holds is not a
    number, as memory that nobody wrote may be."""
    assert bounds is other and bounds.dtype == torch.int32 and bounds[0] == 0 and (bounds.diff() <= longest).all()
    out = torch.full_like(q, torch.nan)
    for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        if end > start:
            parts = (each[start:end].transpose(0, 1) for each in (q, k, v))
            out[start:end] = F.scaled_dot_product_attention(*parts, is_causal=window_size == (-1, 0)).transpose(0, 1)
    return out


@pytest.fixture
def on_any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen, "varlen_attn", one_by_one)
    monkeypatch.setattr(kernels, "takes_lengths", lambda *_: True)


@pytest.mark.parametrize(("causal", "rotary"), product((False, True), repeat=2))
def test_samples_of_varying_length_are_as_under_the_mask(causal: bool, rotary: bool, on_any_device: None) -> None:
    """Every token, padding too, after every block, and the gradient of every parameter."""
    torch.manual_seed(0)
    trunk = Transformer(16, 3, 2, causal=causal, rotary=rotary, dropout=0.1).double().eval()
    x = torch.randn(4, 7, 16, dtype=torch.float64, requires_grad=True)
    position = torch.randint(0, 40, (4, 7))
    with pytest.MonkeyPatch.context() as without:
        without.setattr(kernels, "takes_lengths", lambda *_: False)
        expected = list(trunk.states(x, SEGMENT, position, 8))
    states = list(trunk.states(x, SEGMENT, position, 8))
    for one, other in zip(states, expected, strict=True):
        assert_close(one, other, rtol=1e-10, atol=1e-12)
    inputs = [x, *trunk.parameters()]
    weight = torch.randn(4, 7, 16, dtype=torch.float64)
    for one, other in zip(
        *(torch.autograd.grad((each[-1] * weight).sum(), inputs) for each in (states, expected)), strict=True
    ):
        assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_the_kernel_is_taken_where_it_computes_the_same(on_any_device: None) -> None:
    """Not where weights are dropped, not where some tokens are no queries, and not for whole rows,
    for which others are faster."""
    x = torch.randn(4, 7, 16)
    assert isinstance(scope_of(x, 8, SEGMENT, 8), Lengths)
    assert isinstance(scope_of(x, 8, SEGMENT, 8, plain=False), Mask) and isinstance(scope_of(x, 8), Mask)
    trunk = Transformer(16, 2, 2, dropout=0.5)
    assert trunk(x, SEGMENT, None, 8).isfinite().all()
    assert not torch.equal(trunk(x, SEGMENT, None, 8), trunk(x, SEGMENT, None, 8)), "weights are dropped in training"
    assert_close(trunk.eval()(x, SEGMENT, None, 8, first=2), trunk(x, SEGMENT, None, 8)[:, 2:])


@pytest.mark.parametrize("causal", [False, True])
def test_the_host_waits_for_no_device(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a pretended accelerator, where torch's own kernel has shapes and no values. It is called
    "lazy": the backward pass of a fake "cuda" asks the driver for its stream."""
    monkeypatch.setattr(kernels, "takes_lengths", lambda *_: True)
    with FakeTensorMode(), torch.device("lazy"):
        trunk = Transformer(64, 2, 2, rotary=True, causal=causal)
        x, segment = torch.empty(4, 7, 64, requires_grad=True), torch.empty(4, 7, dtype=torch.int64)
        mixed = trunk(x, segment, segment, 8)
        mixed.sum().backward()
        assert mixed.shape == x.shape and x.grad is not None
        assert mixed.device.type == x.grad.device.type == "lazy"


def test_no_other_device_and_no_other_dtype_gets_the_kernel() -> None:
    assert not kernels.takes_lengths(torch.empty(2, 3, 64, dtype=torch.bfloat16), 32)
    with FakeTensorMode():
        assert not kernels.takes_lengths(torch.empty(2, 3, 64, device="cuda"), 32)


@pytest.mark.parametrize("tokens", [5, 65, 300])
def test_whole_rows_need_no_causal_mask_and_give_bit_for_bit_the_same(tokens: int) -> None:
    """Values and gradients on a CPU, where torch's kernel is the faster way; in short rows it is
    not, and with dropout there is none."""
    torch.manual_seed(0)
    trunk = Transformer(16, 2, 2, causal=True)
    x = torch.randn(2, tokens, 16)
    scope = scope_of(x, 8, causal=True)
    assert isinstance(scope, Mask) and (scope.mask is None) == (tokens > 64)
    dropped = scope_of(x, 8, causal=True, plain=False)
    assert isinstance(dropped, Mask) and dropped.mask is not None
    result = trunk(x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ssl_lightning.nn.transformer.scope_of", lambda *_: Mask(attention_mask(None, x, causal=True)))
        expected = trunk(x)
    assert torch.equal(result, expected)
    for one, other in zip(
        *(torch.autograd.grad(each.square().sum(), list(trunk.parameters())) for each in (result, expected)),
        strict=True,
    ):
        assert torch.equal(one, other)


@pytest.mark.gpu
@pytest.mark.parametrize(("causal", "head_dim"), [(False, 64), (True, 64), (False, 32)])
@pytest.mark.parametrize("tokens", [7, 100, 512])
def test_on_a_gpu_the_kernel_gives_what_the_mask_gives(causal: bool, head_dim: int, tokens: int) -> None:
    """In bfloat16, to its rounding: values and gradients, against the mask in float32; rows that
    are full, samples of which there is nothing, and padding."""
    torch.manual_seed(0)
    trunk = Transformer(4 * head_dim, 2, 4, causal=causal, rotary=True).cuda()
    lengths = torch.rand(4, 3).cumsum(1)  # three samples in each row; those of the last row fill it
    ends = (lengths / lengths[:, -1:] * torch.tensor([[0.6], [0.9], [0.3], [1.0]]) * tokens).long()
    at = torch.arange(tokens)
    number = (at >= ends[:, :, None]).sum(1)  # [4, tokens], 3 behind the last sample
    segment = torch.where(number < 3, 1 + 3 * torch.arange(4)[:, None] + number, 0).cuda()
    x = torch.randn(4, tokens, 4 * head_dim, device="cuda")
    position = at.expand(4, tokens).cuda()
    expected = trunk(x, segment, position, 12)
    with torch.autocast("cuda", torch.bfloat16):
        assert isinstance(scope_of(x, head_dim, segment, 12), Lengths)
        result = trunk(x, segment, position, 12)
    assert (result - expected).norm() < 0.02 * expected.norm()
    one, other = (torch.autograd.grad(each.square().sum(), list(trunk.parameters())) for each in (result, expected))
    for mine, reference in zip(one, other, strict=True):
        assert mine.isfinite().all() and (mine - reference).norm() < 0.05 * reference.norm() + 1e-3


@pytest.mark.gpu
def test_on_a_gpu_causal_rows_need_no_mask() -> None:
    torch.manual_seed(0)
    trunk, x = Transformer(64, 2, 2, causal=True), torch.randn(3, 50, 64)
    expected = trunk(x)
    scope = scope_of(x.cuda(), 32, causal=True)
    assert isinstance(scope, Mask) and scope.mask is None
    assert_close(trunk.cuda()(x.cuda()).cpu(), expected, rtol=1e-5, atol=1e-5)
