"""Convolutions that give one column, on a CPU in bfloat16."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ssl_lightning.encoders.audio_conv import AudioConvEncoder
from ssl_lightning.nn.convolution import narrow_in_float32
from ssl_lightning.types import View


def stir() -> None:
    """Leaves NaN in the memory that is free: what a kernel that reads too far finds."""
    for size in (500, 1000, 5000, 20_000, 100_000, 400_000):
        torch.full((size,), torch.nan)


CASES = [
    (lambda: nn.Conv2d(64, 64, 3, 2, padding=1), (8, 64, 16, 2)),
    (lambda: nn.Conv2d(1, 32, 3, 2, padding=1, bias=False), (8, 1, 64, 1)),
    (lambda: nn.Conv2d(16, 32, 4, 4), (8, 16, 8, 6)),
    (lambda: nn.Conv2d(16, 32, 5, 3, padding=2, padding_mode="reflect"), (8, 16, 16, 3)),
    (lambda: nn.Conv1d(16, 32, 7, 2, padding=3), (8, 16, 1)),
    (lambda: nn.Conv3d(4, 8, 3, 2, padding=1), (2, 4, 4, 4, 2)),
]


@pytest.mark.parametrize(("build", "shape"), CASES)
@pytest.mark.parametrize("mixed", [True, False], ids=["bf16-mixed", "bf16-true"])
def test_one_column_is_computed_in_float32(build: Callable[[], nn.Module], shape: tuple[int, ...], mixed: bool) -> None:
    torch.manual_seed(0)
    reference = build()
    module = copy.deepcopy(reference)
    if not mixed:
        module, reference = module.bfloat16(), reference.bfloat16().float()
    module = pickle.loads(pickle.dumps(narrow_in_float32(narrow_in_float32(module))))
    x = torch.randn(shape)
    x = x if mixed else x.bfloat16().float()
    for _ in range(5):
        x1, x2 = x.clone().requires_grad_(), (x if mixed else x.bfloat16()).clone().requires_grad_()
        module.zero_grad()
        reference.zero_grad()
        stir()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            out = module(x2)
        assert out.dtype == torch.bfloat16
        expected = reference(x1)
        assert expected.shape[-1] == 1 and torch.equal(out, expected.bfloat16())
        upstream = torch.randn(out.shape).bfloat16()
        out.backward(upstream)
        expected.backward(upstream.float())
        tolerance = 1e-5 if mixed else 1e-2
        for got, want in zip([x2, *module.parameters()], [x1, *reference.parameters()], strict=True):
            assert got.grad is not None and want.grad is not None
            torch.testing.assert_close(got.grad.float(), want.grad, rtol=tolerance, atol=1e-3)


def test_wider_outputs_and_other_modules_are_left_alone() -> None:
    plain = nn.Sequential(nn.Conv2d(4, 4, 3, 2, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
    hooked = narrow_in_float32(copy.deepcopy(plain))
    assert [len(each._forward_hooks) for each in hooked.children()] == [1, 0, 0]
    assert hooked.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(2, 4, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(hooked(x), plain(x))
    assert torch.equal(hooked(x), plain(x))


def features(encoder: AudioConvEncoder, x: Tensor) -> Tensor:
    stir()
    with torch.autocast("cpu", torch.bfloat16):
        return encoder(View(x)).float()


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_short_sounds_have_the_features_of_float32(frames: int) -> None:
    torch.manual_seed(frames)
    encoder, x = AudioConvEncoder(width=8), torch.randn(8, 1, 64, frames)
    narrow_in_float32(encoder)
    for _ in range(5):
        x_grad = x.clone().requires_grad_()
        mixed, exact = features(encoder, x_grad), encoder(View(x))
        assert (mixed - exact).abs().max() < 0.1 * exact.abs().max()
        mixed.square().sum().backward()
        assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in encoder.parameters())
