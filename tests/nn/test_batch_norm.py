"""Split BatchNorm is the network run on the parts one by one; everything else about the network
stays."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from ssl_lightning import View
from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.nn.batch_norm import split_batch_norm
from ssl_lightning.nn.ema import EMA
from ssl_lightning.run.checkpoints.encoder_file import save_encoder
from ssl_lightning.run.pretrained import load_encoder


def encoder(**changes: Any) -> ConvEncoder:
    torch.manual_seed(0)
    made = ConvEncoder(channels=1, width=4, depth=2).double()
    for module in made.modules():
        for name, value in changes.items():
            if isinstance(module, nn.BatchNorm2d):
                setattr(module, name, value)
    return made


def images(samples: int) -> View:
    generator = torch.Generator().manual_seed(samples)
    brightness = torch.arange(samples, dtype=torch.float64).view(-1, 1, 1, 1)  # so that parts have other statistics
    return View(torch.randn(samples, 1, 8, 8, generator=generator, dtype=torch.float64) + brightness)


def step(network: nn.Module, *views: View) -> tuple[Tensor, list[Tensor]]:
    """Features, and the gradient of a loss that looks at each of them."""
    features = torch.cat([network(view) for view in views])
    weights = torch.linspace(-1, 1, features.numel(), dtype=torch.float64).view_as(features)
    return features.detach(), list(torch.autograd.grad((features * weights).sum(), list(network.parameters())))


@pytest.mark.parametrize(
    ("samples", "parts", "sizes"), [(12, 3, [4, 4, 4]), (13, 4, [4, 3, 3, 3]), (5, 8, [3, 2]), (3, 8, [3])]
)
def test_features_and_gradients_are_those_of_the_parts_one_by_one(samples: int, parts: int, sizes: list[int]) -> None:
    """A part has at least two samples, so a small batch has fewer parts."""
    plain, split, view = encoder(), encoder(), images(samples)
    split_batch_norm(split, parts)
    assert_close(step(split, view), step(plain, *(View(x) for x in view.x.split(sizes))), rtol=1e-12, atol=1e-12)
    assert len(sizes) == 1 or not torch.allclose(split(view), plain(view), rtol=0.01), (
        "the whole batch would look otherwise"
    )


def test_running_statistics_move_about_as_far_as_with_the_whole_batch() -> None:
    plain, split = encoder(), encoder()
    split_batch_norm(split, 4)
    for number in range(64, 96):
        x = images(number).x
        view = View(x[torch.randperm(number, generator=torch.Generator().manual_seed(number))])
        plain(view), split(view)
    whole, parts = plain.stages[0][1], split.stages[0][1]
    assert_close(parts.running_mean, whole.running_mean, rtol=0.05, atol=0.01)
    assert_close(parts.running_var, whole.running_var, rtol=0.1, atol=0.01)
    assert parts.momentum == 0.1


def test_an_average_over_all_calls_is_one_over_all_parts() -> None:
    split = encoder(momentum=None)
    split_batch_norm(split, 2)
    view = images(8)
    split(view)
    assert_close(
        split.stages[0][1].running_mean, split.stages[0][0](view.x).mean(dim=(0, 2, 3)).detach(), rtol=1e-12, atol=1e-12
    )


def test_eval_mode_and_names_stay() -> None:
    plain, split, view = encoder().eval(), encoder().eval(), images(8)
    split_batch_norm(split, 4)
    assert torch.equal(split(view), plain(view))
    assert_close(split.state_dict(), plain.state_dict(), rtol=0, atol=0)
    plain.load_state_dict(split.state_dict())


def test_a_copy_is_split_too_and_the_last_split_counts() -> None:
    split, view = encoder(), images(12)
    split_batch_norm(split, 3)
    expected = split(view)
    for again in (copy.deepcopy(split), EMA(split).double().module, pickle.loads(pickle.dumps(split))):
        assert torch.equal(again(view), expected)
        split_batch_norm(again, 2)
        split_batch_norm(again, 3)
        assert torch.equal(again(view), expected)
        assert type(again.stages[0][1]) is type(split.stages[0][1])


def test_an_exported_encoder_is_a_plain_one(tmp_path: Path) -> None:
    split, view = encoder().float(), View(images(12).x.float())
    split_batch_norm(split, 3)
    split(view)
    save_encoder(split, tmp_path / "encoder.safetensors")
    loaded = load_encoder(tmp_path)
    assert torch.equal(loaded(view), split.eval()(view))
    assert {type(module) for module in loaded.modules()} == {type(module) for module in encoder().modules()}


@pytest.mark.parametrize("parts", [1, 0, -2])
def test_fewer_than_two_parts_are_refused(parts: int) -> None:
    with pytest.raises(ValueError, match=rf"split_batch_norm\(parts={parts}\) must be at least 2"):
        split_batch_norm(encoder(), parts)
