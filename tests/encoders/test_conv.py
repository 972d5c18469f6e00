"""ConvEncoder: its cost, its shapes, and what its norm may see."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.plugins.rebuild import rebuild
from ssl_lightning.plugins.record import config_of
from ssl_lightning.types import View


def multiply_adds(encoder: nn.Module, view: View) -> int:
    """Multiply-adds of the convolutions: output places times weights."""
    counts = []
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda conv, _, out: counts.append(out[0, 0].numel() * conv.weight.numel()))
    encoder(view)
    return sum(counts)


def test_it_costs_15_million_multiply_adds_at_32x32() -> None:
    assert multiply_adds(ConvEncoder(), View(torch.randn(2, 3, 32, 32))) == pytest.approx(15e6, rel=0.1)


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize(
    ("channels", "width", "depth", "size", "dim"),
    [(3, 32, 4, 32, 256), (1, 32, 4, 8, 256), (2, 12, 1, 5, 12), (1, 5, 3, 28, 20)],
)
def test_features_have_the_length_that_dim_says(
    norm: str, channels: int, width: int, depth: int, size: int, dim: int
) -> None:
    encoder = ConvEncoder(channels=channels, width=width, depth=depth, norm=norm)
    features = encoder.eval()(View(torch.randn(2, channels, size, size)))
    assert encoder.dim == dim
    assert features.shape == (2, dim)


@pytest.mark.parametrize(("norm", "alone"), [("group", True), ("batch", False)])
def test_only_the_group_norm_sees_one_sample_at_a_time(norm: str, alone: bool) -> None:
    encoder = ConvEncoder(norm=norm).train()
    x = torch.randn(6, 3, 16, 16)
    assert torch.allclose(encoder(View(x))[:2], encoder(View(x[:2])), atol=1e-4) == alone


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 0}, "channels=0"),
        ({"width": 0}, "width=0"),
        ({"depth": -1}, "depth=-1"),
        ({"norm": "layer"}, "'layer'.*batch or group"),
    ],
)
def test_bad_values_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvEncoder(**arguments)


def test_images_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"takes 3 channels, got images with 1: set channels=1"):
        ConvEncoder()(View(torch.zeros(2, 1, 32, 32)))
    with pytest.raises(ValueError, match=r"at least 8x8 pixels, got 8x7"):
        ConvEncoder()(View(torch.zeros(2, 3, 8, 7)))
    with pytest.raises(ValueError, match=r"floats, got torch.uint8"):
        ConvEncoder()(View(torch.zeros(2, 3, 8, 8, dtype=torch.uint8)))


def test_a_rebuilt_encoder_has_the_same_weights_to_load() -> None:
    encoder = ConvEncoder(channels=1, width=8, depth=3, norm="group")
    again = rebuild(config_of(encoder))
    again.load_state_dict(encoder.state_dict())
    view = View(torch.randn(2, 1, 8, 8))
    assert torch.equal(again(view), encoder(view))


@pytest.mark.parametrize("channels", [1, 3])
def test_activations_are_channels_last(channels: int) -> None:
    encoder = ConvEncoder(channels=channels)
    assert encoder.stages[:2](torch.randn(2, channels, 16, 16)).is_contiguous(memory_format=torch.channels_last)
