"""The ResNets that other libraries build: any stem and width, and CPC's, which read patches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from ssl_lightning.encoders.base import Encoder
from ssl_lightning.encoders.patchwise import LayerNormResNet, PatchwiseEncoder
from ssl_lightning.encoders.resnet import ResNetEncoder
from ssl_lightning.plugins.rebuild import rebuild
from ssl_lightning.plugins.record import config_of
from ssl_lightning.types import View

ONES = [1, 1, 1, 1]


def images(side: int = 32, channels: int = 3) -> View:
    return View(torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(0)))


def encoders() -> list[Encoder]:
    torch.manual_seed(0)
    inner = LayerNormResNet(ONES, image_size=8)
    return [
        ResNetEncoder("basic", ONES, kernel=3, stride=1, padding=2, pool=False, activation=False).eval(),
        ResNetEncoder("basic", [2, 1, 1, 1], width=32).eval(),
        PatchwiseEncoder(inner, patch_size=8, step=4).eval(),
    ]


def test_a_stem_is_what_its_arguments_say() -> None:
    torch.manual_seed(0)
    model = ResNet(BasicBlock, ONES).eval()
    model.conv1 = nn.Conv2d(3, 64, 3, 1, 2, bias=False)
    model.relu, model.maxpool, model.fc = nn.Identity(), nn.Identity(), nn.Identity()
    for block in (model.layer1[0], model.layer2[0], model.layer3[0], model.layer4[0]):
        assert isinstance(block.relu, nn.ReLU)  # those of the blocks stay
    ours = encoders()[0]
    ours.model.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.allclose(ours(images()), model(images().x), atol=1e-5)


def test_patches_are_read_one_by_one() -> None:
    encoder = encoders()[2]
    x = images(16).x
    with torch.no_grad():
        each = [
            encoder.encoder(View(x[:, :, row : row + 8, column : column + 8]))
            for row in (0, 4, 8)
            for column in (0, 4, 8)
        ]
        assert torch.allclose(encoder(View(x)), torch.stack(each).mean(0), atol=1e-5)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_config_rebuilds_the_encoder_and_its_layers_cover_it(number: int) -> None:
    encoder = encoders()[number]
    again = rebuild(config_of(encoder)).eval()
    again.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        assert torch.equal(again(images()), encoder(images())) and encoder(images()).shape == (2, encoder.dim)
    grouped = [id(parameter) for group in encoder.layer_groups() for parameter in group]
    assert sorted(grouped) == sorted(id(parameter) for parameter in encoder.parameters())
    assert len(encoder.layer_groups()) > 4


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: ResNetEncoder("round", ONES), "choose basic or bottleneck, and four numbers"),
        (lambda: ResNetEncoder("basic", [1, 1]), "choose basic or bottleneck, and four numbers"),
        (lambda: ResNetEncoder("basic", ONES, width=0), "width=0"),
        (lambda: LayerNormResNet([1]), "give four numbers of blocks"),
        (lambda: LayerNormResNet(ONES, image_size=64), "image_size=64"),
        (lambda: encoders()[2](images(4)), "at least 8x8 pixels"),
        (lambda: encoders()[2].encoder(images(16)), "takes images of 8 pixels a side, got 16x16"),
        (lambda: encoders()[0](images(channels=1)), "3 channels, got images with 1"),
    ],
)
def test_a_wrong_argument_is_named(build: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build()


def test_the_last_activations_are_pooled_by_their_only_position() -> None:
    """CPC's network leaves 1x1 positions of patches of 8 pixels."""
    encoder = LayerNormResNet(ONES, image_size=8).eval()
    x = F.max_pool2d(F.relu(encoder.ln1(encoder.conv1(images(8).x))), 3, 2, 1)
    for stage in (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4):
        x = stage(x)
    assert x.shape == (2, 2048, 1, 1) and encoder.dim == 2048
